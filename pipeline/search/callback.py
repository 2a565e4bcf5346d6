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
from typing import Any

import pyarrow.fs
from ray.tune import Callback

from pipeline.core.errors import one_line
from pipeline.search.spec import Search
from pipeline.tracking import mlflow_store, run_logger

STATUS_SECONDS = 30.0


class TrialLogger(Callback):  # type: ignore[misc]
    """Reports trials; MLflow is written to from one thread, so that its outage delays nothing.

    Arguments:
        search: the search.
        parent: the MLflow run of the search, under which each trial has a run; None for none.
        experiment: name of the MLflow experiment.
        identity: of the search.
    """

    def __init__(self, search: Search, parent: str | None, experiment: str, identity: str) -> None:
        self.search, self.parent = search, parent
        self.experiment, self.identity = experiment, identity
        self.began = time.monotonic()
        self.best: tuple[float, int] = (math.inf, -1)
        self.ended = 0
        self._open()

    def _open(self) -> None:
        self._loggers: dict[str, run_logger.RunLogger] = {}
        self._thread = ThreadPoolExecutor(1, "mlflow")
        self._said = time.monotonic()
        self._going: set[str] = set()

    def __getstate__(self) -> dict[str, Any]:
        """Leave out the thread and the connections: Ray Tune saves its callbacks."""
        return {key: value for key, value in self.__dict__.items() if not key.startswith("_")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Start anew, as after an interruption."""
        self.__dict__.update(state)
        self._open()

    def setup(self, **_: Any) -> None:
        """Count the trials anew: those that ended before come back as results of none."""
        self.began = time.monotonic()

    # -- Ray Tune's events

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **_: Any) -> None:
        """Say which values a trial has."""
        self._print_on_rank_0(f"{self._name(trial)} starts: {self._values(trial)}")
        self._track(lambda: self._logger(trial))

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **_: Any
    ) -> None:
        """Log a trial's epoch, and now and then how the search stands."""
        value = float(result.get("best_valid_nats", math.inf))
        if value < self.best[0]:
            self.best = value, number(trial)
        if "train_nats" in result:
            keys = ("train_nats", "valid_nats", "valid_bits_per_dim", "learning_rate", "seconds")
            values = {key: float(result[key]) for key in keys if key in result}
            values["best_valid_nats"] = value
            step = int(result["epoch"])
            self._track(lambda: self._logger(trial).metrics(values, step=step))
        if time.monotonic() - self._said > STATUS_SECONDS:
            running = sum(other.status == "RUNNING" for other in trials)
            self._print_on_rank_0(f"{self.ended} trials ended, {running} running; {self._best()}")

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **_: Any) -> None:
        """Say how a trial ended."""
        self.ended += 1
        result = trial.last_result
        problem = result.get("problem")
        value = float(result.get("best_valid_nats", math.inf))
        how = f"fails: {problem}" if problem else f"valid {value:.3f} nats"
        if not problem and not result.get("finished"):
            how += f", stopped at epoch {result.get('epoch')}"
        self._print_on_rank_0(f"{self._name(trial)} ends: {how}; {self._best()}")
        status = "FAILED" if problem else "FINISHED"
        self._track(lambda: self._logger(trial).finish(status))
        self._forget_checkpoints(trial)

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **_: Any) -> None:
        """Say that a trial failed for good."""
        self.ended += 1
        self._print_on_rank_0(f"{self._name(trial)} fails")
        self._track(lambda: self._logger(trial).finish("FAILED"))

    def on_step_end(self, iteration: int, trials: list[Any], **_: Any) -> None:
        """Note which trials go on; where Ray Tune is interrupted it then calls them terminated."""
        over = ("TERMINATED", "ERROR")
        self._going = {trial.trial_id for trial in trials if trial.status not in over}

    def on_experiment_end(self, trials: list[Any], **_: Any) -> None:
        """Mark the trials that an interruption ends, then wait for MLflow."""
        for trial in trials:
            trial.interrupted = trial.trial_id in self._going
            if trial.interrupted and trial.trial_id in self._loggers:
                self._track(functools.partial(self._loggers[trial.trial_id].finish, "KILLED"))
        self._thread.shutdown(wait=True)

    # --

    def _name(self, trial: Any) -> str:
        return f"trial {number(trial)}/{self.search.total}"

    def _values(self, trial: Any) -> str:
        return " ".join(f"{k}={json.dumps(v)}" for k, v in values_of(self.search, trial).items())

    def _best(self) -> str:
        value, which = self.best
        return f"best {value:.3f} (trial {which})" if which > 0 else "none is valid yet"

    def _print_on_rank_0(self, line: str) -> None:
        self._said = time.monotonic()
        print(f"[{self._said - self.began:5.0f} s] {line}", file=sys.stderr, flush=True)

    def _forget_checkpoints(self, trial: Any) -> None:
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

    def _logger(self, trial: Any) -> run_logger.RunLogger:
        if trial.trial_id not in self._loggers:
            run_id = mlflow_store.start_run(
                self.experiment,
                f"{self.search.name} trial {number(trial)}",
                f"{self.identity}:{trial.trial_id}",
                values_of(self.search, trial),
                {"mlflow.parentRunId": str(self.parent), "trial": str(number(trial))},
            )
            self._loggers[trial.trial_id] = run_logger.RunLogger(run_id)
        return self._loggers[trial.trial_id]


def number(trial: Any) -> int:
    """Return a trial's number, from 1 in the order of their making."""
    # Ray Tune counts them in the tag, from 0 for a grid, whose ids have an underscore, else from 1.
    return int(str(trial.experiment_tag).partition("_")[0]) + ("_" in trial.trial_id)


def values_of(search: Search, trial: Any) -> dict[str, Any]:
    """Return a trial's values by parameter name."""
    return {p.name: p.decode(trial.config[p.name]) for p in search.space}


def _in(folder: str) -> pyarrow.fs.FileSelector:
    return pyarrow.fs.FileSelector(folder, allow_not_found=True)


def _quietly(action: Callable[[], object]) -> None:
    try:
        action()
    except Exception as error:
        logging.getLogger(__name__).warning("warning: MLflow: %s", one_line(error))
