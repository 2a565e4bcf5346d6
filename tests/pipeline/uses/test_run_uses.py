"""The stage `use`: what it lists, where files and numbers go, what it refuses, and reports."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file

from pipeline.artifacts import origin as origins
from pipeline.core.errors import UserError
from pipeline.evaluation import baselines, experiment_evaluation, image_codecs
from pipeline.experiments import compose, params_file, schema
from pipeline.reporting import comparison, numbers, tables
from pipeline.uses import run_uses, use_context, use_records
from pipeline.uses.use_records import USES
from stages import use
from tests.places import ROOT
from tests.support import reports
from tests.support.uses import list_uses

QUICK = {"masks": ["lower"], "num_rows": 4, "num_shown": 2, "num_completions": 1}


def test_without_arguments_it_lists_uses_and_needs_no_torch(capsys, monkeypatch) -> None:
    monkeypatch.setattr("sys.argv", ["use"])
    use.main()
    said = capsys.readouterr().out
    assert all(f"  {name} " in said and of.needs in said for name, of in USES.items())
    code = """import atexit, sys
atexit.register(lambda: print("torch" in sys.modules))
from stages import use
use.main()"""
    for arguments in ([], ["--help"]):
        command = [sys.executable, "-c", code, *arguments]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
        assert done.returncode == 0 and "  inpainting " in done.stdout, done.stderr
        assert done.stdout.endswith("False\n")
    monkeypatch.setattr("sys.argv", ["use", "inpainting"])
    use.main()
    assert "  num_rows=100: random test images that are scored\n" in capsys.readouterr().out


def test_all_uses_of_an_entry(project: Path) -> None:
    list_uses(nade={"inpainting": QUICK})
    out = run_uses.run("all", "toy-nade")
    assert out == project / "evaluation/digits_binary/uses/toy-nade"
    record = use_records.read(out / "inpainting")
    assert record.settings["num_rows"] == 4 and record.model == "nade"
    metrics = json.loads(Path("metrics/uses/toy-nade.json").read_text())
    assert metrics == {"inpainting": {n.name: n.value for n in record.numbers}}

    def hashed() -> dict[Path, bytes]:  # by DVC: all but what .dvcignore leaves out
        files = (path for path in out.rglob("*") if path.is_file())
        return {path: path.read_bytes() for path in files if path.name != "timing.json"}

    before = hashed()
    run_uses.run("all", "toy-nade")
    assert before == hashed()
    origin = use_records.UseTiming.of(out / "inpainting")
    assert origin is not None and origin.seconds > 0 and origin.commit == origins.commit()
    assert origin.device == origins.device_name(torch.device("cpu"))


def test_a_use_that_fails_leaves_the_others_and_their_results(project: Path) -> None:
    list_uses(nade={"classes": {}, "inpainting": QUICK})
    with pytest.raises(UserError, match="^classes: toy-nade: expected a class-conditional model"):
        run_uses.run("all", "toy-nade")
    out = project / "evaluation/digits_binary/uses/toy-nade"
    assert [path.name for path in out.iterdir()] == ["inpainting"]
    assert use_records.read(out / "inpainting").settings["num_rows"] == 4
    assert not Path("metrics/uses/toy-nade.json").exists()
    list_uses(nade={"memorisation": {"num_samples": 2}})
    run_uses.run("all", "toy-nade")
    assert [path.name for path in out.iterdir()] == ["memorisation"]


def test_overrides_get_a_name_of_their_own(project: Path) -> None:
    list_uses(nade={"inpainting": QUICK})
    out = run_uses.run("inpainting", "toy-nade", ["num_rows=3"])
    assert out.parent.name == "toy-nade--num_rows-3"
    changed = use_records.read(out)
    assert changed.settings == changed.settings | QUICK | {"num_rows": 3}
    assert use_records.read_all("digits_binary", changed.dataset_sha256) == []
    own = run_uses.run("inpainting", "toy-nade")
    assert own.parent.name == "toy-nade" and use_records.read(own).settings["num_rows"] == 4


def test_kept_weights_serve_where_there_is_no_trained_model(project: Path) -> None:
    list_uses(nade={"inpainting": QUICK})
    first = use_records.read(run_uses.run("inpainting", "toy-nade"))
    experiment_evaluation.evaluate(compose.load("toy-nade", ["evaluation.num_test_rows=8"]))
    shutil.move("models/toy-nade", "results/toy-nade")
    Path("results/toy-nade/artifact.json").unlink()  # a record has none
    with pytest.raises(UserError, match="results/toy-nade/metrics.json: missing"):
        run_uses.run("inpainting", "toy-nade")
    (record,) = Path("evaluation").rglob("metrics.json")
    shutil.copy(record, "results/toy-nade")
    assert use_records.read(run_uses.run("inpainting", "toy-nade")) == first
    weights = Path("results/toy-nade/model.safetensors")
    tensors = load_file(weights)
    save_file({name: 5 * one for name, one in tensors.items()}, weights)
    with pytest.raises(UserError, match=r"toy-nade/model\.safetensors: expected the weights of"):
        run_uses.run("inpainting", "toy-nade")


@pytest.mark.parametrize(
    ("name", "model", "expected"),
    [
        ("classes", "nade", "a class-conditional model, got nade"),
        ("continuation", "nade", "a model of sounds, got one of Binary"),
        ("denoising", "pixelvae", "an exact model, got pixelvae"),
        ("features", "gated_pixelcnn", "an unconditional NADE or MADE, got gated_pixelcnn"),
        ("inpainting", "pixelvae", "an exact model, got pixelvae"),
        ("interpolation", "nade", "a vector-conditional model, or an unconditional one with la"),
        ("learned", "pixelvae", "a single exact model, or one with a dense first layer, got"),
        ("noise_levels", "nade", "a model with latents, got nade"),
        ("orderings", "nade", "a model with 128 orderings, got nade"),
        ("outliers", "gated_pixelcnn", "an unconditional model, got gated_pixelcnn"),
        ("structure", "gated_pixelcnn", "an unconditional model, got gated_pixelcnn"),
        ("super_resolution", "nade", "small images first in the order, got nade"),
        ("video_prediction", "nade", "a model of clips whose first frames are given, got one of"),
    ],
)
def test_models_that_a_use_is_not_for_are_refused(
    trained: Path, monkeypatch, tmp_path: Path, name: str, model: str, expected: str
) -> None:
    monkeypatch.chdir(trained)
    context = use_context.load(f"toy-{model}")
    with pytest.raises(UserError, match=f"^toy-{model}: expected {re.escape(expected)}"):
        run_uses.USE_TYPES[name]().run(context, tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("inpaint", "toy-nade"), "unknown use 'inpaint'; did you mean 'inpainting'"),
        (("inpainting", "models/toy-nade"), "experiment: expected a name of letters, digits,"),
        (("paired", "toy-nade", ["others=[/models/toy-nade]"]), "experiment: expected a name of"),
        (("inpainting", "toy"), "unknown experiment 'toy'; did you mean 'toy-nade'"),
        (("inpainting", "toy-nade", ["row=3"]), "unknown parameter of uses.toy-nade.uses.inp"),
        (
            ("inpainting", "toy-nade", ["num_rows=9999999999"]),
            "num_rows: expected at most 1,000,000",
        ),
        (("inpainting", "toy-nade", ["num_rows=0"]), "num_rows: expected an integer >= 1, got 0"),
        (("inpainting", "toy-nade", ["seed=-1"]), "seed: expected an integer in [0, 2^31), got -1"),
        (("features", "toy-nade", ["num_rows=0"]), "num_rows: expected an integer >= 1 or null"),
        (("inpainting", "toy-nade", ["masks=[up]"]), "unknown mask 'up'"),
        (("video_prediction", "toy-nade", ["num_shown=5"]), "num_shown: expected at most num_dr"),
        (("all", "toy-nade"), "uses.toy-nade: expected an entry of params.yaml with uses"),
    ],
)
def test_bad_input_is_one_line_and_writes_nothing(project: Path, arguments, message: str) -> None:
    with pytest.raises(UserError, match="^[^\n]*$") as raised:
        run_uses.run(*arguments)
    assert message in str(raised.value)
    assert not list(Path("evaluation").rglob("*.json"))


def test_entries_of_params_yaml_fit_their_experiments_and_settings(monkeypatch) -> None:
    monkeypatch.chdir(ROOT)
    params = params_file.read_params()
    assert {use for entry in params["uses"].values() for use in entry["uses"]} == set(USES)
    for name, entry in params["uses"].items():
        experiment = params["experiments"][name]
        assert (entry["dataset"], entry["model"]) == (experiment["dataset"], experiment["model"])
        for used, settings in entry["uses"].items():
            schema.build(run_uses.USE_TYPES[used], settings, used)


def test_other_data_are_refused(project: Path) -> None:
    config = Path("models/toy-nade/config.yaml")
    content = yaml.safe_load(config.read_text())
    config.write_text(yaml.safe_dump(content | {"dataset_sha256": "0" * 64}))
    with pytest.raises(UserError, match=r"config\.yaml: expected the file that was written"):
        run_uses.run("inpainting", "toy-nade")
    config.with_name("artifact.json").unlink()  # as an older version left it
    with pytest.raises(UserError, match="for toy-nade: expected the data that it was trained on"):
        run_uses.run("inpainting", "toy-nade")


def test_the_report_shows_uses_of_all_models_side_by_side(project: Path, monkeypatch) -> None:
    png = {"png": image_codecs.CODECS["png"]}
    monkeypatch.setattr(image_codecs, "CODECS", png)
    for name in ("toy-nade", "toy-gated_pixelcnn"):
        experiment_evaluation.evaluate(compose.load(name))
    baselines.write("digits_binary")
    assert "Uses" not in reports.page(comparison.build_report("digits_binary"))
    list_uses(nade={"inpainting": QUICK}, gated_pixelcnn={"inpainting": QUICK})
    for name in ("toy-nade", "toy-gated_pixelcnn"):
        out = run_uses.run("all", name)
    report = comparison.build_report("digits_binary")
    page, used = reports.page(report), numbers.used(numbers.numbers(report), "inpainting")
    section = page.split('<h2 id="uses">')[1].split("</section>")[0]
    number = use_records.read(out / "inpainting").numbers[0]
    first = used[used["experiment"] == out.name].iloc[0]
    assert (first["quantity"], first["value"]) == (number.name, number.value)
    assert tables.number_text(first) in section and number.unit in section
    assert section.count("data:image/png") == 2
    assert "The lower half is missing (orange); drawn from the exact posterior." in section
    assert "toy-<wbr>gated_<wbr>pixelcnn: -ln p(missing | observed)" in section
    assert section.count("The model is conditioned on the class of each image.") == 1
    assert section.count('<th scope="col">toy-') == 2
    weights = Path("models/toy-nade/model.safetensors")
    weights.write_bytes(Path("models/toy-made/model.safetensors").read_bytes())
    sha256 = use_records.read(out / "inpainting").dataset_sha256
    left = use_records.read_all("digits_binary", sha256)
    assert [record.experiment for record, _ in left] == ["toy-gated_pixelcnn"]


def test_an_altered_result_is_refused(project: Path) -> None:
    out = run_uses.run("structure", "toy-nade", ["num_samples=8", "near=1", "far=5"])
    record = use_records.read(out)
    path = out / "use.json"
    path.write_text(path.read_text().replace('"value": ', '"value": 1'))
    with pytest.raises(UserError, match="use.json: expected the file that was written"):
        use_records.read(out)
    assert record.numbers[0].value != 0
