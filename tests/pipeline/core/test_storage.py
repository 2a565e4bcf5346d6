"""Places: folders, file://, a protocol of fsspec, and S3 where moto is installed."""

import contextlib
import fcntl
import os
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import fsspec
import pytest
import torch
from fsspec.implementations.local import LocalFileSystem as SharedDisk
from pyarrow.fs import FileSelector, LocalFileSystem, PyFileSystem, S3FileSystem

from pipeline.artifacts import locks
from pipeline.core import paths, storage
from pipeline.core.errors import UserError
from pipeline.data.loading import Loader
from pipeline.data.manifest import read_manifest
from pipeline.data.shuffling import BatchPlan
from tests.support.refusals import killed_in_removing, raising, refused


class Shared(SharedDisk):
    """A disk that all hosts see, under a protocol of its own."""

    protocol = "shared"


@pytest.fixture(scope="module")
def s3() -> Iterator[str]:
    """An S3 server on loopback; yields the URI of a bucket, with a query."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    keys = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret"}
    with pytest.MonkeyPatch.context() as patch:
        for name, value in (keys | {"AWS_EC2_METADATA_DISABLED": "true"}).items():
            patch.setenv(name, value)
        try:
            for _ in range(300):
                with socket.socket() as probe:
                    if probe.connect_ex(("127.0.0.1", port)) == 0:
                        break
                time.sleep(0.1)
            else:
                pytest.fail("moto did not answer within 30 seconds")
            options: dict[str, Any] = {"endpoint_override": f"127.0.0.1:{port}", "scheme": "http"}
            S3FileSystem(**options, region="us-east-1", allow_bucket_creation=True).create_dir(
                "bucket"
            )
            query = "&".join(f"{name}={value}" for name, value in options.items())
            yield f"s3://bucket?{query}&region=us-east-1"
        finally:
            server.terminate()
            server.wait()


@pytest.fixture(params=["folder", "file", "shared", "s3"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "s3":
        return storage.join(request.getfixturevalue("s3"), tmp_path.name)
    root = tmp_path / "storage"
    if request.param == "shared":
        fsspec.register_implementation("shared", Shared, clobber=True)
        return f"shared://{root}"
    return root.as_uri() if request.param == "file" else str(root)


def content_at(place: str) -> dict[str, bytes]:
    found, path = storage.filesystem(place)
    listed = found.get_file_info(FileSelector(path, recursive=True))
    return {
        info.path[len(path) + 1 :]: storage.read_bytes(storage.join(place, info.base_name))
        for info in listed
        if info.is_file
    }


def folder_bytes(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_publish_read_train_remove(place: str, few_digits: Path) -> None:
    target = storage.join(place, "shards", "digits_binary-0123")
    storage.publish(few_digits, target)
    assert content_at(target) == folder_bytes(few_digits)
    assert read_manifest(target) == read_manifest(few_digits)
    plan = BatchPlan(batch_size=10, shuffle_rows=20)
    loaders = [Loader(at, "train", plan) for at in (few_digits, target)]
    here, there = (torch.cat([batch.x for batch in loader.epoch(1)]) for loader in loaders)
    assert torch.equal(here, there)
    storage.remove(target)
    storage.remove(target)
    with pytest.raises(FileNotFoundError):
        storage.read_bytes(storage.join(target, "manifest.json"))
    with pytest.raises(UserError, match="manifest.json: file not found") as raised:
        read_manifest(target)
    assert "?" not in str(raised.value)


def test_publish_replaces_other_content_alone(
    place: str, few_digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = storage.join(place, "digits")
    other = tmp_path / "other"
    other.mkdir()
    (other / "manifest.json").write_text("{}")
    storage.publish(other, target)
    assert content_at(target) == {"manifest.json": b"{}"}
    storage.publish(few_digits, target)
    monkeypatch.setattr(storage, "_put", None)
    storage.publish(few_digits, target)
    assert content_at(target) == folder_bytes(few_digits)
    for _ in range(2):
        storage.remove(target)
        assert not storage.exists(target)


def test_purged_shards_are_repaired_on_publish(place: str, few_digits: Path) -> None:
    target = storage.join(place, "digits")
    storage.publish(few_digits, target)
    found, root = storage.filesystem(target)
    found.delete_file(f"{root}/train-00000-of-00001.parquet")
    storage.publish(few_digits, target)
    assert content_at(target) == folder_bytes(few_digits)


def test_many_publish_at_the_same_time(place: str, few_digits: Path) -> None:
    target = storage.join(place, "digits")
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: storage.publish(few_digits, target), range(8)))
    assert content_at(target) == folder_bytes(few_digits)


def test_a_failed_publish_leaves_no_manifest(place: str, few_digits, tmp_path, monkeypatch) -> None:
    full = OSError(28, "No space left on device")
    monkeypatch.setattr("pipeline.core.storage.shutil.copyfileobj", raising(full))
    target = storage.join(place, "digits")
    with pytest.raises((OSError, UserError), match="No space left on device"):
        storage.publish(few_digits, target)
    with pytest.raises(FileNotFoundError):
        storage.read_bytes(storage.join(target, "manifest.json"))
    if not storage.is_uri(place):
        assert list(Path(target).iterdir()) == []


def test_publish_needs_a_manifest(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="manifest.json: file not found"):
        storage.publish(tmp_path, tmp_path / "there")


def test_filesystem_of_local_places(workdir: Path) -> None:
    for location in ("a/b", Path("a/b"), (workdir / "a/b").as_uri(), f"{workdir}/a/b/"):
        found, path = storage.filesystem(location)
        assert isinstance(found, LocalFileSystem) and path == str(workdir / "a/b")
    assert isinstance(storage.filesystem("memory://a/b")[0], PyFileSystem)


@pytest.mark.parametrize(
    ("location", "message"),
    [
        ("odd://a/b", "odd://a/b: expected a folder or the URI .*: Protocol not known: odd"),
        ("s3a://k:secret@a/b", "s3a://a/b: expected a folder or .*: Install s3fs"),
        ("s3://a/b?odd=1", "s3://a/b: expected a folder or .*: Unexpected query parameter"),
        ("file://here/b", "file://here/b: expected a folder or"),
        ("dir::file:///tmp", "chained URIs are not supported"),
    ],
)
def test_unknown_places(location: str, message: str) -> None:
    with refused(message):
        storage.filesystem(location)


def test_the_root_is_not_removed() -> None:
    with pytest.raises(ValueError, match="expected a path below the root, got /"):
        storage.remove("/")


def test_a_kill_midway_leaves_no_half_of_what_is_removed(tmp_path, monkeypatch) -> None:
    folder = tmp_path / "toy"
    folder.mkdir()
    with monkeypatch.context() as midway, pytest.raises(SystemExit):
        midway.setattr(os, "replace", killed_in_removing)
        storage.remove(folder.as_uri())
    assert not folder.exists() and len(list(tmp_path.iterdir())) == 1
    storage.remove(folder)
    assert list(tmp_path.iterdir()) == []


def test_the_next_writer_removes_what_a_killed_one_left_and_nothing_else(tmp_path: Path) -> None:
    left, live, young, other = (
        tmp_path / f".{name}.partial" for name in ("a.1", "a.2", "a.3", "b.1")
    )
    for path in (left, live, young, other):
        path.write_bytes(b"half")
    for path in (left, live, other):
        os.utime(path, (0, 0))
    with open(live, "rb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        storage.write_bytes(tmp_path / "a", b"whole")
    assert sorted(tmp_path.iterdir()) == sorted([live, young, other, tmp_path / "a"])


def test_one_process_at_a_time_holds_a_folder(place: str, tmp_path: Path, monkeypatch) -> None:
    """Also where there are no locks; a killed holder holds nothing, to its own project at once."""
    monkeypatch.setattr(locks, "BEAT_SECONDS", 0.2)
    monkeypatch.setattr(locks, "LOST_SECONDS", 2.0)
    monkeypatch.delenv(paths.REPRO, raising=False)

    @contextlib.contextmanager
    def held(project: str) -> Iterator[None]:
        with contextlib.ExitStack() as stack:
            with monkeypatch.context() as patch:
                patch.setattr(paths, "work", lambda: tmp_path / project)
                lock = locks.path_beside(place, "a-1")
                stack.enter_context(locks.held(lock, "training a"))
                stack.enter_context(locks.leased(place, "a-1", "training a"))
            yield

    with held("first"):
        for project in ("first", "second"):
            with refused("^training a: expected to be alone, got another process of the same"):
                with held(project):
                    raise AssertionError("two at once")
    with held("second"):
        pass
    if storage.local_path(place) is not None:
        return
    left = storage.join(place, ".a-1.lease.killed")
    owner = f"{uuid.getnode():x}:{tmp_path}/first/locks/a-1.lock"
    for project, least in {"first": 0.0, "second": 2.0}.items():
        storage.write_bytes(left, f"process 1 of there\n{owner}\n7".encode())
        began = time.monotonic()
        with held(project):
            assert least <= time.monotonic() - began < least + 2.0
            assert not storage.exists(left)
    assert [name for name in storage.names(place) if "lease" in name] == []
