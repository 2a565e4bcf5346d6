"""MLflow's pages: served on loopback, and no password on a command line."""

from __future__ import annotations

import os
import socket
import sys
from typing import Any

import pytest

from pipeline.tracking import mlflow_store
from stages import cli, ui

STORE = "postgresql://user:secret@host/runs"


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """What the process would have become, of a store with a password."""
    calls: list[tuple[Any, ...]] = []
    monkeypatch.setattr(mlflow_store, "tracking_uri", lambda: STORE)
    monkeypatch.setattr(mlflow_store, "require_store", lambda uri: uri)
    monkeypatch.setattr(mlflow_store, "overview", lambda store, address: f"{address}")
    monkeypatch.setattr(os, "execve", lambda *given: calls.append(given))
    return calls


def test_the_server_is_on_loopback_and_the_password_in_no_command_line(
    served: list[tuple[Any, ...]],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(sys, "argv", ["ui", "--port", "5001"])
    ui.main()
    ((program, command, environment),) = served
    assert program == command[0] == sys.executable
    assert command[1:] == ["-m", "mlflow", "ui", "--host", "127.0.0.1", "--port", "5001"]
    assert environment["MLFLOW_BACKEND_STORE_URI"] == STORE
    assert capsys.readouterr().out == "http://127.0.0.1:5001\n"


@pytest.mark.parametrize("arguments", [[], ["--port", "70000"]])
def test_a_taken_port_is_refused_before_any_address(
    served: list[tuple[Any, ...]],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        monkeypatch.setattr(sys, "argv", ["ui", *(arguments or ["--port", port])])
        with pytest.raises(SystemExit, match=r"^error: --port \d+: expected a free port, got .+$"):
            cli.in_one_line(ui.main)
    assert served == [] and capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("store", "arguments", "address"),
    [
        (STORE, ["--print"], "http://127.0.0.1:5000"),
        ("https://runs.example.org", [], "None"),  # of its own
    ],
)
def test_addresses_alone_are_printed(
    served: list[tuple[Any, ...]],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    store: str,
    arguments: list[str],
    address: str,
) -> None:
    monkeypatch.setattr(mlflow_store, "tracking_uri", lambda: store)
    monkeypatch.setattr(sys, "argv", ["ui", *arguments])
    ui.main()
    assert served == [] and capsys.readouterr().out == f"{address}\n"
