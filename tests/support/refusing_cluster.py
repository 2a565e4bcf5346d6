"""A cluster that cannot be had, for work that is to touch nothing before it knows."""

import contextlib
from collections.abc import Iterator

import pytest

from pipeline.cluster import connection
from pipeline.core.errors import UserError
from pipeline.tracking import mlflow_store

FAILING = ("connected", "require_resources")
MESSAGE = "^(RAY_ADDRESS|cluster): "


def forbid_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    def start_run(*_: object, **__: object) -> None:
        raise AssertionError("an MLflow run is touched")

    monkeypatch.setattr(mlflow_store, "start_run", start_run)


def refuse(monkeypatch: pytest.MonkeyPatch, failing: str) -> None:
    """Make one step of `FAILING` raise a `UserError`, and no MLflow run be started."""

    @contextlib.contextmanager
    def connected(*_: object) -> Iterator[None]:
        if failing == "connected":
            raise UserError("RAY_ADDRESS: cannot connect")
        yield

    def require_resources(_: object) -> None:
        raise UserError("cluster: expected 9 CPUs")

    monkeypatch.setattr(connection, "connected", connected)
    monkeypatch.setattr(connection, "require_resources", require_resources)
    forbid_runs(monkeypatch)
