"""Locks: one holder, a line for the second."""

import errno
import fcntl
import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from pipeline.artifacts import locks
from pipeline.core import paths
from tests.support.refusals import raising, refused


def test_a_second_holder_is_refused_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "work" / "a.lock"
    for _ in range(2):  # what an earlier holder left holds nothing
        with locks.held(path, "training a"):
            with refused("^training a: expected to be alone, got another"):
                with locks.held(path, "training a"):
                    raise AssertionError("two at once")
            with locks.held(path.with_name("b.lock"), "training b"):
                pass


def test_another_user_can_hold_what_was_held(tmp_path: Path) -> None:
    """Lock files stay, also on a storage that users share."""
    with locks.held(tmp_path / "a.lock", "training a"):
        pass
    assert (tmp_path / "a.lock").stat().st_mode & 0o777 == 0o666


@pytest.mark.parametrize("in_repro", [False, True])
def test_those_who_wait_come_one_after_the_other(in_repro: bool, tmp_path, monkeypatch) -> None:
    """Stages of `make repro` wait, so that checkouts that share a storage take turns."""
    if in_repro:
        monkeypatch.setenv(paths.REPRO, str(os.getpid()))
    path, inside, most = tmp_path / "a.lock", [0], [0]

    def work() -> None:
        for _ in range(3):
            with locks.held(path, "registering a", wait=not in_repro):
                inside[0] += 1
                most[0] = max(most[0], inside[0])
                time.sleep(0.001)
                inside[0] -= 1

    with ThreadPoolExecutor(3) as pool:
        for done in [pool.submit(work) for _ in range(3)]:
            done.result(60)
    assert most == [1]


def test_a_storage_has_locks_for_all_who_share_it(workdir: Path) -> None:
    assert locks.path_beside("/shared/train", "a-1") == Path("/shared/train/.a-1.lock")
    for shared in ("file:///shared/train", "local:///shared/train"):
        assert locks.path_beside(shared, "a-1") == Path("/shared/train/.a-1.lock")
    assert locks.path_beside("s3://bucket/train", "a-1") == workdir / ".arcore/locks/a-1.lock"


def test_a_file_system_without_locks_is_named(tmp_path, monkeypatch) -> None:
    error = OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
    monkeypatch.setattr(fcntl, "flock", raising(error))
    path = tmp_path / "a.lock"
    with refused(f"^{path}: expected a file system with locks, got "):
        with locks.held(path, "training a"):
            raise AssertionError("alone without a lock")
