"""MLflow's pages: served on loopback, and no password on a command line."""

import os
import socket
import sys
from collections.abc import Callable
from typing import Any

import pytest

from pipeline.tracking import mlflow_store
from stages import cli, ui

STORE = "postgresql://user:secret@host/runs"


@pytest.fixture
def run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[list[tuple[Any, ...]], str]]:
    """A function that runs the stage; returns what the process would have become, and its text."""
    calls: list[tuple[Any, ...]] = []
    monkeypatch.setattr(mlflow_store, "require_store", lambda uri: uri)
    monkeypatch.setattr(mlflow_store, "overview", lambda store, address: f"{address}")
    monkeypatch.setattr(os, "execve", lambda *given: calls.append(given))

    def run(*arguments: str, store: str = STORE) -> tuple[list[tuple[Any, ...]], str]:
        monkeypatch.setattr(mlflow_store, "tracking_uri", lambda: store)
        monkeypatch.setattr(sys, "argv", ["ui", *arguments])
        cli.in_one_line(ui.main)
        return calls, capsys.readouterr().out

    return run


def test_the_server_is_on_loopback_and_the_password_in_no_command_line(run) -> None:
    ((program, command, environment),), said = run("--port", "5001")
    assert program == command[0] == sys.executable
    assert command[1:] == ["-m", "mlflow", "ui", "--host", "127.0.0.1", "--port", "5001"]
    assert environment["MLFLOW_BACKEND_STORE_URI"] == STORE
    assert said == "http://127.0.0.1:5001\n"


@pytest.mark.parametrize("port", [None, "70000"])
def test_a_taken_port_is_refused_before_any_address(
    run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], port: str | None
) -> None:
    monkeypatch.setattr(os, "execve", None)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(SystemExit, match=r"^error: --port \d+: expected a free port, got .+$"):
            run("--port", port or str(taken.getsockname()[1]))
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("store", "arguments", "address"),
    [
        (STORE, ["--print"], "http://127.0.0.1:5000"),
        ("https://runs.example.org", [], "None"),  # of its own
    ],
)
def test_addresses_alone_are_printed(run, store: str, arguments: list[str], address: str) -> None:
    assert run(*arguments, store=store) == ([], f"{address}\n")
