"""MLflow in one place: where runs are kept, and logging that never stops a training.

Nothing leaves the machine: the store is an SQLite file under the root folder unless
MLFLOW_TRACKING_URI names a server, and MLflow's telemetry is off. mlflow itself is imported on
first use, since that takes seconds.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline import paths
from pipeline.errors import UserError, one_line

if TYPE_CHECKING:
    from mlflow import MlflowClient

log = logging.getLogger(__name__)

IDENTITY = "arcore.identity"
_QUIET = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    "MLFLOW_LOGGING_LEVEL": "WARNING",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    # An unreachable server must cost seconds: MLflow's own defaults retry for minutes.
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "GIT_PYTHON_REFRESH": "quiet",
}
_MAX_PENDING = 100_000
_PARAM_LENGTH = 6000
_BATCH = 100


def configure() -> None:
    """Set MLflow's environment (telemetry off, short timeouts) where the user has not.

    Runs on import of this module, so before mlflow is imported. The `make ui` server reads the
    same variables.
    """
    for name, value in _QUIET.items():
        os.environ.setdefault(name, value)
    # A failure is reported here, once; MLflow would add a traceback, urllib3 each attempt.
    for name in ("mlflow.store.db.utils", "mlflow.system_metrics.system_metrics_monitor"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    logging.getLogger("urllib3.connectionpool").addFilter(
        lambda record: "/mlflow" not in record.getMessage()
    )


configure()


def tracking_uri() -> str:
    """Return the store's URI: MLFLOW_TRACKING_URI, or an SQLite file under `paths.root()`.

    The path of an SQLite URI is made absolute, since each process would resolve it anew.

    Example:
        >>> tracking_uri().startswith(("sqlite:////", "http", "file:"))
        True
    """
    uri = os.environ.get("MLFLOW_TRACKING_URI", "").strip()
    if not uri:
        return f"sqlite:///{paths.root() / 'mlflow.db'}"
    if uri.startswith("sqlite:///") and not uri.startswith("sqlite:////"):
        return f"sqlite:///{paths.root() / uri.removeprefix('sqlite:///')}"
    return uri


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Silence what MLflow's own code provokes; nothing that a user of ours could mend."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The ``noload`` loader strategy", DeprecationWarning)
        warnings.filterwarnings("ignore", ".*'str' dtypes are included by select_dtypes")
        warnings.filterwarnings("ignore", ".*Any type hint is inferred as AnyType", UserWarning)
        yield


def client(uri: str | None = None) -> MlflowClient:
    """Return a client of the store and its registry; the SQLite store is created if missing.

    Arguments:
        uri: the store; None for `tracking_uri()`.
    """
    uri = uri or tracking_uri()
    init_store(uri)
    with quiet():
        from mlflow import MlflowClient

        return MlflowClient(tracking_uri=uri, registry_uri=uri)


def init_store(uri: str | None = None) -> str:
    """Create the SQLite store once, before workers use it; nothing to do for a server.

    The schema is built in a temporary file under a file lock and renamed, so that neither a
    concurrent first use nor a kill leaves half a database.

    Returns:
        The store's URI, to hand to workers.
    """
    uri = uri or tracking_uri()
    if not uri.startswith("sqlite:///"):
        return uri
    path = Path(uri.removeprefix("sqlite:///"))
    if path.exists():
        return uri
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path.with_name(path.name + ".lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not path.exists():
            fresh = path.with_name(path.name + ".partial")
            fresh.unlink(missing_ok=True)
            with quiet():
                from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

                store = SqlAlchemyStore(  # type: ignore[no-untyped-call, unused-ignore]
                    f"sqlite:///{fresh}", artifact_root()
                )
            store._dispose_engine()  # type: ignore[no-untyped-call, unused-ignore]
            os.replace(fresh, path)
    return uri


def artifact_root() -> str:
    """Return where a local store keeps artifacts: `<root>/mlartifacts`, as a file URI."""
    return (paths.root() / "mlartifacts").as_uri()


def require_store(uri: str | None = None) -> MlflowClient:
    """Return a client of a store that answers.

    Raises:
        UserError: if the store cannot be reached.
    """
    uri = uri or tracking_uri()
    try:
        store = client(uri)
        store.search_experiments(max_results=1)
    except Exception as error:
        raise UserError(f"MLflow store {uri} is unreachable: {one_line(error)}") from error
    return store


def experiment_id(store: MlflowClient, name: str) -> str:
    """Return the id of the MLflow experiment called `name`, made (or restored) if needed."""
    found = store.get_experiment_by_name(name)
    if found is None:
        local = str(store.tracking_uri).startswith("sqlite:")
        try:
            location = f"{artifact_root()}/{name}" if local else None
            return store.create_experiment(name, artifact_location=location)
        except Exception:
            found = store.get_experiment_by_name(name)
            if found is None:
                raise
    if found.lifecycle_stage == "deleted":
        store.restore_experiment(found.experiment_id)
    return str(found.experiment_id)


def start_run(
    experiment: str,
    run_name: str,
    identity: str,
    params: Mapping[str, object],
    tags: Mapping[str, str],
) -> str | None:
    """Start a run on the driver, or go on with the unfinished one of the same identity.

    Arguments:
        experiment: name of the MLflow experiment.
        run_name: what MLflow's pages call the run.
        identity: what makes two runs the same work, e.g. a hash of the config; a run that carries
            it and has not finished is resumed.
        params: logged once; a resumed run keeps those that it has.
        tags: set on every start.

    Returns:
        The run's id; None (after one warning) if the store cannot be reached.
    """
    try:
        store = client()
        return _start_run(store, experiment, run_name, identity, params, tags)
    except Exception as error:
        log.warning(
            "warning: MLflow store %s is unreachable, going on without it: %s",
            tracking_uri(),
            one_line(error),
        )
        return None


def _start_run(
    store: MlflowClient,
    experiment: str,
    run_name: str,
    identity: str,
    params: Mapping[str, object],
    tags: Mapping[str, str],
) -> str:
    from mlflow.entities import Param, RunTag

    where = experiment_id(store, experiment)
    same = find_runs(store, where, IDENTITY, identity)
    unfinished = [run for run in same if run.info.status != "FINISHED"]
    if unfinished:
        run = unfinished[0]
        store.update_run(run.info.run_id, status="RUNNING")
    else:
        run = store.create_run(where, run_name=run_name, tags={IDENTITY: identity})
    run_id = str(run.info.run_id)
    missing = [
        Param(key, str(value)[:_PARAM_LENGTH])
        for key, value in params.items()
        if key not in run.data.params
    ]
    for first in range(0, len(missing), _BATCH):
        store.log_batch(run_id, params=missing[first : first + _BATCH])
    if tags:
        store.log_batch(run_id, tags=[RunTag(key, str(value)) for key, value in tags.items()])
    return run_id


def find_runs(store: MlflowClient, experiment: str, tag: str, value: str) -> list[Any]:
    """Return the runs of an experiment (an id) that carry a tag's value, newest first."""
    quoted = value.replace("'", "\\'")
    return list(
        store.search_runs(
            [experiment],
            filter_string=f"tags.`{tag}` = '{quoted}'",
            order_by=["attributes.start_time DESC"],
        )
    )


def flatten(config: Mapping[str, Any], prefix: str = "") -> dict[str, object]:
    """Flatten a nested config to dotted names, as MLflow parameters.

    Example:
        >>> flatten({"model": {"name": "made", "hidden": [500]}})
        {'model.name': 'made', 'model.hidden': [500]}
    """
    flat: dict[str, object] = {}
    for key, value in config.items():
        if isinstance(value, Mapping):
            flat.update(flatten(value, f"{prefix}{key}."))
        else:
            flat[f"{prefix}{key}"] = value
    return flat


class RunLogger:
    """Logs to one run; a store that fails costs a warning, never the training.

    Metrics are kept during an outage and sent when the store answers again. Picklable, so that
    a driver can hand it to its workers; create it on the driver, where the store's URI is
    resolved. `failures` counts the calls that failed.

    Arguments:
        run_id: from `start_run`; with None every call does nothing.
        uri: the store; None for `tracking_uri()`.
        pause: seconds without attempts after a failure.

    Example:
        >>> RunLogger(None).metrics({"train_nats": 1.0}, step=0)
    """

    def __init__(self, run_id: str | None, uri: str | None = None, pause: float = 30.0) -> None:
        self.run_id = run_id
        self.uri = uri or tracking_uri()
        self.pause = pause
        self.failures = 0
        self._client: MlflowClient | None = None
        self._pending: list[tuple[str, float, int, int]] = []
        self._last: dict[str, tuple[int, float]] = {}
        self._down_since: float | None = None

    def __getstate__(self) -> dict[str, Any]:
        """Pickle everything but the connection."""
        return {**self.__dict__, "_client": None}

    def metrics(self, values: Mapping[str, float], step: int | None = None) -> None:
        """Log metrics, in one request.

        Arguments:
            values: by name; the unit belongs in the name (`valid_nats`, `valid_bits_per_dim`).
            step: steps that the run already has for a key are left out, so that a resumed run
                keeps a clean history. None for a final value, logged again only if it changed.
        """
        if self.run_id is None:
            return
        now = int(time.time() * 1000)
        final = step is None
        for key, value in values.items():
            self._pending.append((key, float(value), -1 if final else int(step or 0), now))
        del self._pending[:-_MAX_PENDING]
        self._try(self._flush)

    def artifact(self, path: str | os.PathLike[str], folder: str = "") -> None:
        """Log a file into a folder of the run's artifacts."""
        self._try(lambda store, run: store.log_artifact(run, str(path), folder or None))

    def table(self, rows: Mapping[str, list[Any]], name: str) -> None:
        """Log a table, given by columns, as a JSON artifact that MLflow's pages show."""

        def send(store: MlflowClient, run: str) -> None:
            with quiet():
                store.log_table(run, dict(rows), name)

        self._try(send)

    def finish(self, status: str = "FINISHED") -> None:
        """End the run: FINISHED, FAILED or KILLED (the last two are resumed later)."""

        def end(store: MlflowClient, run: str) -> None:
            self._flush(store, run)
            store.set_terminated(run, status)

        self._try(end, insist=True)

    @contextlib.contextmanager
    def system_metrics(self, interval: float = 5.0) -> Iterator[None]:
        """Record CPU, memory, disk, network (and GPU) use under `system/` while inside.

        Arguments:
            interval: seconds between samples.
        """
        monitor: Any = None

        def start(store: MlflowClient, run: str) -> None:
            nonlocal monitor
            from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

            store.get_run(run)
            monitor = SystemMetricsMonitor(  # type: ignore[no-untyped-call, unused-ignore]
                run, sampling_interval=interval, resume_logging=True, tracking_uri=self.uri
            )
            monitor.start()

        self._try(start)
        try:
            yield
        finally:
            if monitor is not None:
                monitor.finish()

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

        sending, kept = [], list(self._pending)
        for key, value, step, moment in kept:
            last = self._last_logged(store, run, key)
            final = step < 0
            if last is not None and (last[1] == value if final else step <= last[0]):
                continue
            self._last[key] = (max(step, 0), value)
            sending.append(Metric(key, value, moment, max(step, 0)))
        try:
            for first in range(0, len(sending), 1000):
                store.log_batch(run, metrics=sending[first : first + 1000])
        except Exception:
            self._last.clear()
            raise
        del self._pending[: len(kept)]

    def _last_logged(self, store: MlflowClient, run: str, key: str) -> tuple[int, float] | None:
        if key not in self._last:
            history = store.get_metric_history(run, key)
            if not history:
                return None
            newest = max(history, key=lambda metric: (metric.step, metric.timestamp))
            self._last[key] = (newest.step, newest.value)
        return self._last[key]

    def _try(self, action: Callable[[MlflowClient, str], object], insist: bool = False) -> None:
        if self.run_id is None:
            return
        waiting = self._down_since is not None and (
            time.monotonic() - self._down_since < self.pause
        )
        if waiting and not insist:
            return
        try:
            self._client = self._client or client(self.uri)
            action(self._client, self.run_id)
        except Exception as error:
            if self._down_since is None:
                log.warning(
                    "warning: logging to MLflow failed, going on without it: %s", one_line(error)
                )
            self.failures += 1
            self._down_since = time.monotonic()
        else:
            if self._down_since is not None:
                log.warning("logging to MLflow works again")
            self._down_since = None
