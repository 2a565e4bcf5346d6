"""What a search says while it runs: a line an event in the terminal, a nested run in MLflow."""

from __future__ import annotations

import functools
import json
import logging
import math
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pyarrow.fs
from ray.tune import Callback

from pipeline.core.errors import one_line
from pipeline.search.spec import Search
from pipeline.search.trials import RayTrial, mark_interrupted, number, values_of
from pipeline.tracking import mlflow_store, run_logger
from pipeline.training.records import BEST, TrainingReport

STATUS_SECONDS = 30.0


class TrialLogger(Callback):  # type: ignore[misc]
    """Reports trials; MLflow is written to from one thread, so that its outage delays nothing.

    Arguments:
        search: the search.
        parent: the MLflow run of the search, under which each trial has a run; None for none.
        experiment: name of the MLflow experiment.
        config_hash: of the search.
    """

    def __init__(
        self, search: Search, parent: str | None, experiment: str, config_hash: str
    ) -> None:
        self.search, self.parent = search, parent
        self.experiment, self.config_hash = experiment, config_hash
        self.began = time.monotonic()
        self.best: tuple[float, int] = (math.inf, -1)
        self.ended = 0
        self._open()

    def _open(self) -> None:
        self._loggers: dict[str, run_logger.RunLogger] = {}
        self._thread = ThreadPoolExecutor(1, "mlflow")
        self._said = time.monotonic()
        self._going: set[str] = set()

    def __getstate__(self) -> dict[str, object]:
        """Leave out the thread and the connections: Ray Tune saves its callbacks."""
        return {key: value for key, value in self.__dict__.items() if not key.startswith("_")}

    def __setstate__(self, state: dict[str, object]) -> None:
        """Start anew, as after an interruption."""
        self.__dict__.update(state)
        self._open()

    def setup(self, **_: object) -> None:
        """Count the trials anew: those that ended before come back as results of none."""
        self.began = time.monotonic()

    # -- Ray Tune's events

    def on_trial_start(
        self, iteration: int, trials: list[RayTrial], trial: RayTrial, **_: object
    ) -> None:
        """Say which values a trial has."""
        self._print(f"{self._name(trial)} starts: {self._values(trial)}")
        self._track(lambda: self._logger(trial))

    def on_trial_result(
        self,
        iteration: int,
        trials: list[RayTrial],
        trial: RayTrial,
        result: dict[str, object],
        **_: object,
    ) -> None:
        """Log a trial's epoch, and now and then how the search stands."""
        report = TrainingReport.from_dict(result)
        if report.best_valid_nats < self.best[0]:
            self.best = report.best_valid_nats, number(trial)
        if report.record is not None:
            values = report.record.to_dict() | {BEST: report.best_valid_nats}
            del values["epoch"], values["step"]
            self._track(lambda: self._logger(trial).metrics(values, step=report.epoch))
        if time.monotonic() - self._said > STATUS_SECONDS:
            running = sum(other.status == "RUNNING" for other in trials)
            self._print(f"{self.ended} trials ended, {running} running; {self._best()}")

    def on_trial_complete(
        self, iteration: int, trials: list[RayTrial], trial: RayTrial, **_: object
    ) -> None:
        """Say how a trial ended."""
        self.ended += 1
        last = TrainingReport.from_dict(trial.last_result)
        how = f"valid {last.best_valid_nats:.3f} nats"
        if last.problem:
            how = f"fails: {last.problem}"
        elif not last.finished:
            how += f", stopped at epoch {last.epoch}"
        self._print(f"{self._name(trial)} ends: {how}; {self._best()}")
        status = "FAILED" if last.problem else "FINISHED"
        self._track(lambda: self._logger(trial).finish(status))
        self._forget_checkpoints(trial)

    def on_trial_error(
        self, iteration: int, trials: list[RayTrial], trial: RayTrial, **_: object
    ) -> None:
        """Say that a trial failed for good."""
        self.ended += 1
        self._print(f"{self._name(trial)} fails")
        self._track(lambda: self._logger(trial).finish("FAILED"))

    def on_step_end(self, iteration: int, trials: list[RayTrial], **_: object) -> None:
        """Note which trials go on; where Ray Tune is interrupted it then calls them terminated."""
        over = ("TERMINATED", "ERROR")
        self._going = {trial.trial_id for trial in trials if trial.status not in over}

    def on_experiment_end(self, trials: list[RayTrial], **_: object) -> None:
        """Mark the trials that an interruption ends, then wait for MLflow."""
        for trial in trials:
            interrupted = trial.trial_id in self._going
            mark_interrupted(trial, interrupted)
            if interrupted and trial.trial_id in self._loggers:
                self._track(functools.partial(self._loggers[trial.trial_id].finish, "KILLED"))
        self._thread.shutdown(wait=True)

    # --

    def _name(self, trial: RayTrial) -> str:
        return f"trial {number(trial)}/{self.search.total}"

    def _values(self, trial: RayTrial) -> str:
        return " ".join(f"{k}={json.dumps(v)}" for k, v in values_of(self.search, trial).items())

    def _best(self) -> str:
        value, which = self.best
        return f"best {value:.3f} (trial {which})" if which > 0 else "none is valid yet"

    def _print(self, line: str) -> None:
        self._said = time.monotonic()
        print(f"[{self._said - self.began:5.0f} s] {line}", file=sys.stderr, flush=True)

    def _forget_checkpoints(self, trial: RayTrial) -> None:
        """Free the space of a trial that ended; the best one is trained anew, to its end."""
        filesystem, folder = trial.storage.storage_filesystem, trial.storage.experiment_fs_path
        # Those of Ray Tune, and those of Ray Train where the trial has several workers.
        own = filesystem.get_file_info(_in(trial.storage.trial_fs_path))
        gone = [info.path for info in own if info.base_name.startswith("checkpoint_")]
        together = filesystem.get_file_info(f"{folder}/train-{trial.trial_id}")
        if together.type == pyarrow.fs.FileType.Directory:
            gone.append(together.path)
        for path in gone:
            filesystem.delete_dir(path)

    def _track(self, action: Callable[[], object]) -> None:
        if self.parent is not None:
            self._thread.submit(_quietly, action)

    def _logger(self, trial: RayTrial) -> run_logger.RunLogger:
        if trial.trial_id not in self._loggers:
            run_id = mlflow_store.start_run(
                self.experiment,
                f"{self.search.name} trial {number(trial)}",
                f"{self.config_hash}:{trial.trial_id}",
                values_of(self.search, trial),
                {"mlflow.parentRunId": str(self.parent), "trial": str(number(trial))},
            )
            self._loggers[trial.trial_id] = run_logger.RunLogger(run_id)
        return self._loggers[trial.trial_id]


def _in(folder: str) -> pyarrow.fs.FileSelector:
    return pyarrow.fs.FileSelector(folder, allow_not_found=True)


def _quietly(action: Callable[[], object]) -> None:
    try:
        action()
    except Exception as error:
        logging.getLogger(__name__).warning("warning: MLflow: %s", one_line(error))
