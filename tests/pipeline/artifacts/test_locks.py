"""Locks: one holder, a line for the second, nothing left behind."""

from __future__ import annotations

import errno
import fcntl
import os
import threading
import time
from pathlib import Path

import pytest

from pipeline.artifacts import locks
from pipeline.core.errors import UserError


def test_a_second_holder_is_refused_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "work" / "a.lock"
    with locks.held(path, "training a"):
        with pytest.raises(UserError, match="^training a: expected to be alone, got a process of"):
            with locks.held(path, "training a"):
                raise AssertionError("two at once")
        with locks.held(path.with_name("b.lock"), "training b"):
            pass
    assert list(path.parent.iterdir()) == []
    with locks.held(path, "training a"):
        pass


def test_another_users_lock_is_one_line_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who may not write to its file, as on a shared storage."""
    path, opened = tmp_path / "a.lock", os.open

    def reading_alone(name: Path, flags: int, *mode: int) -> int:
        if flags & os.O_RDWR:
            raise PermissionError(13, "Permission denied", str(name))
        return opened(name, flags, *mode)

    with locks.held(path, "training a"):
        monkeypatch.setattr(os, "open", reading_alone)
        with pytest.raises(UserError, match="^training a: expected to be alone, got a process of"):
            with locks.held(path, "training a"):
                raise AssertionError("two at once")
        with pytest.raises(PermissionError):
            with locks.held(tmp_path / "b.lock", "training b"):
                raise AssertionError("a lock without a file")


def test_a_storage_that_is_gone_hides_no_error(tmp_path: Path) -> None:
    storage = tmp_path / "storage"
    storage.mkdir()
    with pytest.raises(UserError, match="^a: its storage is gone$"):
        with locks.held(storage / ".a.lock", "training a"):
            storage.rename(tmp_path / "aside")
            storage.write_text("not a folder")
            raise UserError("a: its storage is gone")
    with locks.held(tmp_path / "aside" / ".a.lock", "training a"):
        pass  # what lies there still holds nothing


def test_what_a_killed_holder_left_holds_nothing(tmp_path: Path) -> None:
    path = tmp_path / "a.lock"
    path.write_text("123 on elsewhere")
    with locks.held(path, "training a"):
        pass
    assert not path.exists()


def test_those_who_wait_come_one_after_the_other(tmp_path: Path) -> None:
    path, inside, most = tmp_path / "a.lock", [0], [0]

    def work() -> None:
        for _ in range(20):
            with locks.held(path, "registering a", wait=True):
                inside[0] += 1
                most[0] = max(most[0], inside[0])
                time.sleep(0.001)
                inside[0] -= 1

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert most == [1] and not path.exists()


def test_a_storage_has_locks_for_all_who_share_it(workdir: Path) -> None:
    assert locks.path_beside("/shared/train", "a-1") == Path("/shared/train/.a-1.lock")
    for shared in ("file:///shared/train", "local:///shared/train"):
        assert locks.path_beside(shared, "a-1") == Path("/shared/train/.a-1.lock")
    assert locks.path_beside("s3://bucket/train", "a-1") == workdir / ".arcore/locks/a-1.lock"


@pytest.mark.parametrize("code", [errno.ENOSYS, errno.ENOLCK])
def test_a_file_system_without_locks_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    def refused(*_: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(fcntl, "flock", refused)
    path = tmp_path / "a.lock"
    with pytest.raises(UserError, match=f"^{path}: expected a file system with locks, got "):
        with locks.held(path, "training a"):
            raise AssertionError("alone without a lock")
