"""A cluster that does not answer is one line, soon."""

from __future__ import annotations

import socket
import time

import pytest

from pipeline.cluster import connection
from pipeline.core.errors import UserError


def test_a_cluster_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    for address in (f"127.0.0.1:{port}", f"ray://127.0.0.1:{port}", "127.0.0.1:99999"):
        monkeypatch.setenv("RAY_ADDRESS", address)
        began = time.monotonic()
        with pytest.raises(UserError, match="RAY_ADDRESS=.*: cannot connect: expected") as caught:
            with connection.connected():
                raise AssertionError("connected")
        assert time.monotonic() - began < 20 and "\n" not in str(caught.value)


def test_a_cluster_that_keeps_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where packets are dropped, as by a firewall: connecting takes as long as it is let."""

    def silent(address: object, timeout: float) -> socket.socket:
        assert timeout <= 20
        raise TimeoutError("timed out")

    monkeypatch.setattr(socket, "create_connection", silent)
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    with pytest.raises(UserError, match="expected an answer within 10 s, got timed out"):
        with connection.connected():
            raise AssertionError("connected")
