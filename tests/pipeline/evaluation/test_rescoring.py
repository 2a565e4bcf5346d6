"""Kept weights score what was recorded, or it is said that they do not."""

import json
import shutil
from pathlib import Path

import pytest

import arcore
from pipeline.core.errors import UserError
from pipeline.evaluation import experiment_evaluation, rescoring
from pipeline.evaluation.result_records import Score
from pipeline.experiments import compose
from pipeline.training import driver
from reproductions.publishing import recording
from stages import rescore

ENTRY = {
    "dataset": "digits_binary",
    "model": "made",
    "model_overrides": {"hidden": [16], "num_masks": 2},
    "trainer": {"max_epochs": 1},
    "evaluation": {"num_members": 2, "num_test_rows": 100, "num_samples": 4},
}


@pytest.fixture(scope="module")
def recorded(make_project) -> Path:
    folder = make_project({"toy": ENTRY}).folder
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder}/mlflow.db")
        config = compose.load("toy")
        driver.train(config)
        experiment_evaluation.evaluate(config)
        recording.record_experiment("toy")
        shutil.rmtree("models")
    return folder


@pytest.fixture
def project(recorded: Path, workdir: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(shutil.copytree(recorded, workdir / "project"))
    return Path.cwd()


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> None:
    monkeypatch.setattr("sys.argv", ["rescore", *arguments])
    rescore.main()


def test_the_number_comes_out(project: Path, monkeypatch, capsys) -> None:
    run(monkeypatch)
    assert capsys.readouterr().out == "toy\n"
    run(monkeypatch, "--all")
    said = capsys.readouterr().out
    nats = json.loads(Path("results/toy/metrics.json").read_text())["nats"]
    assert said.startswith(f"toy: recorded {nats:.2f} ± ") and said.endswith("(+0.0e+00)\n")


def test_numbers_on_both_sides_of_a_printed_digit_are_the_same(monkeypatch, capsys) -> None:
    event = arcore.events.Binary((4,))
    then = Score.from_nats(86.154999, 0.2, event)

    def rescored(apart: float, error: float = 0.2) -> None:
        now = Score.from_nats(86.154999 + apart, error, event)
        found = rescoring.Rescored("test", True, then, now)
        monkeypatch.setattr(rescoring, "rescore", lambda name: [found])
        run(monkeypatch, "toy")

    rescored(2e-6, 0.2 + 2e-5)
    assert "recorded 86.15 ± 0.20, now 86.16 ± 0.20 nats (+2.0e-06)" in capsys.readouterr().out
    for apart, error in ((2e-4, 0.2), (0.0, 0.2 + 2e-4)):
        with pytest.raises(UserError, match="other numbers than recorded: toy"):
            rescored(apart, error)


def test_further_splits_are_scored_too(project: Path, monkeypatch, capsys) -> None:
    path = Path("results/toy/metrics.json")
    metrics = json.loads(path.read_text())
    further = {"split": "valid", "num_rows": 100, "num_split_rows": 270}
    further |= {name: metrics[name] for name in ("nats", "nats_stderr", "bits_per_dim")}
    further["bits_per_dim_stderr"] = metrics["bits_per_dim_stderr"]
    path.write_text(json.dumps(metrics | {"further_tests": [further]}))
    with pytest.raises(UserError, match="other numbers than recorded: toy, valid$"):
        run(monkeypatch, "toy")
    now = rescoring.rescore("toy")[1].now
    path.write_text(json.dumps(metrics | {"further_tests": [further | now.to_dict()]}))
    run(monkeypatch, "toy")
    assert "toy, valid: recorded" in capsys.readouterr().out
    path.write_text(json.dumps(metrics | {"further_tests": [further | {"num_rows": 99}]}))
    with pytest.raises(UserError, match="expected 99 rows of valid, got 100"):
        run(monkeypatch, "toy")


def test_other_weights_other_data_and_none_are_refused(project: Path, monkeypatch) -> None:
    config = Path("results/toy/config.yaml")
    text = config.read_text()
    config.write_text(text.replace("dataset_sha256: ", "dataset_sha256: 0"))
    with pytest.raises(
        UserError, match=r"digits_binary: expected the data that it was trained on \(0"
    ):
        run(monkeypatch, "toy")
    config.write_text(text)
    metrics = Path("results/toy/metrics.json")
    record = json.loads(metrics.read_text())
    for count, message in (
        (0, "num_members: expected an integer >= 1"),
        (5, "expected at most 2 for MADE"),
    ):
        metrics.write_text(json.dumps(record | {"num_members": count}))
        with pytest.raises(UserError, match=message):
            run(monkeypatch, "toy")
    metrics.write_text(json.dumps(record))
    weights = Path("results/toy/model.safetensors")
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    with pytest.raises(UserError, match="expected the weights of the record"):
        run(monkeypatch, "toy")
    weights.unlink()
    with pytest.raises(UserError, match="no weights are kept; run python -m stages.train toy"):
        run(monkeypatch, "toy")
    shutil.rmtree("results/toy")
    with pytest.raises(UserError, match="results/toy/metrics.json: missing; run"):
        run(monkeypatch, "toy")


def test_a_record_that_cannot_be_scored_stops_no_other(project: Path, monkeypatch, capsys) -> None:
    for name in ("another", "toy-folds"):
        shutil.copytree("results/toy", Path("results") / name)
        Path("results", name, "metrics.json").unlink()
    metrics = json.loads(Path("results/toy/metrics.json").read_text())
    metrics["nats"] += 0.02
    Path("results/toy/metrics.json").write_text(json.dumps(metrics))
    with pytest.raises(UserError) as caught:
        run(monkeypatch, "--all")
    assert capsys.readouterr().out.startswith("toy: recorded ")
    message = str(caught.value)
    assert message.startswith("unknown experiment 'another'")
    assert "results/toy-folds/metrics.json: missing" in message
    assert message.endswith("; other numbers than recorded: toy")
