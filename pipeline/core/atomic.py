"""Writing a folder so that a reader sees all of it or none."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replacing(folder: Path) -> Iterator[Path]:
    """Yield an empty temporary sibling that becomes `folder` when the block ends well.

    A block that raises, or a killed process, leaves `folder` as it was; leftovers of a killed one
    are removed at the next call. (Between the two renames of a replacement there is no folder,
    never a mixed one.)

    Example:
        >>> import tempfile
        >>> out = Path(tempfile.mkdtemp()) / "out"
        >>> with replacing(out) as temporary:
        ...     _ = (temporary / "a.txt").write_text("whole")
        >>> [path.name for path in out.iterdir()]
        ['a.txt']
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    partial, old = (folder.with_name(f".{folder.name}.{state}") for state in ("partial", "old"))
    for leftover in (partial, old):
        shutil.rmtree(leftover, ignore_errors=True)
    partial.mkdir()
    try:
        yield partial
        if folder.exists():
            os.replace(folder, old)
        os.replace(partial, folder)
    finally:
        for leftover in (partial, old):
            shutil.rmtree(leftover, ignore_errors=True)
