"""What datasets of the user's own share: where they lie, how they are split, what they say."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TypeVar

import numpy as np

from pipeline.core import paths
from pipeline.core.errors import UserError
from pipeline.datasets.base import SPLITS, Options, parse_options
from pipeline.datasets.formats.visible_files import visible_files
from pipeline.datasets.read_transforms import permute_rows

FEW_VALUES = "few different values; a density of them has no finite best likelihood"


@dataclass(frozen=True, kw_only=True)
class OwnOptions(Options):
    """Options of a dataset of the user's own.

    Arguments:
        path: the file or folder, absolute or relative to the project's root.
        valid_fraction, test_fraction: shares in (0, 1), drawn by `split_seed`.
    """

    path: str = ""
    valid_fraction: float = 0.1
    test_fraction: float = 0.1
    split_seed: int = 0


OwnT = TypeVar("OwnT", bound=OwnOptions)


def parse_own(cls: type[OwnT], config: Mapping[str, object]) -> OwnT:
    """Parse the options of a dataset of a kind; the keys `name` and `kind` are passed over.

    Raises:
        UserError: for an unknown or ill-typed option, or a share out of range.
    """
    name = str(config["name"])
    options = parse_options(cls, name, {k: v for k, v in config.items() if k != "kind"})
    for key in ("valid_fraction", "test_fraction"):
        share = getattr(options, key)
        refuse_unless(0 < share < 1, name, key, "in (0, 1)", share)
    return options


def refuse_unless(holds: bool, name: str, option: str, expected: str, got: object) -> None:
    """Refuse the value of an option unless it holds."""
    if not holds:
        raise UserError(f"option {option} of dataset {name!r}: expected {expected}, got {got!r}")


def existing(name: str, option: str, given: str, folder: bool = False) -> Path:
    """Return the path of an option, which must exist.

    Raises:
        UserError: if it is empty, missing, or a folder where a file should be, or the reverse.
    """
    path = paths.root() / given
    found = path.is_dir() if folder else path.is_file()
    refuse_unless(
        bool(given) and found, name, option, f"an existing {'folder' if folder else 'file'}", given
    )
    return path


def inside(given: str) -> bool:
    """Whether a path is relative and stays in the folder that it is relative to.

    Example:
        >>> inside("a/b.png"), inside("../b.png"), inside("/b.png"), inside("")
        (True, False, False, False)
    """
    path = PurePosixPath(given)
    return bool(given) and not path.is_absolute() and ".." not in path.parts


def split_by_seed(
    count: int, options: OwnOptions, where: str | Path, what: str
) -> dict[str, np.ndarray]:
    """Choose which of `count` rows or files are train, valid and test.

    Returns:
        Their numbers, ascending.

    Raises:
        UserError: unless there is one of each, and a second one for test, since one alone has no
            standard error.

    Example:
        >>> cut = split_by_seed(10, OwnOptions(test_fraction=0.2), "here", "rows")
        >>> {split: rows.tolist() for split, rows in cut.items()}
        {'train': [1, 2, 3, 4, 5, 6, 9], 'valid': [8], 'test': [0, 7]}
    """
    shares = (options.test_fraction, options.valid_fraction)
    num_test, num_valid = (round(share * count) for share in shares)
    if min(num_test - 1, num_valid, count - num_test - num_valid) < 1:
        raise UserError(
            f"{where}: expected {what} for each of train, valid and test (two), got {count} {what} "
            f"with valid_fraction {options.valid_fraction} and "
            f"test_fraction {options.test_fraction}"
        )
    order = permute_rows(count, options.split_seed)
    test, valid, train = np.split(order, [num_test, num_test + num_valid])
    parts = (np.sort(rows) for rows in (train, valid, test))
    return dict(zip(SPLITS, parts, strict=True))


def valid_by_seed(count: int, options: OwnOptions, where: str | Path, what: str) -> np.ndarray:
    """Choose which of `count` rows or files of train are valid, where test is given.

    Returns:
        Their numbers, ascending.

    Raises:
        UserError: unless there is one of each.

    Example:
        >>> valid_by_seed(10, OwnOptions(valid_fraction=0.2), "here", "rows").tolist()
        [0, 7]
    """
    valid = round(options.valid_fraction * count)
    if min(valid, count - valid) < 1:
        raise UserError(
            f"{where}: expected {what} for each of train and valid, got {count} {what} with "
            f"valid_fraction {options.valid_fraction}"
        )
    return np.sort(permute_rows(count, options.split_seed)[:valid])


def valid_words(options: OwnOptions) -> str:
    """Say how `valid_by_seed` splits, for a provenance."""
    share, seed = options.valid_fraction, options.split_seed
    return f"{share} of those of train for valid, chosen by seed {seed}"


def split_words(options: OwnOptions, what: str) -> str:
    """Say how `split_by_seed` splits, for a provenance."""
    return (
        f"{options.test_fraction} test and {options.valid_fraction} valid of the {what}, chosen by "
        f"seed {options.split_seed}"
    )


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
