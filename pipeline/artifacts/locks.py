"""One at a time: a lock for each output, held by an open file that the system closes with us."""

import contextlib
import errno
import logging
import os
import platform
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from pipeline.core import paths, storage
from pipeline.core.errors import UserError

log = logging.getLogger(__name__)


def path_of(name: str) -> Path:
    """Return the lock file of an output of this project."""
    return paths.work() / "locks" / f"{name}.lock"


def path_beside(place: str, folder: str) -> Path:
    """Return the lock file of a folder in a storage: beside it, for all projects that share it.

    In an object store, which has no locks, that of this project.
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
        if not wait and paths.REPRO not in os.environ:
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
