"""Words for what a check of the user's files found."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import numpy as np

from pipeline.datasets.formats.visible_files import visible_files

FEW_VALUES = "few different values; a density of them has no finite best likelihood"


def counted(count: int, noun: str) -> str:
    """Say how many there are of something.

    Example:
        >>> counted(1, "row"), counted(2, "row")
        ('1 row', '2 rows')
    """
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def listed(names: Sequence[object], most: int = 6) -> str:
    """List some names, and how many more there are; names with a comma are quoted.

    Example:
        >>> listed(["a", "b", "c"], most=2), listed(["a, b", "c", ""])
        ('a, b and 1 more', "'a, b', c, ''")
    """
    shown = ", ".join(
        repr(name) if isinstance(name, str) and ("," in name or not name.strip()) else str(name)
        for name in names[:most]
    )
    return shown if len(names) <= most else f"{shown} and {len(names) - most} more"


def splits_found(counts: Mapping[str, int], noun: str) -> list[str]:
    """Say how many rows or files each split has, a line for each.

    Example:
        >>> splits_found({"train": 8, "valid": 1}, "row")
        ['train: 8 rows', 'valid: 1 row']
    """
    return [f"{split}: {counted(count, noun)}" for split, count in counts.items()]


def left_aside(folder: Path, used: Collection[Path]) -> list[str]:
    """Say which files of a folder serve for nothing: a line, or none where all do.

    Arguments:
        folder: of a dataset.
        used: its files that serve, each below the folder.
    """
    others = [path.relative_to(folder) for path in visible_files(folder) if path not in used]
    if not others:
        return []
    return [f"left aside: {counted(len(others), 'other file')}: {listed(others, 3)}"]


def columns_aside(others: Sequence[str]) -> list[str]:
    """Say which columns serve for nothing: a line, or none where all do.

    Example:
        >>> columns_aside(["label (string)"]), columns_aside([])
        (['left aside: the columns label (string)'], [])
    """
    return [f"left aside: the columns {listed(others)}"] if others else []


def repeated(x: np.ndarray) -> list[tuple[int, ...]]:
    """Find the places of a row of reals where fewer than one value in ten rows is new.

    Example:
        >>> repeated(np.array([[i, 5.0] for i in range(20)]))
        [(1,)]
    """
    different = 1 + (np.diff(np.sort(x, 0), axis=0) != 0).sum(0)
    return [tuple(map(int, place)) for place in np.argwhere(different < len(x) / 10)]
