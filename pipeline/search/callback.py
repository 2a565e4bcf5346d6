"""What a search keeps and says while it runs: records, lines in the terminal, runs in MLflow."""

import dataclasses
import json
import logging
import math
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from ray.tune import Callback
from ray.tune.experiment import Trial
from tqdm import tqdm

from pipeline.core import storage
from pipeline.core.errors import UserError, one_line
from pipeline.search.spec import SECONDS, SearchRun
from pipeline.search.trial_run import NUMBER
from pipeline.search.trials import TrialRecord, TrialRecords, checkpoints_of
from pipeline.tracking import mlflow_store
from pipeline.tracking.tracked_run import TrackedRun
from pipeline.training.training_records import EpochRecord

log = logging.getLogger(__name__)

NOT_LOGGED = ("epoch", "step")  # of an epoch, in MLflow
_PARENT = "mlflow.parentRunId"


def number_of(trial: Trial) -> int:
    """Return a trial's number, from 1 in the order of their creation."""
    return int(trial.config[NUMBER])


def log_runs(run: SearchRun, records: Sequence[TrialRecord]) -> bool:
    """Log trials that ended and have no finished run below the search's; tell if MLflow answers."""
    if run.run_id is None:
        return True
    try:
        store = mlflow_store.client()
        where = mlflow_store.experiment_id(store, run.mlflow_experiment)
        runs = mlflow_store.find_runs(store, where, _PARENT, run.run_id)
    except Exception as error:
        log.warning("warning: MLflow: %s", one_line(error))
        return False
    over = ("FINISHED", "FAILED")
    logged = {one.data.tags["trial"] for one in runs if one.info.status in over}
    for record in records:
        if record.ended and str(record.number) not in logged:
            _log_run(run, record)
    return True


def _log_run(run: SearchRun, record: TrialRecord) -> None:
    run_id = mlflow_store.start_run(
        run.mlflow_experiment,
        f"{run.search.name} trial {record.number}",
        f"{run.config_hash}:{run.run_id}:{record.number}",
        record.values,
        {_PARENT: str(run.run_id), "trial": str(record.number)},
        seconds_ago=record.seconds,
    )
    curves = {row.epoch: row.metrics(*NOT_LOGGED) for row in record.history}
    TrackedRun(run_id).update(curves, status="FAILED" if record.problem else "FINISHED")


class TrialLogger(Callback):  # type: ignore[misc]
    """Keeps and reports trials, an interrupted search's among them."""

    def __init__(self, run: SearchRun, records: TrialRecords) -> None:
        self.run, self.search, self.records = run, run.search, records
        self.began = time.monotonic()
        self._going: set[int] = set()
        self._ended = 0
        self._mlflow_answers = True

    def on_trial_start(self, trial: Trial, **_: object) -> None:
        """Say which values a trial has."""
        values = self._begin(trial).values
        shown = " ".join(f"{name.rpartition('.')[2]}={_short(v)}" for name, v in values.items())
        self._print(trial, f"starts: {shown}")

    def on_trial_result(self, trial: Trial, result: Mapping[str, object], **_: object) -> None:
        """Keep a trial's epoch."""
        before = self.records[number_of(trial)]
        record = _reported(before, result)
        seconds = result.get(SECONDS)
        if isinstance(seconds, float):
            record = dataclasses.replace(record, sampling_seconds=seconds)
        if record != before:  # an epoch may be reported again
            self.records.keep(record)

    def on_trial_complete(self, trial: Trial, **_: object) -> None:
        """Keep and say how a trial ended, and free the space of its checkpoints."""
        record = self._end(trial)
        how = f"valid {record.value:.3f} nats"
        if record.problem:
            how = f"fails: {record.problem}"
        elif record.status == "stopped":
            how += f", stopped at epoch {record.epochs}"
        self._print(trial, f"ends: {how}; {self.best()}{self._left()}")
        if self._mlflow_answers:  # else at the search's end
            self._mlflow_answers = log_runs(self.run, [record])
        try:
            storage.remove(checkpoints_of(self.records.place, record.number))
        except (UserError, OSError) as error:  # for which Ray Tune would try the trial once more
            what = "checkpoints of %s are left: %s"
            log.warning(what, self._name(trial), one_line(error))

    def on_trial_error(self, trial: Trial, **_: object) -> None:
        """Say that a trial failed for good; if the search is interrupted it is tried again."""
        record = self._begin(trial)  # its process may never have run
        problem = _last_line(trial.error_file)
        record = dataclasses.replace(record, status="failed", problem=problem, lost=True)
        self.records.keep(record)
        self._print(trial, "fails")

    def on_step_end(self, trials: Sequence[Trial], **_: object) -> None:
        """Note which trials go on; where Ray Tune is interrupted it then calls them terminated."""
        over = ("TERMINATED", "ERROR")
        self._going = {number_of(trial) for trial in trials if trial.status not in over}

    def on_experiment_end(self, trials: Sequence[Trial], **_: object) -> None:
        """Tell trials that a time budget ended from those interrupted.

        Where the budget ended, trials of an earlier start that did not come to run again end too.
        """
        for trial in trials:
            ended = number_of(trial) not in self._going and trial.status == "TERMINATED"
            if ended and not self._begin(trial).ended:
                self._end(trial)
        budget = self.search.plan.time_budget_minutes
        out_of_time = budget is not None and time.monotonic() - self.began >= 60 * budget
        if not self._going and out_of_time:
            for record in self.records.all():
                if not record.ended:
                    self.records.keep(dataclasses.replace(record, status="stopped"))

    def _begin(self, trial: Trial) -> TrialRecord:
        """Keep a trial that starts, unless it goes on; return what is known of it."""
        values = {p.name: p.decode(trial.config[p.name]) for p in self.search.space}
        return self.records.begin(number_of(trial), values)

    def _end(self, trial: Trial) -> TrialRecord:
        """Keep how a trial ended, by its last report."""
        last = trial.last_result or {}
        problem = str(last.get("problem", ""))
        status = "failed" if problem else "finished" if last.get("finished") else "stopped"
        record = _reported(self.records[number_of(trial)], last)
        record = dataclasses.replace(record, status=status, problem=problem)
        self.records.keep(record)
        return record

    def best(self) -> str:
        """Say which trial is the best so far."""
        values = [(one.value, one.number) for one in self.records.all()]
        value, which = min(values, default=(math.inf, 0))
        return f"best {value:.3f} (trial {which})" if value < math.inf else "none is valid yet"

    def _left(self) -> str:
        """Estimate the time of the trials that are left, at the pace since the start."""
        self._ended += 1
        left = self.search.total - sum(one.ended for one in self.records.all())
        seconds = left * (time.monotonic() - self.began) / self._ended
        return f", {tqdm.format_interval(seconds)} left" if left else ""

    def _name(self, trial: Trial) -> str:
        return f"trial {number_of(trial)}/{self.search.total}"

    def _print(self, trial: Trial, line: str) -> None:
        seconds = time.monotonic() - self.began
        print(f"[{seconds:5.0f} s] {self._name(trial)} {line}", file=sys.stderr, flush=True)


def _short(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float) else json.dumps(value)


def _reported(record: TrialRecord, result: Mapping[str, object]) -> TrialRecord:
    """Return a record after a report of `trial_run`, among what Ray Tune added."""
    if "train_nats" not in result:
        return record
    return record.reported(EpochRecord.from_dict(result, "report"))


def _last_line(path: str | None) -> str:
    try:
        lines = Path(path or "").read_text(encoding="utf-8", errors="replace").strip().splitlines()
    except OSError:
        lines = []
    return lines[-1] if lines else "error"
