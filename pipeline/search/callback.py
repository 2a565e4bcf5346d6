"""What a search keeps and says while it runs: records, lines in the terminal, runs in MLflow."""

from __future__ import annotations

import dataclasses
import json
import logging
import math
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

from ray.tune import Callback

from pipeline.core import storage
from pipeline.core.errors import UserError, one_line
from pipeline.search.spec import SECONDS, Search
from pipeline.search.trial_run import NUMBER
from pipeline.search.trials import TrialRecord, TrialRecords, checkpoints_of
from pipeline.tracking import mlflow_store, run_logger
from pipeline.training.training_records import EpochRecord

log = logging.getLogger(__name__)

NOT_LOGGED = ("epoch", "step")  # of an epoch, in MLflow
STATUS_SECONDS = 30.0
_PARENT = "mlflow.parentRunId"


class RayTrial(Protocol):
    """What is used of a trial of Ray Tune.

    Attributes:
        status: PENDING, RUNNING, PAUSED, TERMINATED or ERROR.
        config: its number and the drawn values by name.
        last_result: metrics of the last report.
        error_file: a text on this machine that ends in the last error; None without.
    """

    status: str
    config: Mapping[str, str | float]
    last_result: Mapping[str, object]
    error_file: str | None


def number_of(trial: RayTrial) -> int:
    """Return a trial's number, from 1 in the order of their creation."""
    return int(trial.config[NUMBER])


@dataclasses.dataclass(frozen=True)
class TrialRuns:
    """The runs of a search's trials in MLflow, each made when its trial has ended.

    Attributes:
        parent: the run of the search, under which they are; None for none.
        experiment: name of the MLflow experiment.
        config_hash: of the search.
    """

    search: Search
    parent: str | None
    experiment: str
    config_hash: str

    def log(self, records: Sequence[TrialRecord]) -> bool:
        """Log those that ended and have no finished run yet; tell whether the store answers."""
        if self.parent is None:
            return True
        try:
            store = mlflow_store.client()
            where = mlflow_store.experiment_id(store, self.experiment)
            runs = mlflow_store.find_runs(store, where, _PARENT, self.parent)
        except Exception as error:
            log.warning("warning: MLflow: %s", one_line(error))
            return False
        over = ("FINISHED", "FAILED")
        logged = {run.data.tags["trial"] for run in runs if run.info.status in over}
        for record in records:
            if record.ended and str(record.number) not in logged:
                self._log(record)
        return True

    def _log(self, record: TrialRecord) -> None:
        run_id = mlflow_store.start_run(
            self.experiment,
            f"{self.search.name} trial {record.number}",
            f"{self.config_hash}:{self.parent}:{record.number}",
            record.values,
            {_PARENT: str(self.parent), "trial": str(record.number)},
            seconds_ago=record.seconds,
        )
        logger = run_logger.RunLogger(run_id, interval=math.inf)
        for row in record.history:
            logger.metrics(row.metrics(*NOT_LOGGED), step=row.epoch)
        logger.finish("FAILED" if record.problem else "FINISHED")


class TrialLogger(Callback):  # type: ignore[misc]
    """Keeps and reports trials, those of an interrupted search among them."""

    def __init__(self, records: TrialRecords, runs: TrialRuns) -> None:
        self.search, self.records, self.runs = records.search, records, runs
        self.began = self._said = time.monotonic()
        self._going: set[int] = set()
        self._mlflow_answers = True

    def on_trial_start(
        self, iteration: int, trials: list[RayTrial], trial: RayTrial, **_: object
    ) -> None:
        """Say which values a trial has."""
        values = values_of(self.search, trial)
        self.records.begin(number_of(trial), values)
        shown = " ".join(f"{name}={json.dumps(value)}" for name, value in values.items())
        self._print(f"{self._name(trial)} starts: {shown}")

    def on_trial_result(
        self,
        iteration: int,
        trials: list[RayTrial],
        trial: RayTrial,
        result: Mapping[str, object],
        **_: object,
    ) -> None:
        """Keep a trial's epoch, and now and then say how the search stands."""
        before = self.records[number_of(trial)]
        record = _reported(before, result)
        seconds = result.get(SECONDS)
        if isinstance(seconds, float):
            record = dataclasses.replace(record, sampling_seconds=seconds)
        if record != before:  # an epoch may be reported again
            self.records.keep(record)
        if time.monotonic() - self._said > STATUS_SECONDS:
            ended = sum(one.ended for one in self.records.all())
            running = sum(other.status == "RUNNING" for other in trials)
            total = self.search.total
            self._print(f"{ended} of {total} trials ended, {running} running; {self.best()}")

    def on_trial_complete(
        self, iteration: int, trials: list[RayTrial], trial: RayTrial, **_: object
    ) -> None:
        """Keep and say how a trial ended, and free the space of its checkpoints."""
        record = self._end(trial, trial.last_result)
        how = f"valid {record.value:.3f} nats"
        if record.problem:
            how = f"fails: {record.problem}"
        elif record.status == "stopped":
            how += f", stopped at epoch {record.epochs}"
        self._print(f"{self._name(trial)} ends: {how}; {self.best()}")
        if self._mlflow_answers:  # else at the search's end
            self._mlflow_answers = self.runs.log([record])
        try:
            storage.remove(checkpoints_of(self.records.place, record.number))
        except (UserError, OSError) as error:  # for which Ray Tune would try the trial once more
            log.warning("checkpoints of %s are left: %s", self._name(trial), one_line(error))

    def on_trial_error(
        self, iteration: int, trials: list[RayTrial], trial: RayTrial, **_: object
    ) -> None:
        """Say that a trial failed for good; if the search is interrupted it is tried again."""
        which = number_of(trial)
        self.records.begin(which, values_of(self.search, trial))  # its process may never have run
        problem, record = _last_line(trial.error_file), self.records[which]
        record = dataclasses.replace(record, status="failed", problem=problem, lost=True)
        self.records.keep(record)
        self._print(f"{self._name(trial)} fails")

    def on_step_end(self, iteration: int, trials: list[RayTrial], **_: object) -> None:
        """Note which trials go on; where Ray Tune is interrupted it then calls them terminated."""
        over = ("TERMINATED", "ERROR")
        self._going = {number_of(trial) for trial in trials if trial.status not in over}

    def on_experiment_end(self, trials: list[RayTrial], **_: object) -> None:
        """Tell trials that a time budget ended from those interrupted.

        Where the budget ended, trials of an earlier start that did not come to run again end too.
        """
        for trial in trials:
            which = number_of(trial)
            if which not in self._going and trial.status == "TERMINATED":
                self.records.begin(which, values_of(self.search, trial))
                if not self.records[which].ended:
                    self._end(trial, trial.last_result or {})
        budget = self.search.plan.time_budget_minutes
        out_of_time = budget is not None and time.monotonic() - self.began >= 60 * budget
        if not self._going and out_of_time:
            for record in self.records.all():
                if not record.ended:
                    self.records.keep(dataclasses.replace(record, status="stopped"))

    def _end(self, trial: RayTrial, last: Mapping[str, object]) -> TrialRecord:
        """Keep how a trial ended, by its last report."""
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

    def _name(self, trial: RayTrial) -> str:
        return f"trial {number_of(trial)}/{self.search.total}"

    def _print(self, line: str) -> None:
        self._said = time.monotonic()
        print(f"[{self._said - self.began:5.0f} s] {line}", file=sys.stderr, flush=True)


def _reported(record: TrialRecord, result: Mapping[str, object]) -> TrialRecord:
    """Return a record after a report of `trial_run`, among what Ray Tune added."""
    if "train_nats" not in result:
        return record
    return record.reported(EpochRecord.from_dict(result, "report"))


def values_of(search: Search, trial: RayTrial) -> dict[str, object]:
    """Return a trial's values by parameter name."""
    return {p.name: p.decode(trial.config[p.name]) for p in search.space}


def _last_line(path: str | None) -> str:
    """Return the last line of a text, which names the exception."""
    try:
        lines = Path(path or "").read_text(encoding="utf-8", errors="replace").strip().splitlines()
    except OSError:
        lines = []
    return lines[-1] if lines else "error"
