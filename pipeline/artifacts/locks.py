"""One at a time: a lock for each output, held by an open file that the system closes with us."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import logging
import os
import socket
from collections.abc import Iterator
from pathlib import Path

from pipeline.core import paths, storage
from pipeline.core.errors import UserError

log = logging.getLogger(__name__)


def path_of(name: str) -> Path:
    """Return the lock file of an output of this project.

    Example:
        >>> path_of("evaluate-digits-made").name
        'evaluate-digits-made.lock'
    """
    return paths.work() / "locks" / f"{name}.lock"


def path_beside(place: str, folder: str) -> Path:
    """Return the lock file of a folder in a storage: beside it, for all projects that share it.

    In an object store, which has no locks, that of this project.
    """
    local = storage.local_path(place)
    return path_of(folder) if local is None else local / f".{folder}.lock"


@contextlib.contextmanager
def held(path: Path, what: str, wait: bool = False) -> Iterator[None]:
    """Hold a lock within a block; nothing is left behind, and a killed holder holds nothing.

    Arguments:
        path: of the lock file, on a local disk or one that hosts share (NFS 4 has such locks).
        what: is done under it, for errors.
        wait: for another holder, with one line in the log.

    Raises:
        UserError: if another process holds it, unless that is waited for.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "a.lock"
        >>> with held(path, "training a"):
        ...     with held(path, "training a"):
        ...         pass
        Traceback (most recent call last):
        ...
        pipeline.core.errors.UserError: training a: expected to be alone, got a process of ...
        >>> path.exists()
        False
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = _locked(path, what, wait)
    try:
        yield
    finally:
        with contextlib.suppress(OSError):  # a storage that is gone must not hide what happened
            path.unlink()  # while it is held: who waits for it finds out
        os.close(descriptor)


def _locked(path: Path, what: str, wait: bool) -> int:
    """Return the open file, locked; again if its holder removed it meanwhile."""
    while True:
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        except PermissionError:
            if not path.exists():
                raise
            descriptor = os.open(path, os.O_RDONLY)  # another user's, who may still hold it
        try:
            _lock(descriptor, what, wait, path)
            with contextlib.suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(descriptor), os.stat(path)):
                    with contextlib.suppress(OSError):
                        os.truncate(descriptor, 0)
                        holder = f"{os.getpid()} on {socket.gethostname()}"
                        os.pwrite(descriptor, holder.encode(), 0)
                    return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)


def _lock(descriptor: int, what: str, wait: bool, path: Path) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.pread(descriptor, 200, 0).decode(errors="replace") or "unknown number"
        gone = f"remove {path} if its host is gone"
        if not wait:
            raise UserError(
                f"{what}: expected to be alone, got a process of the same ({holder}); wait for it, "
                f"or {gone}"
            ) from None
        said = "%s: waits for another process of the same (%s); stop this, %s, and start again"
        log.info(said, what, holder, gone)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
    except OSError as error:
        if error.errno not in (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP):
            raise
        raise UserError(
            f"{path}: expected a file system with locks, got {error.strerror}"
        ) from None
