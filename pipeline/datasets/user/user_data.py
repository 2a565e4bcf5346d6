"""What datasets of the user's own share: where their files are and how rows are split.

But for a table, files stay where they are: `fetch` copies nothing, and `dvc repro -f
preprocess@<name>` reads them again. Training needs the shards alone.
"""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Annotated

import numpy as np

from pipeline.core import paths
from pipeline.core.errors import UserError
from pipeline.datasets.base import SPLITS, Dataset
from pipeline.datasets.formats.visible_files import visible_files
from pipeline.datasets.options import Options, expected, refuse_unless
from pipeline.datasets.read_transforms import permute_rows

PART_BYTES = 1 << 28  # of the rows that are in memory at a time
Fraction = Annotated[float, expected("in (0, 1)", lambda fraction: 0 < fraction < 1)]


@dataclass(frozen=True, kw_only=True)
class UserOptions(Options):
    """Options of a dataset of the user's own.

    Arguments:
        path: the file or folder, absolute or relative to the project's root.
        valid_fraction, test_fraction: shares in (0, 1), drawn by `split_seed`.
    """

    path: str = ""
    valid_fraction: Fraction = 0.1
    test_fraction: Fraction = 0.1
    split_seed: int = 0

    def split_words(self, what: str) -> str:
        """Say how `split_by_seed` splits, for a provenance."""
        return (
            f"{self.test_fraction} test and {self.valid_fraction} valid of the {what}, chosen by "
            f"seed {self.split_seed}"
        )


@dataclass(frozen=True)
class Fact:
    """What was found in the user's files: a line of the summary of `add_dataset`.

    Arguments:
        name: what it is about; "" of a line that is laid out already.
        found: in words.
        change: the options that decide it, with their values.
    """

    name: str
    found: str
    change: str = ""

    def __str__(self) -> str:
        """Return the fact without the options."""
        return f"{self.name}: {self.found}" if self.name else self.found


@dataclass(frozen=True, kw_only=True)
class UserDataset(Dataset):
    """A dataset of the user's own, whose files no mirror has."""

    family: str = "user"

    @property
    def split_options(self) -> tuple[str, ...]:
        """The options that decide which split a row is in."""
        return ("valid_fraction", "test_fraction", "split_seed")

    def facts(self) -> list[Fact]:
        """Return what is worth knowing of the files, beyond what every dataset has."""
        return []

    def notes(self) -> list[str]:
        """Say what was guessed of the files, and the options that change it, below the facts."""
        return []


def existing(name: str, option: str, given: str, folder: bool = False) -> Path:
    """Return the path of an option, which must be an existing file, or folder."""
    path = paths.root() / given
    found = path.is_dir() if folder else path.is_file()
    wanted = f"an existing {'folder' if folder else 'file'}"
    refuse_unless(bool(given) and found, name, option, wanted, given)
    return path


def is_inside(given: str) -> bool:
    """Whether a path is relative and stays in the folder that it is relative to.

    Example:
        >>> is_inside("a/b.png"), is_inside("../b.png"), is_inside("/b.png"), is_inside("")
        (True, False, False, False)
    """
    path = PurePosixPath(given)
    return bool(given) and not path.is_absolute() and ".." not in path.parts


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


def option_values(options: Options, *names: str) -> str:
    """Return options as they are given on a command line; lists of many things are shortened.

    Example:
        >>> option_values(UserOptions(), "valid_fraction", "split_seed", "path")
        "valid_fraction=0.1 split_seed=0 path=''"
    """
    return " ".join(f"{name}={_as_given(getattr(options, name))}" for name in names)


def _as_given(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return f"[{','.join(map(str, value))}]" if len(value) <= 2 else f"[{value[0]},...]"
    return str(value) or "''"


def span(values: Sequence[int]) -> str:
    """Return the least and the greatest of some numbers.

    Example:
        >>> span([3, 5, 4]), span([2, 2])
        ('3 to 5', '2')
    """
    low, high = min(values), max(values)
    return f"{low} to {high}" if low < high else str(low)


def readable_bytes(count: int) -> str:
    """Return a number of bytes in a unit that suits it.

    Example:
        >>> readable_bytes(999), readable_bytes(61_440), readable_bytes(2_500_000_000)
        ('999 B', '61.4 kB', '2.5 GB')
    """
    size = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:.3g} TB"


def other_files(folder: Path, suffixes: Collection[str]) -> str:
    """Count the files of a folder that a kind of dataset does not read, by type.

    Example:
        >>> other_files(Path("no folder"), (".png",))
        ''
    """
    every = visible_files(folder, ("",))
    kinds = Counter(
        path.suffix.lower() for path in every if not path.name.lower().endswith(tuple(suffixes))
    )
    named = [f"{count} {kind or 'without a type'}" for kind, count in kinds.most_common()]
    return f"of other types: {listed(named)}" if named else ""


def rows_of_a_part(rows: int, event_bytes: int) -> int:
    """Return fewer rows than are usual where these would be above 256 MiB.

    Example:
        >>> rows_of_a_part(2048, 3 * 32 * 32), rows_of_a_part(2048, 3 * 1024 * 1024)
        (2048, 85)
    """
    return max(1, min(rows, PART_BYTES // event_bytes))


def split_by_seed(
    count: int, options: UserOptions, where: str | Path, what: str
) -> dict[str, np.ndarray]:
    """Choose which of `count` rows or files are train, valid and test; their ascending numbers.

    Example:
        >>> cut = split_by_seed(10, UserOptions(test_fraction=0.2), "here", "rows")
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


def whole_split(guessed: Mapping[str, list[str]], given: Mapping[str, object]) -> dict[str, object]:
    """Return what is named as a split, nothing where names tell of one alone or of none."""
    named = sum(bool(given.get(option, guessed[option])) for option in guessed)
    return {option: names for option, names in guessed.items() if names and named > 1}
