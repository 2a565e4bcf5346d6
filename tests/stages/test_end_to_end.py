"""The real dvc.yaml with the embedded data in a Git and DVC repository of its own."""

import csv
import json
import math
import re
import shutil
import sys
from pathlib import Path

import mlflow
import pytest
import yaml

from pipeline.data import shard_reader
from pipeline.tracking import mlflow_store
from tests.places import ROOT
from tests.support.checkouts import commit, git
from tests.support.projects import Project
from tests.support.sources import copy_code

pytestmark = pytest.mark.e2e
PARAMS = {  # with what differs from the defaults alone
    "datasets": ["digits_binary"],
    "experiments": {
        "tiny-made": {
            "dataset": "digits_binary",
            "model": "made",
            "model_overrides": {"hidden": [32], "num_masks": 2},
            "trainer": {"max_epochs": 3},
            "evaluation": {"num_members": 2, "num_samples": 9},
        },
        "tuned-made": {
            "dataset": "digits_binary",
            "model": "made",
            "base": "searches/tiny/best.yaml",
            "evaluation": {"num_members": None, "num_samples": 9},
        },
    },
    "searches": {
        "tiny": {
            "dataset": "digits_binary",
            "model": "made",
            "model_overrides": {"hidden": [32]},
            "trainer": {"max_epochs": 4, "validate_members": None},
            "space": {
                "model.ordering": {"choice": ["raster", "spiral"]},
                "model.num_masks": {"choice": [1, 2]},
                "trainer.optimizer.learning_rate": {"loguniform": [0.0003, 0.01]},
            },
            "num_trials": 4,
            "scheduler": {"grace_epochs": 1, "reduction_factor": 2},
        },
    },
}
UNIFORM = 64 * math.log(2)


SEVERAL = """
import json, sys
from dvc.cli import main
for arguments in json.loads(sys.argv[1]):
    if status := main(arguments):
        sys.exit(status)
    print("-- end --", flush=True)
"""


def dvc_each(project, *commands: str) -> list[str]:
    """Run commands of DVC's, which starts slowly, in one process; return the stdout of each."""
    command = (sys.executable, "-c", SEVERAL, json.dumps([each.split() for each in commands]))
    done = project.run(*command, timeout=500)
    assert done.returncode == 0, done.stdout + done.stderr
    *said, rest = done.stdout.split("-- end --\n")
    assert len(said) == len(commands) and rest == ""
    return said


def repro(project) -> set[str]:
    """Bring all up to date as `make repro` does; return what ran."""
    targets = [f"{kind}@digits_binary" for kind in ("report", "register")]
    done = project.stage("repro", *targets)
    assert done.returncode == 0, done.stdout + done.stderr
    lines = re.findall(r"^\[ *\d+/\d+\] (\w+) (\S*) +[\d.]+ s$", done.stdout, re.MULTILINE)
    return {f"{kind}@{item}" if item else kind for kind, item in lines}


def ran(output: str) -> set[str]:
    lines = [line for line in output.splitlines() if line.startswith("Running stage '")]
    return {line.split("'")[1] for line in lines}


@pytest.fixture(scope="module")
def repository(make_project):
    """A clone's tracked files with another params.yaml, after `make repro`."""
    project = make_project({}, warmed=False)
    folder = project.folder
    copy_code(folder)
    for name in ("dvc.yaml", ".gitignore", ".dvcignore"):
        shutil.copy(ROOT / name, folder)
    (folder / "params.yaml").write_text(yaml.safe_dump(PARAMS, sort_keys=False))
    project.code = folder
    git(folder, "init", "--quiet")
    for name in (".gitignore", "config", "plots/curves.json"):
        (folder / ".dvc" / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / ".dvc" / name, folder / ".dvc" / name)
    commit(folder)
    shutil.rmtree(folder / "data")
    project.first = repro(project)
    commit(folder)
    return project


@pytest.fixture(scope="module")
def again(repository, tmp_path_factory, warm):
    project = repository.copied_to(tmp_path_factory.mktemp("again") / "project")
    project.warm = warm
    return project


def test_every_stage_ran_once(repository) -> None:
    assert repository.first == {
        "code",
        "fetch@digits_binary", "preprocess@digits_binary", "codecs@digits_binary",
        "tune@tiny", "train@tiny-made", "train@tuned-made",
        "evaluate@tiny-made", "evaluate@tuned-made",
        "report@digits_binary", "register@digits_binary",
    }  # fmt: skip
    assert "dvc.lock" in {path.name for path in repository.folder.iterdir()}
    for kind in ("train", "tune"):
        assert not list((repository.folder / ".arcore" / kind).glob("[!.]*"))


def test_a_search_leaves_its_trials_and_the_best(repository) -> None:
    folder = repository.folder / "searches/tiny"
    rows = repository.rows("searches/tiny/trials.csv")
    assert [row["trial"] for row in rows] == [str(number) for number in range(1, 5)]
    assert {row["status"] for row in rows} == {"finished", "stopped"}, "ASHA stops some"
    assert rows[0]["model.ordering"] == "raster" and rows[0]["model.num_masks"] == "1"
    assert float(rows[0]["trainer.optimizer.learning_rate"]) == 0.001, "first the entry itself"
    best = min(rows, key=lambda row: float(row["best_valid_nats"]))
    record = repository.json("searches/tiny/search.json")
    assert record["best_trial"] == int(best["trial"]) and record["trials"] == 4
    assert record["best_valid_nats"] == pytest.approx(float(best["best_valid_nats"]), abs=1e-6)
    assert record["finished"] + record["stopped"] == 4 and record["default_trial"] == 1
    found = yaml.safe_load((folder / "best.yaml").read_text())
    assert found["model"]["ordering"] == best["model.ordering"]
    importance = repository.rows("searches/tiny/importance.csv")
    shares = [float(row["importance"]) for row in importance]
    assert 0 < sum(shares) < 1 + 1e-3, "the rest is of several together"
    assert {path.suffix for path in folder.iterdir()} == {".csv", ".html", ".json", ".yaml"}


def test_an_experiment_trains_what_the_search_found(repository) -> None:
    """With the same epochs and one thread it even ends where the best trial did."""
    record = repository.json("searches/tiny/search.json")
    found = yaml.safe_load((repository.folder / "searches/tiny/best.yaml").read_text())
    config = yaml.safe_load((repository.folder / "models/tuned-made/config.yaml").read_text())
    assert config["model"] == config["model"] | found["model"]
    rate = found["trainer"]["optimizer"]["learning_rate"]
    assert config["trainer"]["optimizer"]["learning_rate"] == rate
    metrics = repository.json("evaluation/digits_binary/tuned-made/metrics.json")
    assert metrics["num_members"] == found["model"]["num_masks"]
    assert metrics["valid_nats"] <= record["best_valid_nats"] + 1e-3
    table = (repository.folder / "reports/digits_binary/table.md").read_text()
    assert "tuned-made" in table


def test_trials_are_nested_under_one_run(repository) -> None:
    record = repository.json("searches/tiny/search.json")
    runs = repository.runs()
    (parent,) = [run for run in runs if run.info.run_id == record["run_id"]]
    assert parent.info.status == "FINISHED"
    children = [r for r in runs if r.data.tags.get("mlflow.parentRunId") == record["run_id"]]
    assert sorted(int(child.data.tags["trial"]) for child in children) == list(range(1, 5))
    rows = {int(row["trial"]): row for row in repository.rows("searches/tiny/trials.csv")}
    store = mlflow_store.client(f"sqlite:///{repository.folder}/mlflow.db")
    for child in children:
        row = rows[int(child.data.tags["trial"])]
        assert child.info.status == "FINISHED"
        assert child.data.params["model.ordering"] == row["model.ordering"]
        history = store.get_metric_history(child.info.run_id, "curves/best_valid_nats")
        assert [metric.step for metric in history] == list(range(1, int(row["epochs"]) + 1))
        assert history[-1].value == pytest.approx(float(row["best_valid_nats"]), abs=1e-6)
    artifacts = {item.path for item in store.list_artifacts(record["run_id"])}
    assert {"trials.csv", "best.yaml", "curves.csv"} <= artifacts


def test_report(repository) -> None:
    folder = repository.folder / "reports/digits_binary"
    table = (folder / "table.md").read_text()
    assert "tuned-made" in table and "tiny-made" in table and "ensemble of 2" in table
    assert "PNG (Pillow, measured here)" in table and "zstd (pyarrow, measured here)" in table
    page = (folder / "report.html").read_text()
    assert "ensemble of 2" in page and "data:image/" in page
    addresses = re.findall(r'(?:src|srcset)="(?!data:)([^"]*)"', page)
    assert addresses == ["plotly.min.js"] and (folder / addresses[0]).is_file()


def test_mlflow_holds_everything(repository) -> None:
    store = mlflow_store.client(f"sqlite:///{repository.folder}/mlflow.db")
    searched = ("tune tiny", "tiny trial")
    trained = [run for run in repository.runs() if not run.info.run_name.startswith(searched)]
    runs = {run.info.run_name: run for run in trained}
    assert set(runs) == {"tiny-made", "tuned-made"} and len(trained) == 2
    for name, run in runs.items():
        metrics = repository.json(f"evaluation/digits_binary/{name}/metrics.json")
        assert run.info.status == "FINISHED"
        epochs = 4 if name == "tuned-made" else 3
        assert run.data.params["trainer.max_epochs"] == str(epochs)
        assert run.data.metrics["test_nats"] == pytest.approx(metrics["nats"])
        assert 0 < metrics["nats"] < UNIFORM and metrics["num_rows"] == 360
        curve = store.get_metric_history(run.info.run_id, "curves/valid_nats")
        assert [point.step for point in curve] == list(range(1, epochs + 1))
        files = {file.path for file in store.list_artifacts(run.info.run_id)}
        assert {"samples.png", "metrics.json"} <= files


def test_the_champion_scores_as_it_was_evaluated(repository, monkeypatch) -> None:
    registered = repository.json("registry/digits_binary/registration.json")
    assert set(registered["experiments"]) == {"tiny-made", "tuned-made"}
    champion = registered["champions"]["arcore-digits-binary"]["experiment"]
    metrics = repository.json(f"evaluation/digits_binary/{champion}/metrics.json")
    test = shard_reader.read_split(repository.folder / "data/shards/digits_binary", "test").x
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{repository.folder}/mlflow.db")
    model = mlflow.pyfunc.load_model("models:/arcore-digits-binary@champion")
    scores = model.predict(test)
    for unit in ("nats", "bits_per_dim"):
        assert scores[unit].mean() == pytest.approx(metrics[unit], rel=1e-5)


TABLES = (
    "metrics show --precision 4",
    "metrics diff --precision 4",
    "exp diff --precision 4",
    "exp show --only-changed --no-pager --md --drop (?!Exp|exp|searches|metrics.*value).*",
)


def fit(lines: list[str]) -> bool:
    return max([0, *(len(line.rstrip()) for line in lines)]) <= 120


def test_what_dvc_shows(repository, tmp_path) -> None:
    page = (ROOT / "docs" / "pipeline.md").read_text().replace("'", "")
    plots = f"plots show --out {tmp_path}"
    *tables, metrics, status, _ = dvc_each(
        repository, *TABLES, "metrics show --json", "status", plots
    )
    for command, said in zip(TABLES, tables, strict=True):
        assert f"dvc {command}" in page
        assert fit(said.splitlines()), said
    assert tables[0].splitlines()[0].split() == ["Path", "relation", "stderr", "unit", "value"]
    assert status == "Data and pipelines are up to date.\n"
    files = json.loads(metrics)[""]["data"]
    assert set(files) == {
        f"metrics/{name}.json" for name in ("searches/tiny", "tiny-made", "tuned-made")
    }
    plots = (tmp_path / "index.html").read_text()
    assert plots.count('"title": "curves/digits_binary.csv"') == 1, "one plot for the dataset"
    assert all(f'"experiment": "{name}"' in plots for name in ("tuned-made", "tiny-made"))


def test_a_clone_goes_on_with_what_was_pushed(repository, tmp_path: Path) -> None:
    """As docs/pipeline.md has it, with a folder as the remote."""
    target = "--with-deps evaluate@tiny-made"
    pushing = repository.copied_to(tmp_path / "pushing")
    dvc_each(pushing, f"remote add --default store {tmp_path / 'store'}", f"push {target}")
    commit(pushing.folder)
    git(tmp_path, "clone", "--quiet", str(pushing.folder), "clone")
    clone = Project(tmp_path / "clone", code=tmp_path / "clone")
    _, repeated, status = dvc_each(
        clone, f"pull {target}", "repro evaluate@tiny-made", f"status {target}"
    )
    assert ran(repeated) == set() and status == "Data and pipelines are up to date.\n"
    assert (clone.folder / "models/tiny-made/model.safetensors").is_file()


def test_only_what_has_changed_runs(again) -> None:
    """In order: nothing; a training that is asked for; another training, as a DVC experiment.

    Seconds, devices and run ids are in no file that DVC hashes.
    """
    lock = (again.folder / "dvc.lock").read_text()
    before = again.json("models/tiny-made/training.json")
    stages = ("train@tiny-made", "evaluate@tiny-made", "report@digits_binary")
    force = f"repro --force --single-item {' '.join(stages)}"
    nothing, forced = dvc_each(again, "repro", force)
    assert ran(nothing) == set() and ran(forced) == set(stages)
    assert again.json("models/tiny-made/training.json") != before
    assert (again.folder / "dvc.lock").read_text() == lock
    assert again.run("git", "status", "--porcelain").stdout == ""

    def trainings() -> int:
        return sum(run.info.run_name == "tiny-made" for run in again.runs())

    number = trainings()
    change = "exp run --name longer -S experiments.tiny-made.trainer.max_epochs=4"
    output, listed, *tables = dvc_each(again, change, "exp show --csv", *TABLES)
    # "code" reads params.yaml, in a second
    assert ran(output) == {*stages, "register@digits_binary", "code"}
    assert again.json("models/tiny-made/training.json")["epochs"] == 4
    (row,) = [r for r in csv.DictReader(listed.splitlines()) if r["Experiment"] == "longer"]
    assert row["experiments.tiny-made.trainer.max_epochs"] == "4"
    assert float(row["metrics/tiny-made.json:value"]) > 0
    for lines in (table.splitlines() for table in tables):
        assert len(lines) >= 3 and fit(lines) and "…" not in "".join(lines), lines
    assert trainings() == number + 1, "the longer training is a run of its own"
