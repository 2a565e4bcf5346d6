"""A cluster that cannot be had, for work that is to touch nothing before it knows."""

import contextlib
from collections.abc import Iterator

import pytest

from pipeline.cluster import connection
from pipeline.core.errors import UserError
from pipeline.tracking import mlflow_store
from tests.support.refusals import raising

FAILING = ("connected", "require_resources")
MESSAGE = "^(RAY_ADDRESS|cluster): "


def forbid_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    touched = AssertionError("an MLflow run is touched")
    monkeypatch.setattr(mlflow_store, "start_run", raising(touched))


def refuse(monkeypatch: pytest.MonkeyPatch, failing: str) -> None:
    """Make one step of `FAILING` raise a `UserError`, and no MLflow run be started."""

    @contextlib.contextmanager
    def connected(*_: object) -> Iterator[None]:
        if failing == "connected":
            raise UserError("RAY_ADDRESS: cannot connect")
        yield

    lacking = UserError("cluster: expected 9 CPUs")
    monkeypatch.setattr(connection, "connected", connected)
    monkeypatch.setattr(connection, "require_resources", raising(lacking))
    forbid_runs(monkeypatch)
