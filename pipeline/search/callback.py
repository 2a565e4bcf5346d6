"""What a search keeps and says while it runs: records, lines in the terminal, runs in MLflow."""

from __future__ import annotations

import dataclasses
import functools
import json
import logging
import math
import sys
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Protocol

from ray.tune import Callback

from pipeline.core import storage
from pipeline.core.errors import UserError, one_line
from pipeline.search.objectives import SECONDS
from pipeline.search.spec import Search
from pipeline.search.trial_records import TrialRecords
from pipeline.search.trial_run import NUMBER
from pipeline.search.trials import TrialRecord, checkpoints_of
from pipeline.tracking import mlflow_store, run_logger
from pipeline.training.training_records import TrainingReport

log = logging.getLogger(__name__)

NOT_LOGGED = ("epoch", "step")  # of an epoch, in MLflow
STATUS_SECONDS = 30.0
DOWN_SECONDS = 300.0  # without a try at a new run, once MLflow gave none
_PARENT = "mlflow.parentRunId"


class RayTrial(Protocol):
    """What is used of a trial of Ray Tune.

    Attributes:
        status: PENDING, RUNNING, PAUSED, TERMINATED or ERROR.
        config: what the trial was started with: its number and the drawn values by name.
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


class TrialLogger(Callback):  # type: ignore[misc]
    """Keeps and reports trials; MLflow has one thread, so that its outage delays nothing.

    Arguments:
        search: the search.
        records: of its trials, those of an interrupted search among them.
        parent: the MLflow run of the search, under which each trial has a run; None for none.
        experiment: name of the MLflow experiment.
        config_hash: of the search.
    """

    def __init__(
        self,
        search: Search,
        records: TrialRecords,
        parent: str | None,
        experiment: str,
        config_hash: str,
    ) -> None:
        self.search, self.records, self.parent = search, records, parent
        self.experiment, self.config_hash = experiment, config_hash
        self.began = self._said = time.monotonic()
        ended = [record for record in records.all() if record.ended]
        self.ended = len(ended)
        values = [(record.value, record.number) for record in ended if math.isfinite(record.value)]
        self.best = min(values, default=(math.inf, -1))
        self._loggers: dict[int, run_logger.RunLogger] = {}
        self._down_until, self._unlogged = -math.inf, set[int]()
        self._thread = ThreadPoolExecutor(1, "mlflow")
        self._going: set[int] = set()
        for record in ended:
            self._track(functools.partial(self._close, record))

    # -- Ray Tune's events

    def on_trial_start(
        self, iteration: int, trials: list[RayTrial], trial: RayTrial, **_: object
    ) -> None:
        """Say which values a trial has."""
        self.records.begin(number_of(trial), values_of(self.search, trial))
        self._print(f"{self._name(trial)} starts: {self._values(trial)}")
        self._track(lambda: self._logger(number_of(trial)))

    def on_trial_result(
        self,
        iteration: int,
        trials: list[RayTrial],
        trial: RayTrial,
        result: dict[str, object],
        **_: object,
    ) -> None:
        """Keep and log a trial's epoch, and now and then say how the search stands."""
        report, which = TrainingReport.from_dict(result), number_of(trial)
        before = self.records[which]
        record = before.reported(report)
        seconds = result.get(SECONDS)
        if isinstance(seconds, float):
            record = dataclasses.replace(record, sampling_seconds=seconds)
        if report.best_valid_nats < self.best[0]:
            self.best = report.best_valid_nats, which
        if record != before:  # an epoch may be reported again
            self.records.keep(record)
        if record.history != before.history:
            newest = record.history[-1]
            self._track(
                lambda: self._logger(which).metrics(newest.metrics(*NOT_LOGGED), step=newest.epoch)
            )
        if time.monotonic() - self._said > STATUS_SECONDS:
            running = sum(other.status == "RUNNING" for other in trials)
            self._print(f"{self.ended} trials ended, {running} running; {self._best()}")

    def on_trial_complete(
        self, iteration: int, trials: list[RayTrial], trial: RayTrial, **_: object
    ) -> None:
        """Keep and say how a trial ended."""
        last, which = TrainingReport.from_dict(trial.last_result), number_of(trial)
        self._end(trial, last)
        how = f"valid {last.best_valid_nats:.3f} nats"
        if last.problem:
            how = f"fails: {last.problem}"
        elif not last.finished:
            how += f", stopped at epoch {last.epoch}"
        self._print(f"{self._name(trial)} ends: {how}; {self._best()}")
        self._track(lambda: self._logger(which).finish(_run_status(last.problem)))
        self._forget_checkpoints(trial)

    def on_trial_error(
        self, iteration: int, trials: list[RayTrial], trial: RayTrial, **_: object
    ) -> None:
        """Say that a trial failed for good; if the search is interrupted it is tried again."""
        self.ended += 1
        which = number_of(trial)
        self.records.begin(which, values_of(self.search, trial))  # its process may never have run
        problem, record = _last_line(trial.error_file), self.records[which]
        record = dataclasses.replace(record, status="failed", problem=problem, lost=True)
        self.records.keep(record)
        self._print(f"{self._name(trial)} fails")
        self._track(lambda: self._logger(which).finish("FAILED"))

    def on_step_end(self, iteration: int, trials: list[RayTrial], **_: object) -> None:
        """Note which trials go on; where Ray Tune is interrupted it then calls them terminated."""
        over = ("TERMINATED", "ERROR")
        self._going = {number_of(trial) for trial in trials if trial.status not in over}

    def on_experiment_end(self, trials: list[RayTrial], **_: object) -> None:
        """Tell trials that a time budget ended from those interrupted, then wait for MLflow.

        Where the budget ended, trials of an earlier start that did not come to run again end too.
        """
        for trial in trials:
            which = number_of(trial)
            if which in self._going:
                if which in self._loggers:
                    self._track(functools.partial(self._loggers[which].finish, "KILLED"))
            elif trial.status == "TERMINATED":
                self.records.begin(which, values_of(self.search, trial))
                if not self.records[which].ended:
                    self._end(trial, TrainingReport.from_dict(trial.last_result or {}))
                    self._track(functools.partial(self._close, self.records[which]))
        if not self._going and self._is_out_of_time():
            for record in self.records.all():
                if not record.ended:
                    self.records.keep(dataclasses.replace(record, status="stopped"))
                    self._track(functools.partial(self._close, record))
        self._track(self._close_unlogged)
        self._thread.shutdown(wait=True)

    # --

    def _is_out_of_time(self) -> bool:
        budget = self.search.plan.time_budget_minutes
        return budget is not None and time.monotonic() - self.began >= 60 * budget

    def _end(self, trial: RayTrial, last: TrainingReport) -> None:
        """Keep how a trial ended, by its last report."""
        self.ended += 1
        status = "finished" if last.finished else "stopped"
        if last.problem:
            status = "failed"
        record = self.records[number_of(trial)].reported(last)
        self.records.keep(dataclasses.replace(record, status=status, problem=last.problem))

    def _name(self, trial: RayTrial) -> str:
        return f"trial {number_of(trial)}/{self.search.total}"

    def _values(self, trial: RayTrial) -> str:
        return " ".join(f"{k}={json.dumps(v)}" for k, v in values_of(self.search, trial).items())

    def _best(self) -> str:
        value, which = self.best
        return f"best {value:.3f} (trial {which})" if which > 0 else "none is valid yet"

    def _print(self, line: str) -> None:
        self._said = time.monotonic()
        print(f"[{self._said - self.began:5.0f} s] {line}", file=sys.stderr, flush=True)

    def _forget_checkpoints(self, trial: RayTrial) -> None:
        """Free the space of a trial that ended; the best one is trained again, to its end.

        A storage that is away costs a warning: an exception here would have Ray Tune try the trial
        once more.
        """
        try:
            storage.remove(checkpoints_of(self.records.place, number_of(trial)))
        except (UserError, OSError) as error:
            log.warning("checkpoints of %s are left: %s", self._name(trial), one_line(error))

    def _track(self, action: Callable[[], object]) -> None:
        if self.parent is not None:
            self._thread.submit(_quietly, action)

    def _logger(self, which: int) -> run_logger.RunLogger:
        """Return the logger of a trial, whose run gets the epochs that it lacks."""
        if which not in self._loggers:
            self._unlogged.add(which)
            if time.monotonic() < self._down_until:
                return run_logger.RunLogger(None)
            record = self.records[which]
            run_id = mlflow_store.start_run(
                self.experiment,
                f"{self.search.name} trial {which}",
                self._key(which),
                record.values,
                {_PARENT: str(self.parent), "trial": str(which)},
            )
            if run_id is None:  # its epochs are sent later, at the latest at the search's end
                self._down_until = time.monotonic() + DOWN_SECONDS
                return run_logger.RunLogger(None)
            self._loggers[which] = run_logger.RunLogger(run_id)
            self._unlogged.remove(which)
            for row in record.history:
                self._loggers[which].metrics(row.metrics(*NOT_LOGGED), step=row.epoch)
        return self._loggers[which]

    def _key(self, which: int) -> str:
        return f"{self.config_hash}:{self.parent}:{which}"

    def _close_unlogged(self) -> None:
        """Give those trials their runs that ended while the store was away."""
        self._down_until = -math.inf
        for record in self.records.all():
            if record.ended and record.number in self._unlogged:
                self._close(record)

    def _close(self, record: TrialRecord) -> None:
        """Finish the run of a trial whose end was kept just before the search was killed."""
        if time.monotonic() < self._down_until:
            self._unlogged.add(record.number)
            return
        try:
            store = mlflow_store.client()
            where = mlflow_store.experiment_id(store, self.experiment)
            key = self._key(record.number)
            runs = mlflow_store.find_runs(store, where, mlflow_store.RUN_KEY, key)
        except Exception:
            self._down_until = time.monotonic() + DOWN_SECONDS
            self._unlogged.add(record.number)
            raise
        own = [run for run in runs if run.data.tags.get(_PARENT) == self.parent]
        status = _run_status(record.problem)
        if not any(run.info.status == status for run in own):
            self._logger(record.number).finish(status)


def _run_status(problem: str) -> str:
    return "FAILED" if problem else "FINISHED"


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


def _quietly(action: Callable[[], object]) -> None:
    try:
        action()
    except Exception as error:
        log.warning("warning: MLflow: %s", one_line(error))
