"""A cluster's address, token, devices and storage; one that does not answer is one line, soon."""

import resource
import socket
import stat
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import ray
import torch

from pipeline.cluster import connection, shared_storage
from pipeline.cluster.connection import connected
from pipeline.cluster.devices import exact, local_device
from pipeline.core.errors import UserError
from pipeline.core.private_files import keep_token_private
from pipeline.experiments.schema import ClusterConfig
from tests.support.refusals import raising


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


def test_the_files_of_an_embedded_ray_are_the_owners_alone_and_go(monkeypatch, tmp_path) -> None:
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


TOKEN = {"RAY_AUTH_MODE": "token"}


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path / ".ray/auth_token"


def test_a_new_token_is_private_from_its_first_moment(file: Path, monkeypatch) -> None:
    late = AssertionError("a file that was readable until now")
    monkeypatch.setattr(Path, "chmod", raising(late))
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: keep_token_private(TOKEN), range(8)))
    assert file.stat().st_mode & 0o777 == 0o600 and file.parent.stat().st_mode & 0o777 == 0o700
    assert len(file.read_text()) == 64 and [path.name for path in file.parent.iterdir()] == [
        "auth_token"
    ]


def test_an_old_token_is_kept_and_made_private(file: Path) -> None:
    file.parent.mkdir()
    file.write_text("abc")
    file.chmod(0o644)
    keep_token_private(TOKEN)
    assert file.read_text() == "abc" and file.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    "variables",
    [{}, TOKEN | {"RAY_AUTH_TOKEN": "x"}, TOKEN | {"RAY_AUTH_TOKEN_PATH": "/elsewhere"}],
)
def test_nothing_is_made_where_no_token_is_asked_for_or_one_is_given(
    file: Path, variables: dict[str, str]
) -> None:
    keep_token_private(variables)
    assert not file.exists()


GPU = ClusterConfig(use_gpu=True)


def test_a_head_without_a_gpu_computes_on_its_processor(monkeypatch, caplog) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    with pytest.raises(UserError, match="cluster.use_gpu: expected a CUDA device"):
        local_device(GPU)
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    assert local_device(GPU) == torch.device("cpu")
    assert "this machine has no CUDA device" in caplog.text


def test_cuda_convolves_in_float32_and_the_same_each_time() -> None:
    cudnn, matmul = torch.backends.cudnn, torch.backends.cuda.matmul
    before = cudnn.allow_tf32, cudnn.deterministic
    torch.set_float32_matmul_precision("high")
    try:
        assert exact(torch.device("cpu")).type == "cpu"
        assert (cudnn.allow_tf32, cudnn.deterministic) == before and matmul.allow_tf32
        assert exact(torch.device("cuda")).type == "cuda"
        assert (cudnn.allow_tf32, cudnn.deterministic) == (False, True) and not matmul.allow_tf32
    finally:
        cudnn.allow_tf32, cudnn.deterministic = before
        torch.set_float32_matmul_precision("highest")


@pytest.mark.parametrize(
    ("place", "absolute"),
    [
        ("storage", "{here}/storage"),
        ("/mnt/arcore", "/mnt/arcore"),
        ("s3://bucket/arcore?scheme=http", "s3://bucket/arcore?scheme=http"),
    ],
)
@pytest.mark.parametrize("by", ["config", "environment"])
def test_a_place_is_absolute(workdir, monkeypatch, place: str, absolute: str, by: str) -> None:
    monkeypatch.setenv("ARCORE_STORAGE", "" if by == "config" else place)
    config = ClusterConfig(storage=place if by == "config" else None)
    assert shared_storage.shared_storage(config) == absolute.format(here=workdir)
    assert shared_storage.storage_of(config) == absolute.format(here=workdir)
    monkeypatch.setenv("ARCORE_STORAGE", "")
    assert shared_storage.shared_storage(ClusterConfig()) is None
