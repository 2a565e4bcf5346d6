"""The files of a folder: hidden ones are passed over, links to folders followed."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from pipeline.core.errors import UserError

LOST = "lost+found"  # of a disk, which the system alone may read


def visible_files(folder: Path) -> list[Path]:
    """List the files of a folder at any depth by name; hidden files and folders are passed over.

    Folders that are links are followed; one that was met already, by another way, is passed over.
    A folder that is not there has no file.

    Raises:
        UserError: for a folder that cannot be read.
    """
    return sorted(_walk(str(folder), set())) if folder.is_dir() else []


def _walk(folder: str, met: set[str]) -> Iterator[Path]:
    real = os.path.realpath(folder)
    if real in met:
        return
    met.add(real)
    try:
        with os.scandir(folder) as scanned:
            entries = sorted(scanned, key=lambda entry: entry.name)
    except OSError as error:
        raise UserError(f"{folder}: {error.strerror}") from None
    for entry in entries:
        if entry.name.startswith(".") or entry.name == LOST:
            continue
        with contextlib.suppress(OSError):  # a link to itself is no file
            if entry.is_file():
                yield Path(entry.path)
                continue
        if os.path.isdir(entry.path):
            yield from _walk(entry.path, met)
