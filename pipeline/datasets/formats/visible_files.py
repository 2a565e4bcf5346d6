"""The files of a folder: hidden ones are passed over, links to folders followed."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from pipeline.core.errors import UserError


def visible_files(folder: Path) -> list[Path]:
    """List the files of a folder at any depth by name; hidden files and folders are passed over.

    Folders that are links are followed. A folder that is not there has no file.

    Raises:
        UserError: for a folder that cannot be read, or one that links to a folder above it.
    """
    return sorted(_walk(str(folder), ())) if folder.is_dir() else []


def _walk(folder: str, above: tuple[str, ...]) -> Iterator[Path]:
    whole = (*above, os.path.realpath(folder))
    if whole[-1] in above:
        raise UserError(f"{folder}: expected no folder that links to one above it")
    try:
        with os.scandir(folder) as scanned:
            entries = [entry for entry in scanned if not entry.name.startswith(".")]
    except OSError as error:
        raise UserError(f"{folder}: {error.strerror}") from None
    for entry in entries:
        if entry.is_dir():
            yield from _walk(entry.path, whole)
        elif entry.is_file():
            yield Path(entry.path)
