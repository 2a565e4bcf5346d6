"""Stages that are called in the test's own process."""

import contextlib
import importlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipeline.cluster import connection
from stages import cli
from tests.support.projects import Project
from tests.support.refusals import raising


@pytest.fixture(scope="session")
def make_project(
    make_project: Callable[[dict[str, Any]], Project], request: pytest.FixtureRequest
) -> Callable[..., Project]:
    """As everywhere, with a warm process for its stages unless told not to, as `make repro` has."""

    def make(experiments: dict[str, Any], warmed: bool = True) -> Project:
        project = make_project(experiments)
        if warmed:
            project.warm = request.getfixturevalue("warm")
        return project

    return make


@pytest.fixture
def run_stage(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., str]:
    def run(folder: Path, stage: str, *arguments: str) -> str:
        monkeypatch.chdir(folder)
        for name in ("ARCORE_HOME", "ARCORE_CLUSTER", "MLFLOW_TRACKING_URI", "RAY_ADDRESS"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setattr(sys, "argv", [stage, *arguments])
        capsys.readouterr()
        cli.run(importlib.import_module(f"stages.{stage}").main)
        return capsys.readouterr().out

    return run


@pytest.fixture
def command(
    run_stage: Callable[..., str], capsys: pytest.CaptureFixture[str]
) -> Callable[..., str]:
    """A function that runs a stage which must fail, in this process; returns its one line."""

    def refused(folder: Path, stage: str, *arguments: str) -> str:
        with pytest.raises(SystemExit) as ended:
            run_stage(folder, stage, *arguments)
        assert isinstance(ended.value.code, str), "the exit status is 1 and the line goes to stderr"
        assert ended.value.code.startswith("error: ") and "\n" not in ended.value.code
        assert capsys.readouterr().err == ""
        return ended.value.code

    return refused


@pytest.fixture
def small_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    """A Ray of two CPUs that is asked what it has, and must not be used."""
    import ray

    monkeypatch.setattr(connection, "connected", contextlib.nullcontext)
    monkeypatch.setattr(ray, "init", raising(AssertionError("training starts")))
    monkeypatch.setattr(ray, "nodes", lambda: [{"Alive": True, "Resources": {"CPU": 2.0}}])
