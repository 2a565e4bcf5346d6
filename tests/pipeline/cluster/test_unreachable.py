"""A cluster that does not answer is one line, soon; an embedded one keeps its files to itself."""

import resource
import socket
import stat
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import ray

from pipeline.cluster import connection
from pipeline.cluster.connection import connected
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


def test_an_address_space_in_which_rays_processes_abort(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda kind: (1 << 30, resource.RLIM_INFINITY))
    wanted = r"^ulimit -v: expected no limit, or at least \d{7,} \(KiB\) with Ray .*, got 1048576$"
    with pytest.raises(UserError, match=wanted), connection.connected():
        raise AssertionError("connected")


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


def test_the_files_of_an_embedded_ray_are_the_owners_alone_and_go(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Ray opens its own folder to all; the path of a socket in it has at most 107 characters."""
    options: dict[str, str] = {}
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(connection, "EMBEDDED", {})
    monkeypatch.setattr(ray, "init", lambda **given: options.update(given))
    for parent, where in ((tempfile.gettempdir(), tempfile.gettempdir()), (str(tmp_path), "/tmp")):
        monkeypatch.setenv("RAY_TMPDIR", parent)
        with connected():
            folder = Path(options["_temp_dir"]).parent
            assert stat.S_IMODE(folder.stat().st_mode) == 0o700 and str(folder.parent) == where
            assert len(options["_temp_dir"]) + len("/session_2026-12-31_23-59-59_") < 107 - 40
            Path(options["_temp_dir"]).mkdir()
        assert not folder.exists()
