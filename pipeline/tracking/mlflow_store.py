"""MLflow in one place: where runs are kept, started and found.

Nothing leaves the machine: the store is an SQLite file under the root folder unless
MLFLOW_TRACKING_URI names a server, and MLflow's telemetry is off. mlflow itself is imported on
first use, since that takes seconds.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import re
import sys
import time
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING
from unittest import mock

from pipeline.core import paths
from pipeline.core.errors import explained, one_line, require
from pipeline.core.redaction import redacted

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

log = logging.getLogger(__name__)

RUN_KEY = "arcore.identity"  # the tag, named so when stores were first written
_EXPERIMENT_TAGS = {
    # by which MLflow's pages open an experiment on its runs, not on an empty page of traces
    "mlflow.experimentKind": "custom_model_development",
    "mlflow.note.content": (
        "Density models of one dataset. Lower `test_nats` is better. "
        "`curves/` has the metrics of each epoch."
    ),
}
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
_ARTIFACTS = "mlartifacts"  # folder of a local store
LOCAL = "http://127.0.0.1:5000"  # where `make ui` listens
PREFIX = "arcore-"
_BY_SCORE = "orderByKey=metrics.%60test_nats%60&orderByAsc=true"
_TRAINING = "workflowType=machine_learning"  # else MLflow shows its pages of traces and agents
_NAME_LENGTH, _PARAM_LENGTH = 250, 6000
_BATCH = 100
MOST_FOUND = 50_000  # that MLflow returns of a search at once


def configure() -> None:
    """Set MLflow's environment (telemetry off, short timeouts) where the user has not.

    Runs on import of this module, so before mlflow is imported. The `make ui` server reads the
    same variables.
    """
    for name, value in _QUIET.items():
        os.environ.setdefault(name, value)
    # A failure is reported here, once; MLflow would add a traceback, urllib3 each attempt.
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)
    logging.getLogger("urllib3.connectionpool").addFilter(
        lambda record: "/mlflow" not in record.getMessage()
    )


configure()


def tracking_uri() -> str:
    """Return the store's URI: MLFLOW_TRACKING_URI, or an SQLite file under `paths.root()`.

    The path of an SQLite URI is made absolute, since each process would resolve it again.

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
    """Silence what MLflow's own code provokes; nothing that a user of ours could repair."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The ``noload`` loader strategy", DeprecationWarning)
        warnings.filterwarnings("ignore", ".*'str' dtypes are included by select_dtypes")
        warnings.filterwarnings("ignore", ".*Any type hint is inferred as AnyType", UserWarning)
        warnings.filterwarnings("ignore", "Operation with range is deprecated")
        yield


def client(uri: str | None = None) -> MlflowClient:
    """Return a client of a store and its registry; an SQLite store is created if missing."""
    uri = uri or tracking_uri()
    init_store(uri)
    with quiet():
        from mlflow import MlflowClient

        return MlflowClient(tracking_uri=uri, registry_uri=uri)


def init_store(uri: str) -> str:
    """Create an SQLite store once, before workers use it; return its URI, to hand to them.

    The schema is built in a temporary file under a file lock and renamed, so that neither a
    concurrent first use nor a kill leaves half a database.
    """
    address, question, options = uri.partition("?")
    path = Path(address.removeprefix("sqlite:///"))
    if not uri.startswith("sqlite:///") or path.exists():
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
                    f"sqlite:///{fresh}{question}{options}", _artifacts()
                )
            store.engine.dispose()
            os.replace(fresh, path)
    return uri


def _artifacts(experiment: str = "") -> str:
    """Return where a local store keeps artifacts, as a file URI."""
    return (paths.root() / _ARTIFACTS / experiment).as_uri()


def require_store(uri: str | None = None) -> MlflowClient:
    """Return a client of a store that answers; a `UserError` if it does not."""
    uri = uri or tracking_uri()
    with explained(f"MLflow store {redacted(uri)} is unreachable:", Exception):
        store = client(uri)
        store.search_experiments(max_results=1)
    return store


def experiment_id(store: MlflowClient, name: str) -> str:
    """Return the id of the MLflow experiment called `name`, made (or restored) if needed.

    MLflow's pages open it on its runs, below a description.
    """
    fits = re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._ -]*", name) is not None
    expected = "a name of letters, digits, '.', '_', '-' and spaces"
    require(fits, "MLflow experiment", expected, name)
    place = _artifacts(name) if str(store.tracking_uri).startswith("sqlite:") else None
    found = store.get_experiment_by_name(name)
    if found is None:
        try:
            return store.create_experiment(name, artifact_location=place, tags=_EXPERIMENT_TAGS)
        except Exception:  # another process was first
            found = store.get_experiment_by_name(name)
            if found is None:
                raise
    if place and found.artifact_location.endswith(f"/{_ARTIFACTS}/{name}"):
        fits = found.artifact_location == place
        wanted = "this project's (if moved or copied: rm mlflow.db; stages.register --all)"
        require(fits, "mlflow.db", wanted, found.artifact_location)
    for key in _EXPERIMENT_TAGS.keys() - found.tags.keys():
        store.set_experiment_tag(found.experiment_id, key, _EXPERIMENT_TAGS[key])
    if found.lifecycle_stage == "deleted":
        store.restore_experiment(found.experiment_id)
    return str(found.experiment_id)


def experiment_of(dataset: str) -> str:
    """Return the name of the MLflow experiment that a dataset's runs are in."""
    return f"{PREFIX}{dataset}"


def start_run(
    experiment: str,
    run_name: str,
    key: str,
    params: Mapping[str, object],
    tags: Mapping[str, str],
    seconds_ago: float = 0.0,
    fresh: bool = False,
) -> str | None:
    """Start a run, or go on with the unfinished one of the same key; return its id.

    None, after one warning, if the store cannot be reached.

    Arguments:
        key: what makes two runs the same work, mostly a config hash.
        params: logged once; a resumed run keeps those that it has.
        tags: set on every start; of a `commit`, and of the command, MLflow's pages learn.
        seconds_ago: when a new run began.
        fresh: begin again; unfinished runs of the key end as killed.
    """
    try:
        store = client()
        where = experiment_id(store, experiment)
        run = _unfinished_run(store, where, key, fresh)
        if run is None:
            began = int((time.time() - seconds_ago) * 1000)
            run = store.create_run(where, began, {RUN_KEY: key}, run_name)
        else:
            store.update_run(run.info.run_id, status="RUNNING")
        _describe(store, run, params, tags)
        return str(run.info.run_id)
    except Exception as error:
        log.warning(
            "warning: MLflow store %s is unreachable, going on without it: %s",
            redacted(tracking_uri()),
            one_line(error),
        )
        return None


def _unfinished_run(store: MlflowClient, where: str, key: str, fresh: bool) -> Run | None:
    """Return the newest unfinished run of a key; if it is to begin again, end them all."""
    same = find_runs(store, where, RUN_KEY, key)
    unfinished = [run for run in same if run.info.status != "FINISHED"]
    for run in unfinished if fresh else ():  # else numbers of both would mix
        store.set_terminated(run.info.run_id, "KILLED")
        store.delete_tag(run.info.run_id, RUN_KEY)
    return None if fresh or not unfinished else unfinished[0]


def _describe(
    store: MlflowClient, run: Run, params: Mapping[str, object], tags: Mapping[str, str]
) -> None:
    from mlflow.entities import Param, RunTag

    named = {  # as `weight _kg_` for `weight (kg)`, which MLflow refuses
        re.sub(r"[^\w\-. :]", "_", name)[:_NAME_LENGTH]: str(value)[:_PARAM_LENGTH]
        for name, value in params.items()
    }
    missing = [Param(name, named[name]) for name in named if name not in run.data.params]
    for first in range(0, len(missing), _BATCH):
        store.log_batch(run.info.run_id, params=missing[first : first + _BATCH])
    every = source_tags(redacted(_command()), tags.get("commit")) | dict(tags)
    set_tags = [RunTag(name, str(value)) for name, value in every.items()]
    store.log_batch(run.info.run_id, tags=set_tags)


def source_tags(command: str, commit: str | None = None) -> dict[str, str]:
    """Return the tags from which MLflow's pages show a run's source and version.

    Example:
        >>> source_tags("python -m stages.train toy", "0123abcd-dirty")["mlflow.source.git.commit"]
        '0123abcd'
    """
    tags = {"mlflow.source.name": command, "mlflow.source.type": "LOCAL"}
    if commit and commit != "unknown":
        tags["mlflow.source.git.commit"] = commit.removesuffix("-dirty")
    return tags


def _command() -> str:
    """Return the command line of this process; of a stage, as it is typed."""
    program, *rest = sys.argv or [""]
    path = Path(program)
    name = f"python -m stages.{path.stem}" if path.parent.name == "stages" else path.name
    return " ".join([name, *rest])


def find_runs(store: MlflowClient, experiment: str, tag: str, value: str) -> list[Run]:
    """Return the runs of an experiment (an id) that carry a tag's value, newest first."""
    quoted = value.replace("'", "\\'")
    return store.search_runs(
        [experiment],
        filter_string=f"tags.`{tag}` = '{quoted}'",
        max_results=MOST_FOUND,
        order_by=["attributes.start_time DESC"],
    )


@contextlib.contextmanager
def fluent(uri: str) -> Iterator[ModuleType]:
    """Point MLflow's module-level functions at a store and its registry for a while."""
    import mlflow

    with mock.patch.dict(os.environ):  # into which MLflow writes the URIs too
        mlflow.set_tracking_uri(uri)
        mlflow.set_registry_uri(uri)
        try:
            yield mlflow
        finally:
            mlflow.set_tracking_uri(None)  # type: ignore[arg-type, unused-ignore]
            mlflow.set_registry_uri(None)  # type: ignore[arg-type, unused-ignore]


def server() -> str:
    """Return the address of the server that MLFLOW_TRACKING_URI names, else of `make ui`."""
    uri = os.environ.get("MLFLOW_TRACKING_URI", "").strip()
    return redacted(uri).rstrip("/") if uri.startswith(("http://", "https://")) else LOCAL


def run_page(run_id: str) -> str:
    """Return the address of a run's page.

    Example:
        >>> "/#/runs/4d1f" in run_page("4d1f")
        True
    """
    return f"{server()}/#/runs/{run_id}?{_TRAINING}"


def models_page() -> str:
    """Return the address of the page of registered models."""
    return f"{server()}/#/models?{_TRAINING}"


def overview(store: MlflowClient, address: str | None = None) -> str:
    """List the addresses on a server of experiments' runs, best score first, and of models."""
    base = (address or server()).rstrip("/")
    with quiet():
        experiments = store.search_experiments(max_results=MOST_FOUND, order_by=["name ASC"])
        models = store.search_registered_models(max_results=1)
    lines = [
        (
            one.name.removeprefix(PREFIX),
            f"{base}/#/experiments/{one.experiment_id}/runs?{_TRAINING}&{_BY_SCORE}",
        )
        for one in experiments
        if one.name.startswith(PREFIX)
    ]
    if models:
        lines.append(("models", f"{base}/#/models?{_TRAINING}"))
    if not lines:
        return f"no runs yet; MLflow on {base}"
    width = max(len(name) for name, _ in lines)
    return "\n".join(f"  {name.ljust(width)}  {page}" for name, page in lines)
