"""A run of MLflow as a projection of records: brought up to date, and never in a training's way."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.core.errors import AskedToStop, one_line
from pipeline.tracking import mlflow_store

if TYPE_CHECKING:
    from mlflow import MlflowClient

log = logging.getLogger(__name__)

Curves = Mapping[int, Mapping[str, float]]  # numbers by their names, of each epoch
CURVES = "curves/"  # first among the sections of MLflow's charts, which go by the first part
# MLflow's charts show ten letters of a name: too few to tell this one from `valid_nats`.
_RENAMED = {"valid_bits_per_dim": "bits_per_dim_valid"}
_BATCH = 1000
LEAST_SECONDS = 2.0  # between two updates of a training under way, each tens of milliseconds
PATIENCE = 50  # times as long as an update took, answered or not, there is none: 2% of the time


def project(
    store: MlflowClient,
    run_id: str,
    curves: Curves | None = None,
    values: Mapping[str, float] | None = None,
    tags: Mapping[str, str] | None = None,
    files: Iterable[Path] = (),
) -> None:
    """Log what a run lacks, so that a second call changes nothing.

    Arguments:
        curves: of each name the epochs after the last one that the run has, `curves/` and the name
            in the store. By their `seconds` of training an epoch has its time.
        values: final ones, by name, where they changed.
        files: of which those that are there are logged.
    """
    from mlflow.entities import Metric, RunTag

    run, now = store.get_run(run_id), time.time()
    last = {metric.key: metric for metric in run.data.to_proto().metrics}
    ends = max((row.get("seconds", 0.0) for row in (curves or {}).values()), default=0.0)
    lacking = [
        Metric(name, value, int(1000 * (now - ends + row.get("seconds", ends))), epoch)
        for epoch, row in (curves or {}).items()
        for name, value in ((CURVES + _RENAMED.get(k, k), float(v)) for k, v in row.items())
        if name not in last or last[name].step < epoch
    ]
    lacking += [
        Metric(name, float(value), int(1000 * now), 0)
        for name, value in (values or {}).items()
        if name not in last or last[name].value != float(value)
    ]
    for first in range(0, len(lacking), _BATCH):
        store.log_batch(run_id, metrics=lacking[first : first + _BATCH])
    if tags:
        store.log_batch(run_id, tags=[RunTag(name, value) for name, value in tags.items()])
    for path in files:
        if path.is_file():
            store.log_artifact(run_id, str(path))


class TrackedRun:
    """A run that is brought up to date; a store that fails costs one warning, never the training.

    What it was not told is missing until the next update that succeeds, which logs all that lacks.

    Arguments:
        run_id: from `mlflow_store.start_run`; with None every call does nothing.

    Example:
        >>> TrackedRun(None).update({1: {"train_nats": 1.0}})
    """

    def __init__(self, run_id: str | None) -> None:
        self.run_id = run_id
        self._fails, self._next = False, -math.inf

    @property
    def is_due(self) -> bool:
        """Whether a training under way may spend time on an update."""
        return self.run_id is not None and time.monotonic() >= self._next

    def update(
        self,
        curves: Curves | None = None,
        values: Mapping[str, float] | None = None,
        tags: Mapping[str, str] | None = None,
        files: Iterable[Path] = (),
        status: str | None = None,
    ) -> None:
        """Log what the run lacks, as `project` does, and end it if a status is given.

        A status is FINISHED, or FAILED or KILLED, which are resumed. A run that could not be told
        all stays unfinished.
        """
        if self.run_id is None:
            return
        began = time.monotonic()
        try:
            store = mlflow_store.client()
            began = time.monotonic()  # importing mlflow takes no time of the server's
            project(store, self.run_id, curves, values, tags, files)
            if status is not None:
                store.set_terminated(self.run_id, status)
        except Exception as error:
            if not self._fails:
                what = "warning: logging to MLflow failed, going on without it: %s"
                log.warning(what, one_line(error))
            self._fails = True
        else:
            if self._fails:
                log.warning("logging to MLflow works again")
            self._fails = False
        now = time.monotonic()
        self._next = now + max(LEAST_SECONDS, PATIENCE * (now - began))


def end_by_error(run_id: str, error: BaseException) -> None:
    """End a run whose work does not finish: as KILLED if it was asked to stop, else as FAILED."""
    was_asked = isinstance(error, (KeyboardInterrupt, AskedToStop))
    TrackedRun(run_id).update(status="KILLED" if was_asked else "FAILED")
