"""Logging to a run of MLflow that never stops a training."""

from __future__ import annotations

import contextlib
import logging
import math
import os
import time
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING

from pipeline.core.errors import one_line
from pipeline.tracking import mlflow_store

if TYPE_CHECKING:
    from mlflow import MlflowClient

log = logging.getLogger(__name__)

PAUSE_SECONDS = 120.0  # without a try after a failure: a host that is off lets each try wait
CURVES = "curves/"  # first among the sections of MLflow's charts, which go by the first part
# MLflow's charts show ten letters of a name: too few to tell this one from `valid_nats`.
_RENAMED = {"valid_bits_per_dim": "bits_per_dim_valid"}
MOST_PENDING = 200_000  # metrics kept during an outage, some 30 MB
_BATCH = 1000


class RunLogger:
    """Logs to one run; a store that fails costs a warning, never the training.

    Metrics are kept during an outage, the newest 200,000, and sent when the store answers again.
    `failures` counts the calls that failed.

    Arguments:
        run_id: from `mlflow_store.start_run`; with None every call does nothing.
        uri: the store; None for `mlflow_store.tracking_uri()`.
        interval: seconds between two requests with metrics of steps, which wait that long; each
            costs tens of milliseconds. `flushed` sends the last ones.

    Example:
        >>> RunLogger(None).metrics({"train_nats": 1.0}, step=0)
    """

    def __init__(self, run_id: str | None, uri: str | None = None, interval: float = 0.0) -> None:
        self.run_id, self.interval, self.failures = run_id, interval, 0
        self.uri = uri or mlflow_store.tracking_uri()
        self._client: MlflowClient | None = None
        self._pending: list[tuple[str, float, int, int]] = []
        self._last: dict[str, tuple[int, float]] = {}
        self._down_since: float | None = None
        self._sent = -math.inf

    def metrics(self, values: Mapping[str, float], step: int | None = None) -> None:
        """Log metrics, in one request, or in the next one that `interval` allows.

        Arguments:
            values: by name; the unit belongs in the name (`valid_nats`, `valid_bits_per_dim`).
            step: of a curve, `curves/` and its name in the store. Steps that the run already has
                are left out, so that a resumed run keeps a clean history. None for a final value,
                logged again only if it changed.
        """
        if self.run_id is None:
            return
        now, at = int(time.time() * 1000), -1 if step is None else step
        for key, value in values.items():
            name = key if step is None or "/" in key else CURVES + _RENAMED.get(key, key)
            self._pending.append((name, float(value), at, now))
        del self._pending[:-MOST_PENDING]
        if step is None or time.monotonic() - self._sent >= self.interval:
            self._try(self._flush)

    def tags(self, values: Mapping[str, str]) -> None:
        """Set tags of the run."""

        def send(store: MlflowClient, run: str) -> None:
            for name, value in values.items():
                store.set_tag(run, name, value)

        self._try(send)

    def artifact(self, path: str | os.PathLike[str]) -> None:
        """Log a file."""
        self._try(lambda store, run: store.log_artifact(run, str(path)))

    def finish(self, status: str = "FINISHED", ended: int | None = None) -> None:
        """End the run, now or at a time in ms: FINISHED, or FAILED or KILLED, which are resumed."""

        def end(store: MlflowClient, run: str) -> None:
            self._flush(store, run)
            store.set_terminated(run, status, ended)

        self._try(end, insist=True)

    @contextlib.contextmanager
    def flushed(self) -> Iterator[None]:
        """Send at the end what an outage kept back, without waiting for its pause to be over."""
        try:
            yield
        finally:
            if self._pending:
                self._try(self._flush, insist=True)

    def _flush(self, store: MlflowClient, run: str) -> None:
        from mlflow.entities import Metric

        self._sent = time.monotonic()
        sending, count = [], len(self._pending)
        try:
            for key, value, step, moment in self._pending:
                last = self._last_logged(store, run, key)
                if last is None or (last[1] != value if step < 0 else step > last[0]):
                    self._last[key] = (max(step, 0), value)
                    sending.append(Metric(key, value, moment, max(step, 0)))
            for first in range(0, len(sending), _BATCH):
                store.log_batch(run, metrics=sending[first : first + _BATCH])
        except Exception:
            self._last.clear()
            raise
        del self._pending[:count]

    def _last_logged(self, store: MlflowClient, run: str, key: str) -> tuple[int, float] | None:
        if key not in self._last:
            history = store.get_metric_history(run, key)
            if not history:
                return None
            newest = max(history, key=lambda metric: (metric.step, metric.timestamp))
            self._last[key] = (newest.step, newest.value)
        return self._last[key]

    def _try(self, action: Callable[[MlflowClient, str], object], insist: bool = False) -> None:
        now, since = time.monotonic(), self._down_since
        waits = since is not None and now - since < PAUSE_SECONDS and not insist
        if self.run_id is None or waits:
            return
        try:
            self._client = self._client or mlflow_store.client(self.uri)
            action(self._client, self.run_id)
        except Exception as error:
            self.failures += 1
            self._down_since = time.monotonic()
            if since is None:
                what = "warning: logging to MLflow failed, going on without it: %s"
                log.warning(what, one_line(error))
        else:
            self._down_since = None
            if since is not None:
                log.warning("logging to MLflow works again")


@contextlib.contextmanager
def ended_by_errors(run_id: str | None, *asked: type[BaseException]) -> Iterator[None]:
    """End a run whose work does not finish, as FAILED, or as KILLED where it was asked to stop.

    Work that finishes says so itself, as the last thing inside: until then it may fail. `asked` are
    exceptions by which it was asked to stop, besides Ctrl-C.
    """
    try:
        yield
    except BaseException as error:
        was_asked = isinstance(error, (KeyboardInterrupt, *asked))
        RunLogger(run_id).finish("KILLED" if was_asked else "FAILED")
        raise
