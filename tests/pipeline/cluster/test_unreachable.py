"""A cluster that does not answer is one line, soon."""

from __future__ import annotations

import socket
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from pipeline.cluster import connection
from pipeline.core.errors import UserError


def test_a_cluster_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    for address in (f"127.0.0.1:{port}", f"ray://127.0.0.1:{port}", "127.0.0.1:99999", "a..b:1"):
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


def test_what_listens_and_keeps_silent() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        with pytest.raises(UserError, match="expected an answer within 0.3 s, got timed out"):
            connection._require_answer(address, 0.3)


@pytest.mark.parametrize("says", [b"", b"HTTP/1.1 400 Bad Request\r\n\r\n"])
def test_what_listens_and_is_no_ray(says: bytes) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, ThreadPoolExecutor(1) as pool:

        def answer() -> None:
            client, _ = server.accept()
            with client:
                client.recv(1000)
                client.sendall(says)

        done = pool.submit(answer)
        address = f"127.0.0.1:{server.getsockname()[1]}"
        with pytest.raises(UserError, match=f"{address}: cannot connect: .* no Ray says"):
            connection._require_answer(address, 5.0)
        done.result()
