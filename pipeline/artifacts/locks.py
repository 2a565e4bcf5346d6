"""One at a time: a lock for each output, held by an open file that the system closes with us.

An object store has no locks. There a holder writes a file of its own, again and again (`leased`).
"""

import contextlib
import errno
import itertools
import logging
import os
import platform
import random
import signal
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from pipeline.core import paths, storage
from pipeline.core.errors import UserError

log = logging.getLogger(__name__)
BEAT_SECONDS = 10.0  # between two signs of life of a holder
LOST_SECONDS = 60.0  # without one, after which others take what it held


def path_of(name: str) -> Path:
    """Return the lock file of an output of this project."""
    return paths.work() / "locks" / f"{name}.lock"


def path_beside(place: str, folder: str) -> Path:
    """Return the lock file of a folder in a storage: beside it, for all projects that share it.

    In an object store, which has no locks, the lease of this project.
    """
    local = storage.local_path(place)
    return path_of(folder) if local is None else local / f".{folder}.lock"


@contextlib.contextmanager
def held(path: Path, what: str, wait: bool = False) -> Iterator[None]:
    """Hold a lock within a block; a killed holder holds nothing, though the file stays.

    `wait` waits for another holder, with one line in the log; stages of `make repro` always do.
    The file names the process and the host that hold the lock, or did last.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # The file stays, and whoever shares the folder opens it for writing to hold it.
    lock = FileLock(path, mode=0o666, thread_local=False, fallback_to_soft=False)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        if _refuses(wait):
            raise UserError(
                f"{what}: expected to be alone, got another process of the same; wait for it"
            ) from None
        same = "waits for another process of the same"
        log.warning("warning: %s: %s (%s%s)", what, same, _holder(path), path)
        lock.acquire()
    except OSError as error:
        if error.errno not in (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP):
            raise
        raise UserError(
            f"{path}: expected a file system with locks, got {error.strerror}"
        ) from None
    try:
        _sign(path)
        yield
    finally:
        lock.release()


@contextlib.contextmanager
def leased(place: str, folder: str, what: str, wait: bool = False) -> Iterator[None]:
    """Hold a folder of an object store within a block, by a file next to it; elsewhere do nothing.

    A holder writes its file, lists all, and begins if there is no other. Object stores list what
    was written before, so that the later one of two to write sees the other. Both then withdraw,
    and try again. The caller has the lock of `path_beside`: a file of the same project is left by
    a killed process. So is another's that stays as it is for `LOST_SECONDS`. A holder without its
    file, since the storage was away for so long, ends itself by SIGTERM.
    """
    if storage.local_path(place) is not None:
        yield
        return
    owner = f"{uuid.getnode():x}:{path_of(folder)}"
    prefix = f".{folder}.lease."
    name = prefix + uuid.uuid4().hex
    mine, done = storage.join(place, name), threading.Event()

    def beat() -> None:
        for count in itertools.count(1):
            if done.wait(BEAT_SECONDS):
                return
            with contextlib.suppress(OSError, UserError):  # the next one may come through
                if not storage.exists(mine):
                    log.error("error: %s: another process took it over meanwhile; stops", what)
                    os.kill(os.getpid(), signal.SIGTERM)
                    return
                storage.write_bytes(mine, _sign_of_life(owner, count))

    beats = threading.Thread(target=beat, daemon=True)
    try:
        while True:
            holder = _living(place, prefix, owner)
            if holder is None:
                storage.write_bytes(mine, _sign_of_life(owner, 0))
                if _with_prefix(place, prefix) == [name]:
                    break
                storage.remove(mine)
            elif _refuses(wait):
                same = f"another process of the same ({holder})"
                raise UserError(f"{what}: expected to be alone, got {same}; wait for it")
            time.sleep(random.uniform(0, BEAT_SECONDS / 5))
        beats.start()
        yield
    finally:
        done.set()
        if beats.is_alive():
            beats.join()
        with contextlib.suppress(OSError, UserError):  # it is taken for a killed one's
            storage.remove(mine)


def _living(place: str, prefix: str, owner: str) -> str | None:
    """Return who else holds a lease, after removing what killed processes left."""
    for name in _with_prefix(place, prefix):
        location = storage.join(place, name)
        before, until = _read(location), time.monotonic() + LOST_SECONDS
        holder, _, whose = (before or "").partition("\n")
        if before is not None and not whose.startswith(f"{owner}\n"):
            log.info("waits up to %.0f s for a sign of life of %s", LOST_SECONDS, holder)
            while (now := _read(location)) == before and time.monotonic() < until:
                time.sleep(BEAT_SECONDS / 20)
            if now is not None and now != before:
                return holder
        storage.remove(location)
    return None


def _sign_of_life(owner: str, count: int) -> bytes:
    return f"process {os.getpid()} of {platform.node()}\n{owner}\n{count}".encode()


def _with_prefix(place: str, prefix: str) -> list[str]:
    return [name for name in storage.names(place) if name.startswith(prefix)]


def _read(location: str) -> str | None:
    with contextlib.suppress(FileNotFoundError):
        return storage.read_bytes(location).decode(errors="replace")
    return None  # it is gone


def _refuses(wait: bool) -> bool:
    return not wait and paths.REPRO not in os.environ


def _sign(path: Path) -> None:
    """Name this process in a lock file, where it can be written: a full disk keeps no lock away."""
    with contextlib.suppress(OSError):
        file = os.open(path, os.O_WRONLY | os.O_TRUNC | os.O_NOFOLLOW)
        try:
            os.write(file, f"process {os.getpid()} of {platform.node()}, ".encode())
        finally:
            os.close(file)


def _holder(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
