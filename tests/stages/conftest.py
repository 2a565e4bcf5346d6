"""Stages that are called in the test's own process."""

from __future__ import annotations

import contextlib
import importlib
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipeline.cluster import connection
from stages import cli
from tests.support.checkouts import copy_code
from tests.support.projects import Project


@pytest.fixture(scope="session")
def make_project(
    make_project: Callable[[dict[str, Any]], Project], warm: dict[str, str]
) -> Callable[[dict[str, Any]], Project]:
    """As everywhere, with a warm process for its stages, as `make repro` has one."""

    def make(experiments: dict[str, Any]) -> Project:
        project = make_project(experiments)
        project.warm = warm
        return project

    return make


@pytest.fixture
def command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., str]:
    """A function that runs a stage which must fail, in this process; returns its one line."""

    def run(folder: Path, stage: str, *arguments: str) -> str:
        monkeypatch.chdir(folder)
        for name in ("ARCORE_HOME", "ARCORE_CLUSTER", "MLFLOW_TRACKING_URI", "RAY_ADDRESS"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setattr(sys, "argv", [stage, *arguments])
        with pytest.raises(SystemExit) as ended:
            cli.run(importlib.import_module(f"stages.{stage}").main)
        assert isinstance(ended.value.code, str), "the exit status is 1 and the line goes to stderr"
        assert ended.value.code.startswith("error: ") and "\n" not in ended.value.code
        assert capsys.readouterr().err == ""
        return ended.value.code

    return run


@pytest.fixture
def small_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    """A Ray of two CPUs that is asked what it has, and must not be used."""
    import ray

    def init(*_: object, **__: object) -> None:
        raise AssertionError("training starts")

    monkeypatch.setattr(connection, "connected", contextlib.nullcontext)
    monkeypatch.setattr(ray, "init", init)
    monkeypatch.setattr(ray, "nodes", lambda: [{"Alive": True, "Resources": {"CPU": 2.0}}])


@pytest.fixture
def checkout(tmp_path: Path, migrated: Path) -> Project:
    """A copy of this checkout's code, with no dataset and no experiment."""
    copy_code(tmp_path)
    shutil.copy(migrated, tmp_path / "mlflow.db")
    (tmp_path / "params.yaml").write_text("datasets: []\nexperiments: {}\n")
    return Project(tmp_path, tmp_path)
