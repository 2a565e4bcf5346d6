"""What a search keeps and says of trials that end otherwise than by their last epoch."""

import json
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pipeline.core.errors import SiteError
from pipeline.search import callback, spec
from pipeline.search.callback import TrialLogger
from pipeline.search.trials import TrialRecords, checkpoints_of
from pipeline.tracking import mlflow_store
from tests.support.refusals import raising
from tests.support.searches import ENTRY, EPOCH, record  # noqa: F401


def trial_of(number: int, **shown: object) -> Any:
    config = {"model.ordering": json.dumps("raster"), "number": number, "known": 0}
    shown = {"status": "RUNNING", "last_result": {}, "error_file": None} | shown
    return SimpleNamespace(config=config, **shown)


@pytest.fixture
def records(load, workdir: Path) -> TrialRecords:
    return TrialRecords(load(num_trials=3, time_budget_minutes=1), str(workdir / "kept"))


def logger_of(records: TrialRecords) -> TrialLogger:
    return TrialLogger(run_of(records, None), records)


def run_of(records: TrialRecords, run_id: str | None) -> spec.SearchRun:
    given: list[Any] = [None, "hash", records.place, "arcore-toy", None, run_id]
    return spec.SearchRun(records.search, *given)


def test_a_trial_whose_process_never_ran_fails_alone(records: TrialRecords, workdir: Path) -> None:
    """Ray Tune says that a trial starts only once its process is there."""
    (workdir / "error.txt").write_text("Traceback\n  ...\nActorDiedError: it died\n")
    logger = logger_of(records)
    logger.on_trial_error(trial_of(2, error_file=str(workdir / "error.txt")))
    assert records.all()[0].to_dict() | {"code_sha256": None} == record(
        2, "failed", problem="ActorDiedError: it died", lost=True
    ).to_dict() | {"code_sha256": None}


@pytest.mark.parametrize(("seconds", "status"), [(59.0, "unfinished"), (61.0, "stopped")])
def test_a_time_budget_ends_what_an_earlier_start_left(
    records: TrialRecords, seconds: float, status: str
) -> None:
    """Else each rerun would ask for one more."""
    records.keep(record(1, "finished", EPOCH))
    records.keep(record(2, "unfinished", EPOCH))
    logger = logger_of(records)
    logger.began = time.monotonic() - seconds
    logger.on_experiment_end([])
    again = TrialRecords(records.search, records.place)
    again.read()
    assert [one.status for one in again.all()] == ["finished", status]
    assert again[2].history == (EPOCH,)


def test_trials_that_are_interrupted_late_are_no_ended_ones(records: TrialRecords) -> None:
    records.keep(record(1, "unfinished"))
    logger = logger_of(records)
    logger.began = time.monotonic() - 61.0
    trial = trial_of(1)
    logger.on_step_end([trial])
    trial.status = "TERMINATED"  # as Ray Tune calls what it interrupts
    logger.on_experiment_end([trial])
    assert records[1].status == "unfinished"


def test_the_best_of_failed_trials_is_none(records: TrialRecords) -> None:
    records.keep(record(1, "failed", problem="it is NaN"))
    assert logger_of(records).best() == "none is valid yet"
    records.keep(record(2, "finished", EPOCH))
    assert logger_of(records).best() == "best 9.000 (trial 2)"


def test_an_epoch_that_is_reported_again_counts_once(records: TrialRecords) -> None:
    """A trial that goes on reports again what the search may not know."""
    logger, trial = logger_of(records), trial_of(1)
    logger.on_trial_start(trial)
    for _ in range(2):
        logger.on_trial_result(trial, EPOCH.to_dict() | {"training_iteration": 1})
    assert records[1].history == (EPOCH,)
    logger.on_trial_result(trial, EPOCH.to_dict() | {"sampling_seconds": 0.5})
    assert records[1].sampling_seconds == 0.5 and records[1].history == (EPOCH,)


def test_checkpoints_of_a_trial_that_ended_are_removed(
    records: TrialRecords, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    logger, trial = logger_of(records), trial_of(1)
    place = Path(checkpoints_of(records.place, 1))
    (place / "checkpoint_000001").mkdir(parents=True)
    logger.on_trial_start(trial)
    with monkeypatch.context() as away:
        away.setattr(callback.storage, "remove", raising(SiteError("away")))
        logger.on_trial_complete(trial)
    assert place.exists() and "checkpoints of trial 1/3 are left: away" in caplog.text
    logger.on_trial_complete(trial)
    assert not place.exists()


def test_trials_get_their_runs_once(records: TrialRecords, home, monkeypatch) -> None:
    """Those that ended, also while the store was away, or just before the search was killed."""
    parent = mlflow_store.start_run("arcore-toy", "tune toy", "parent", {}, {})
    run = run_of(records, parent)
    with monkeypatch.context() as away:
        away.setattr(mlflow_store, "client", raising(OSError("away")))
        assert not callback.log_runs(run, [record(1, "finished", EPOCH)])
    table = [
        record(1, "finished", EPOCH),
        record(2, "failed", problem="it is NaN"),
        record(3, "unfinished", EPOCH),
    ]
    killed = mlflow_store.start_run("arcore-toy", "toy trial 1", f"hash:{parent}:1", {}, {})
    assert callback.log_runs(run, table) and callback.log_runs(run, table)
    store = mlflow_store.client()
    where = store.get_experiment_by_name("arcore-toy").experiment_id
    nested = mlflow_store.find_runs(store, where, "mlflow.parentRunId", str(parent))
    ended = {run.data.tags["trial"]: (run.info.status, run.info.run_id) for run in nested}
    assert ended.keys() == {"1", "2"} and ended["2"][0] == "FAILED"
    assert ended["1"] == ("FINISHED", killed)
    history = store.get_metric_history(killed, "curves/valid_nats")
    assert [(metric.step, metric.value) for metric in history] == [(1, 9.0)]
