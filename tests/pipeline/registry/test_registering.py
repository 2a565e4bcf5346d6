"""Registering where something is amiss: one fails, models are gone, another registry is set."""

import dataclasses
import json
import os
import shutil
from pathlib import Path
from typing import Any

import mlflow
import pytest
from mlflow.exceptions import MlflowException

from arcore.events import Real
from pipeline.core.atomic import sha256_of
from pipeline.core.errors import UserError
from pipeline.registry import candidates, registration, training_runs
from pipeline.tracking import mlflow_store
from tests.support.refusals import raising
from tests.support.registered import experiment


def test_a_model_that_was_trained_anew_meanwhile_is_not_registered(home, monkeypatch) -> None:
    rebuild = registration.training_runs.rebuild

    def late(*given: Any) -> str:
        experiment("toy-nade", "nade", valid_nats=9.0, hidden=3)
        return rebuild(*given)

    experiment("toy-nade", "nade", valid_nats=9.0)
    monkeypatch.setattr(registration.training_runs, "rebuild", late)
    with pytest.raises(UserError, match="^toy-nade: trained again meanwhile; run this again$"):
        registration.register_dataset("toy")
    store = mlflow_store.client()
    where = store.get_experiment_by_name("arcore-toy").experiment_id
    assert list(store.search_model_versions("name = 'arcore-toy'")) == []
    assert list(store.search_logged_models([where])) == []


def test_weights_that_replace_the_evaluated_ones_get_no_numbers_of_those(home, monkeypatch) -> None:
    read_results = candidates.read_results

    def late(dataset: str) -> Any:
        found = read_results(dataset)
        experiment("toy-nade", "nade", valid_nats=9.0, hidden=3)
        return found

    experiment("toy-nade", "nade", valid_nats=9.0)
    metrics = Path("evaluation/toy/toy-nade/metrics.json")
    evaluated = {"weights_sha256": sha256_of(Path("models/toy-nade/model.safetensors"))}
    metrics.write_text(json.dumps(json.loads(metrics.read_text()) | evaluated))
    monkeypatch.setattr(candidates, "read_results", late)
    with pytest.raises(UserError, match="expected the weights that were evaluated"):
        registration.register_dataset("toy")
    store = mlflow_store.client()
    assert list(store.search_model_versions("name = 'arcore-toy'")) == []
    assert store.get_experiment_by_name("arcore-toy") is None, "a run is made"


def test_the_registry_is_the_stores_own(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    elsewhere = f"sqlite:///{home}/elsewhere.db"
    monkeypatch.setenv("MLFLOW_REGISTRY_URI", elsewhere)
    experiment("toy-nade", "nade", valid_nats=9.0)
    registration.register_dataset("toy")
    found = mlflow_store.client().search_model_versions("name = 'arcore-toy'")
    assert [version.tags["experiment"] for version in found] == ["toy-nade"]
    assert not (home / "elsewhere.db").exists()
    assert os.environ["MLFLOW_REGISTRY_URI"] == mlflow.get_registry_uri() == elsewhere


def test_a_run_that_could_not_be_rebuilt_whole_is_gone_on_with(home, monkeypatch) -> None:
    experiment("toy-nade", "nade", valid_nats=9.0)
    Path("models/toy-nade/training.json").unlink()  # so that nobody knows the commit
    Path("evaluation/toy/toy-nade/samples.png").write_bytes(b"a picture")
    full = OSError(28, "No space left on device")
    with monkeypatch.context() as failing:
        failing.setattr(mlflow.MlflowClient, "log_artifact", raising(full))
        with pytest.raises(UserError, match="^toy-nade: expected its run .* logged whole"):
            registration.register_dataset("toy")
    store = mlflow_store.client()
    where = store.get_experiment_by_name("arcore-toy").experiment_id
    (broken,) = store.search_runs([where])
    assert (
        broken.info.status == "FAILED" and registration.training_runs.HASH not in broken.data.tags
    )
    assert broken.data.tags["commit"] == "unknown"

    entry = registration.register_dataset("toy").experiments["toy-nade"]
    (run,) = store.search_runs([where])
    assert entry.run_id == run.info.run_id == broken.info.run_id and run.info.status == "FINISHED"
    assert registration.training_runs.HASH in run.data.tags
    assert [file.path for file in store.list_artifacts(entry.run_id)] == [
        "metrics.json",
        "samples.png",
    ]
    history = store.get_metric_history(entry.run_id, "curves/train_nats")
    assert [metric.step for metric in history] == [1, 2]


def test_all_are_datasets_with_results_of_entries(home: Path) -> None:
    experiment("toy-nade", "nade", valid_nats=9.0)
    by_hand = Path("evaluation/other/other-nade--trainer.seed-1")
    by_hand.mkdir(parents=True)
    (by_hand / "metrics.json").write_text(json.dumps({}))
    registration.register_all()
    assert [path.name for path in Path("registry").iterdir()] == ["toy"]
    shutil.rmtree("evaluation/toy")
    with pytest.raises(UserError, match="nothing evaluated yet"):
        registration.register_all()


def test_what_dvc_sees_of_a_registration_is_what_it_was_made_of(home: Path) -> None:
    experiment("toy-nade", "nade", valid_nats=9.0)
    registration.register_all()
    path = Path("evaluation/toy/toy-nade/metrics.json")
    assert Path("registry/toy/made_of.txt").read_text() == f"{sha256_of(path)}  {path}\n"


def test_bits_of_dequantised_levels_are_called_at_most(home: Path) -> None:
    experiment("toy-nade", "nade", valid_nats=9.0)
    (candidate,) = candidates.candidates("toy")
    assert "at most" not in training_runs.summary(candidate)
    noisy = dataclasses.replace(candidate.evaluated, event=Real((4,), bin_width=1 / 16))
    said = training_runs.summary(dataclasses.replace(candidate, evaluated=noisy))
    assert " nats, at most " in said and said.count("at most") == 1


def test_what_fails_stops_no_other_dataset(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    errors = {
        "a": OSError(28, "No space left on device"),
        "b": MlflowException("database is locked\n(Background on this error at ...)"),
        "c": UserError("evaluation/c: no evaluated experiment"),
    }
    written = []

    def write(dataset: str) -> None:
        if dataset in errors:
            raise errors[dataset]
        written.append(dataset)

    monkeypatch.setattr(registration, "write", write)
    with pytest.raises(UserError) as caught:
        registration.register_all(["a", "b", "c", "d"])
    assert written == ["d"]
    assert str(caught.value) == (
        "a: [Errno 28] No space left on device; "
        "b: database is locked (Background on this error at ...); "
        "evaluation/c: no evaluated experiment"
    )


@pytest.mark.parametrize("registered", [False, True])
def test_a_run_whose_end_the_store_did_not_hear_of_is_completed(
    home: Path, registered: bool
) -> None:
    experiment("toy-nade", "nade", valid_nats=9.0)
    if registered:  # and trained again since, to the same weights
        registration.register_dataset("toy")
    run_id = mlflow_store.start_run("arcore-toy", "toy-nade", "key", {}, {})
    path = Path("models/toy-nade/training.json")
    record = json.loads(path.read_text()) | {"run_id": run_id, "mlflow_experiment": "arcore-toy"}
    path.write_text(json.dumps(record))
    metrics = Path("evaluation/toy/toy-nade/metrics.json")
    timing = {"metrics_sha256": sha256_of(metrics), "train_seconds": 3.0}
    metrics.with_name("timing.json").write_text(json.dumps(timing))
    store = mlflow_store.client()
    store.log_metric(run_id, "curves/train_nats", 3.0, step=1)
    registration.register_dataset("toy")
    run = store.get_run(run_id)
    assert run.info.status == "FINISHED" and "test_nats" in run.data.metrics
    lasted = run.info.end_time - run.info.start_time
    assert lasted == 3000 and run.data.tags["exact"] == "true"
    history = store.get_metric_history(run_id, "curves/train_nats")
    assert [metric.step for metric in history] == [1, 2]
