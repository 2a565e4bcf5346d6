"""Checkpoints of a training, on a disk and in an object store."""

import errno
import os
import threading
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.core import atomic, storage
from pipeline.core.errors import SiteError
from pipeline.training import checkpoint_store
from pipeline.training.checkpoint_store import CheckpointStore
from tests.support.refusals import raising


@pytest.fixture(params=["folder", "memory"])
def store(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[CheckpointStore]:
    in_memory = f"memory://{uuid.uuid4().hex}/training"
    place = str(tmp_path / "training") if request.param == "folder" else in_memory
    yield CheckpointStore(place)
    storage.remove(place)


@pytest.fixture
def on_disk(tmp_path: Path) -> CheckpointStore:
    return CheckpointStore(str(tmp_path / "training"))


def write(store: CheckpointStore, text: str) -> None:
    with store.writing() as folder:
        (folder / "last.safetensors").write_text(text)
        (folder / "state.json").write_text(text)


def kept(store: CheckpointStore) -> list[str]:
    found = []
    for name in store.names():
        with store.opened(name) as folder:
            found.append((folder / "state.json").read_text())
    return found


def test_the_two_newest_are_kept(store: CheckpointStore) -> None:
    assert store.names() == []
    for number in range(12):
        write(store, str(number))
        assert kept(store) == [str(number), str(number - 1)][: number + 1]
    assert store.names() == ["checkpoint_000012", "checkpoint_000011"]


def test_a_training_goes_on_while_its_checkpoint_is_written(store: CheckpointStore) -> None:
    allowed = threading.Event()

    def later(folder: Path) -> None:
        assert allowed.wait(60)
        (folder / "state.json").write_text("later")

    store.save(later)
    assert store.names() == []
    allowed.set()
    store.save(raising(OSError(errno.ENOSPC, "No space left")))
    with pytest.raises(OSError, match="No space left"):
        store.save(later)
    store.wait()
    assert kept(store) == ["later"], "an error is raised once, and the checkpoint before is kept"


def stop_requested(store: CheckpointStore) -> bool:
    return CheckpointStore(store.place).stop_requested()


def test_a_request_to_stop_is_there_until_it_is_taken_back(store: CheckpointStore) -> None:
    assert not stop_requested(store)
    store.allow_to_run()
    assert not stop_requested(store) and store.names() == []
    store.request_stop()
    assert stop_requested(store)
    store.allow_to_run()
    assert not stop_requested(store)


def test_a_request_to_stop_is_looked_for_now_and_then_and_kept(
    store: CheckpointStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    is_local = storage.local_path(store.place) is not None
    seconds = checkpoint_store.POLL_SECONDS if is_local else checkpoint_store.REMOTE_POLL_SECONDS
    assert not store.stop_requested()
    store.request_stop()
    assert not store.stop_requested(), "not so soon"
    store._asked -= seconds
    with monkeypatch.context() as patch:
        patch.setattr(storage, "read_bytes", raising(SiteError("away")))
        assert not store.stop_requested(), "a storage that is away asks nobody to stop"
    store._asked -= seconds
    assert store.stop_requested()
    store.allow_to_run()
    assert store.stop_requested(), "a yes stays one"


def test_a_full_disk_is_one_and_keeps_no_part(on_disk: CheckpointStore) -> None:
    write(on_disk, "whole")
    with pytest.raises(OSError, match="No space left") as raised, on_disk.writing() as folder:
        (folder / "last.safetensors").write_text("half")
        raise OSError(errno.ENOSPC, "No space left on device")
    assert raised.value.errno == errno.ENOSPC
    place = Path(on_disk.place)
    (place / ".checkpoint_000002.partial").mkdir()  # a killed process left it
    write(on_disk, "next")
    assert kept(on_disk) == ["next", "whole"] and len(list(place.iterdir())) == 2


def test_files_and_folders_are_on_the_disk_before_the_rename(
    on_disk: CheckpointStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    events: list[str] = []
    replace = os.replace

    def recorded(old: Path, new: Path) -> None:
        replace(old, new)
        events.append("rename")

    def flush(path: Path) -> None:
        events.append(path.name)

    monkeypatch.setattr(os, "replace", recorded)
    monkeypatch.setattr(atomic, "flush", flush)
    write(on_disk, "a")
    assert sorted(events[:2]) == ["last.safetensors", "state.json"]
    assert events[2:] == [".checkpoint_000001.partial", "rename", "training"]


def test_an_object_store_that_refuses_is_an_os_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """Which has Ray Train restart the workers."""
    store = CheckpointStore(f"memory://{uuid.uuid4().hex}/training")
    monkeypatch.setattr(storage, "publish", raising(SiteError("memory: cannot write")))
    with pytest.raises(OSError, match="memory: cannot write"):
        write(store, "a")
    assert store.names() == []


def test_a_checkpoint_that_cannot_be_removed_is_left_and_said(
    on_disk: CheckpointStore, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """On NFS, where a file in it is open somewhere."""
    busy = SiteError(f"cannot remove: {os.strerror(errno.ENOTEMPTY)}")
    for number in range(2):
        write(on_disk, str(number))
    with monkeypatch.context() as patch:
        patch.setattr(storage, "remove", raising(busy))
        write(on_disk, "2")
    assert kept(on_disk) == ["2", "1", "0"] and "is left for now: " in caplog.text
    write(on_disk, "3")
    assert kept(on_disk) == ["3", "2"]
