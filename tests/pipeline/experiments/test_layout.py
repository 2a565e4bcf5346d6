"""params.yaml is as DVC writes it, every parameter can be set, and folders may have their own."""

import difflib
import itertools
import json
import re
import shutil
from pathlib import Path

import pytest
import yaml
from dvc.utils.hydra import apply_overrides

import arcore
from pipeline.core.records import flat
from pipeline.experiments import compose, layout, params_file
from reproductions import reproduce
from stages import params
from tests.places import ROOT
from tests.support.refusals import refused

TEXT = (ROOT / "params.yaml").read_text()
SECTIONS = {"model": "model_overrides", "trainer": "trainer", "evaluation": "evaluation"}
HOURS = (ROOT / "reproductions" / "params.yaml").read_text()


@pytest.mark.parametrize("text", [TEXT, HOURS])
def test_the_file_is_as_dvc_writes_it(text: str) -> None:
    assert layout.completed(text) == text
    assert max(map(len, text.splitlines())) <= 120
    experiments = yaml.safe_load(text)["experiments"]
    known = {"dataset", "model", "base", *layout.EXPERIMENT}
    assert len(experiments) >= 20 and all(known >= set(entry) for entry in experiments.values())


@pytest.mark.parametrize("folder", [ROOT, ROOT / "reproductions"])
def test_dvc_takes_each_entry_with_its_base_and_members(folder: Path) -> None:
    text = (folder / "params.yaml").read_text()
    assert (folder / "foreach.yaml").read_text() == layout.foreach_of(text)
    params, taken = yaml.safe_load(text), yaml.safe_load(layout.foreach_of(text))
    for section in layout.WITH_BASE:
        found = [{**params[section][name], **taken[section].get(name, {})}["base"]
                 for name in params.get(section) or {}]  # fmt: skip
        made = ("searches/", "models/")  # models/: the weights that a training starts from
        assert all((ROOT / base).is_file() or base.startswith(made) for base in found)
    members = [m for entry in params["mixtures"].values() for m in entry["mixture"]]
    assert [row["experiment"] for row in taken["joins"].values()] == members


def test_the_hours_have_the_stages_of_dvc_yaml(workdir: Path, monkeypatch, capsys) -> None:
    """While DVC runs them, and no longer than the last of several such runs."""
    shutil.copy(ROOT / "dvc.yaml", workdir)
    (workdir / "reproductions").mkdir()
    seen = []

    def dvc(arguments: list[str]) -> int:
        seen.append((arguments, yaml.safe_load(reproduce.FILE.read_text())))
        if arguments[-1] != str(reproduce.FILE):
            with pytest.raises(SystemExit, match="0"):
                run()
            assert reproduce.FILE.is_file(), "needed by the outer run"
        return 0

    def run(*arguments: str) -> None:
        monkeypatch.setattr("sys.argv", ["reproduce", *arguments])
        reproduce.main()

    monkeypatch.setattr("dvc.cli.main", dvc)
    with pytest.raises(SystemExit, match="0"):
        run("--dry", "join@a")
    assert not reproduce.FILE.exists()
    (outer, content), (inner, _) = seen
    assert outer == ["repro", "--dry", "reproductions/dvc.yaml:join@a"]
    assert inner == ["repro", "reproductions/dvc.yaml"]
    stages = content["stages"]
    assert all(stage["do"]["wdir"] == ".." for stage in stages.values()) and "code" not in stages
    assert stages["use"]["do"]["params"][0] == {"reproductions/params.yaml": ["uses.${key}"]}
    assert {"reproductions/foreach.yaml": ["joins.${key}"]} in stages["join"]["do"]["params"]


def test_a_plain_repro_is_the_embedded_job() -> None:
    makefile = (ROOT / "Makefile").read_text()
    embedded = makefile.partition("EMBEDDED := ")[2].splitlines()[0].split()
    params = yaml.safe_load(TEXT)
    assert params["datasets"] == sorted(embedded, key=params["datasets"].index)
    sections = [params[section].values() for section in ("experiments", "searches", "uses")]
    assert {entry["dataset"] for section in sections for entry in section} == set(embedded)


def test_entries_of_a_folder_are_read_with_the_others(workdir: Path) -> None:
    entry = {"dataset": "digits_binary", "model": "made"}
    (workdir / "local").mkdir()
    mine, local = workdir / "params.yaml", workdir / "local" / "params.yaml"
    mine.write_text(yaml.safe_dump({"datasets": ["digits"], "experiments": {"toy": entry}}))
    local.write_text(yaml.safe_dump({"datasets": ["dna"], "experiments": {"other": entry}}))
    merged = params_file.read_params()
    assert merged["datasets"] == ["digits", "dna"]
    assert set(merged["experiments"]) == {"toy", "other"}
    assert compose.load("other").name == "other"
    commands = [params_file.repro_command("train", name) for name in ("toy", "other")]
    assert commands == ["dvc repro train@toy", "dvc repro local/dvc.yaml:train@other"]
    local.write_text(yaml.safe_dump({"experiments": {"toy": entry}}))
    with refused("local/params.yaml: experiments: expected names that"):
        params_file.read_params()


def test_a_dataset_of_the_users_own_changes_nothing_of_the_project(workdir: Path) -> None:
    for name in ("dvc.yaml", "params.yaml"):
        (workdir / name).write_text((ROOT / name).read_text())
    (workdir / "local/dataset").mkdir(parents=True)
    (workdir / "local/dataset/mine.yaml").write_text("kind: text")
    entries = {name: {"dataset": name, "model": "made"} for name in ("mine", "digits")}
    local = workdir / "local/params.yaml"
    local.write_text(yaml.safe_dump({"datasets": ["mine"], "experiments": entries}))
    files = {"mine": "local/dataset/mine.yaml", "digits": "pipeline/conf/dataset/digits.yaml"}
    (workdir / "pipeline/conf/dataset").mkdir(parents=True)
    (workdir / files["digits"]).write_text("name: digits")
    layout.complete(Path("local/params.yaml"))
    foreach = yaml.safe_load((workdir / "local/foreach.yaml").read_text())
    assert {name: one["conf"] for name, one in foreach["experiments"].items()} == files
    assert foreach["described"] == {"mine": {"conf": files["mine"]}}
    written = (workdir / "local/dvc.yaml").read_text()
    stages = yaml.safe_load(written)["stages"]
    assert "pipeline/conf/dataset" not in written and "${item}" not in written
    assert {"local/dataset", "local/params.yaml", "pipeline"} < set(stages["code"]["deps"])
    assert stages["code"]["outs"] == [{"local/code.yaml": {"cache": False, "persist": True}}]
    params = [one for stage in stages.values() for one in stage.get("do", {}).get("params", [])]
    assert {name for one in params for name in one} == {
        "local/params.yaml",
        "local/foreach.yaml",
        "local/code.yaml",
    }


@pytest.mark.parametrize(
    "change",
    [
        "experiments.digits-nade.trainer.max_epochs=5",
        "experiments.digits-pixelcnn.trainer.optimizer.learning_rate=0.5",
        "+experiments.digits-nade.trainer.clip_norm=1.0",
        "searches.digits-made.num_trials=3",
    ],
)
def test_setting_a_value_changes_its_lines_alone(tmp_path: Path, change: str) -> None:
    """By the function of `dvc exp run -S`."""
    path = tmp_path / "params.yaml"
    path.write_text(TEXT)
    apply_overrides(path, [change])
    lines = difflib.unified_diff(TEXT.splitlines(), path.read_text().splitlines(), n=0)
    changed = [line[0] for line in lines if line[0] in "+-" and line[:3] not in ("---", "+++")]
    assert changed == (["+"] if change.startswith("+") else ["-", "+"])


@pytest.mark.parametrize("model", arcore.list_models())
def test_every_parameter_can_be_set_by_dvc(toy, model: str) -> None:
    """Each leaf, to the value that it has."""
    before = toy(model=model)
    plain = before.to_dict()
    given = [
        f"++experiments.toy.{entry}.{key}={json.dumps(value)}"
        for section, entry in SECTIONS.items()
        for key, value in flat(plain[section]).items()
        if key != "name"
    ]
    assert len(given) > 35
    apply_overrides("params.yaml", given)
    assert compose.load("toy") == before


def test_comments_stay_beside_lists() -> None:
    text = """\
datasets:
  # first
- digits
  # why
- mnist
  # after the list
experiments:
  a:
    dataset: digits
    model_overrides:
      hidden: [1, 2]  # of a flow
    trainer:
      betas: [
        0.5,  # inside a flow
      ]
  # next
  b: {dataset: mnist}
"""
    done = layout.completed(text)
    comments = [f"# {c}" for c in ("first", "why", "after the list", "of a flow", "inside a flow",
                                   "next")]  # fmt: skip
    assert [line[line.index("#") :] for line in done.splitlines() if "#" in line] == comments
    assert layout.completed(done) == done
    kept = yaml.safe_load(text)
    needed = {"model_overrides": {}, "trainer": {}, "evaluation": {}}
    for name, entry in kept["experiments"].items():
        kept["experiments"][name] = needed | entry
    assert yaml.safe_load(done) == kept


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("experiments: [", "params.yaml: not valid: "),
        ("a: 1\na: 2\n", "params.yaml: not valid: .*duplicate key"),
        ("", "params.yaml: expected a mapping, got None"),
        ("[1, 2]", "params.yaml: expected a mapping, got"),
        ("experiments: [a]", "experiments: expected a mapping, got"),
        ("mixtures: [a]", "mixtures: expected a mapping, got"),
        ("searches: {a: 3}", "searches.a: expected a mapping, got 3"),
        ("folds: {a: }", "folds.a: expected a mapping, got None"),
    ],
)
def test_a_broken_file_is_one_line(text: str, message: str) -> None:
    with refused(f"^{message}"):
        layout.completed(text)


def test_the_command_line_completes_a_file_once(workdir, monkeypatch, caplog) -> None:
    monkeypatch.setattr("sys.argv", ["params"])
    with refused(r"params\.yaml: expected a file in .*, found none"):
        params.main()
    path = workdir / "params.yaml"
    bomb = "a: &a [0,0,0,0,0,0,0,0,0]\n" + "".join(
        f"{name}: &{name} [{','.join([f'*{before}'] * 9)}]\n"
        for before, name in itertools.pairwise("abcdefgh")
    )
    for content, expected in (
        (b"experiments: \xff", "expected YAML, got 'utf-8' codec"),
        (bomb.encode(), "expected YAML, got more than 100,000 values"),
        (b"a: " + b"[" * 900 + b"]" * 900, "expected YAML, got "),
        (b"# a comment\n" * 400_000, "expected at most 4,194,304 bytes, got '4,800,000'"),
    ):
        path.write_bytes(content)
        with refused(rf"params\.yaml: {expected}"):
            params.main()
    said_nothing = r"    (model_overrides|trainer): \{\}\n"
    path.write_text(re.sub(said_nothing, "", TEXT))
    with caplog.at_level("INFO"):
        params.main()
        assert path.read_text() == TEXT
        params.main()
    assert [record.getMessage() for record in caplog.records] == [
        "params.yaml: completed",
        "params.yaml: as it was",
    ]
    assert path.read_text() == TEXT
