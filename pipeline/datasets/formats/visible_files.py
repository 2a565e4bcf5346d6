"""The files of a folder: hidden ones are passed over, links to folders followed."""

import os
from collections.abc import Collection
from pathlib import Path

from pipeline.core.errors import UserError

LOST = "lost+found"  # of a disk, which the system alone may read


def visible_files(folder: Path, suffixes: Collection[str]) -> list[Path]:
    """List the files of a folder at any depth whose names end so, by name.

    Hidden files and folders are passed over. Folders that are links are followed; one that was met
    already, by another way, is passed over. A folder that is not there has no file.
    """

    def refuse(error: OSError) -> None:
        raise UserError(f"{error.filename}: {error.strerror}")

    met, found = set[str](), list[Path]()
    tree = os.walk(folder, onerror=refuse, followlinks=True) if folder.is_dir() else ()
    for place, folders, files in tree:
        real = os.path.realpath(place)
        if real in met or (place != str(folder) and _is_hidden(place)):
            folders.clear()
            continue
        met.add(real)
        folders.sort()
        fitting = (name for name in files if name.lower().endswith(tuple(suffixes)))
        found += [Path(place, name) for name in fitting if not _is_hidden(name)]
    return sorted(path for path in found if path.is_file())


def _is_hidden(path: str) -> bool:
    name = os.path.basename(path)
    return name.startswith(".") or name == LOST
