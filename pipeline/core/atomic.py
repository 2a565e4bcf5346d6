"""Writing a folder or a file so that a reader sees all of it or none."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import shutil
import socket
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ABANDONED_SECONDS = 24 * 3600


@contextmanager
def replacing(folder: Path) -> Iterator[Path]:
    """Yield an empty temporary sibling that becomes `folder` when the block ends well.

    A block that raises, or a killed process, leaves `folder` as it was; leftovers of a killed one
    are removed at the next call. Of two at once the last one's folder stays, whole. (Between the
    two renames of a replacement there is no folder, never a mixed one.)

    Example:
        >>> import tempfile
        >>> out = Path(tempfile.mkdtemp()) / "out"
        >>> with replacing(out) as temporary:
        ...     _ = (temporary / "a.txt").write_text("whole")
        >>> [path.name for path in out.iterdir()]
        ['a.txt']
    """
    if folder.is_symlink() and not os.path.ismount(folder):
        folder = folder.resolve()  # what it leads to is replaced, and the link stays
    folder.parent.mkdir(parents=True, exist_ok=True)
    _remove_abandoned(folder)
    token = f"{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:8]}"
    partial, old = (folder.with_name(f".{folder.name}.{token}.{s}") for s in ("partial", "old"))
    partial.mkdir()
    try:
        yield partial
        while True:
            with contextlib.suppress(FileNotFoundError):  # another process moved it away
                os.replace(folder, old)
            try:
                os.replace(partial, folder)
                break
            except OSError as error:
                if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                    raise
            shutil.rmtree(old, ignore_errors=True)  # another process put one there since
    finally:
        if old.exists() and not folder.exists():  # interrupted between the two
            with contextlib.suppress(OSError):
                os.replace(old, folder)
        for leftover in (partial, old):
            shutil.rmtree(leftover, ignore_errors=True)


def write_text(path: Path, text: str) -> None:
    """Write a file of UTF-8 in one step; its folder is there."""
    partial = path.with_name(f".{path.name}.{uuid.uuid4().hex}.partial")
    try:
        partial.write_text(text, encoding="utf-8")
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def _remove_abandoned(folder: Path) -> None:
    """Remove what killed processes of this machine left, or anybody a day ago.

    What one had moved away, and put nothing in place of, goes back.
    """
    name = re.compile(rf"\.{re.escape(folder.name)}\.(.+)-(\d+)-[0-9a-f]{{8}}\.(partial|old)")
    for path in folder.parent.iterdir():
        found = name.fullmatch(path.name)
        if found is None:
            continue
        with contextlib.suppress(FileNotFoundError):
            late = time.time() - path.stat().st_mtime > ABANDONED_SECONDS
            here = found[1] == socket.gethostname()
            if late or (here and not _runs(int(found[2]))):
                if found[3] == "old" and not folder.exists():
                    os.replace(path, folder)
                else:
                    shutil.rmtree(path, ignore_errors=True)


def _runs(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # of another user
        pass
    return True
