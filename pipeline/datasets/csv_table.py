"""Tables of real measurements: UCI's red wine in ten folds, and any CSV file that a conf names.

A CSV file of one's own is a dataset with a file `pipeline/conf/dataset/<name>.yaml`:

    name: turbines
    kind: csv
    path: /data/turbines.csv      # or relative to the project's root
    delimiter: ","
    header: true                  # false: columns are called 0, 1, ...
    drop: [serial, operator]      # columns that are not to be modelled
    valid_fraction: 0.1
    test_fraction: 0.1
    split_seed: 0
    standardize: true
    rows_per_shard: 16384

`fetch` copies the file, so that a changed one is noticed at `preprocess` and fetched by
`dvc repro -f fetch@<name>`.
"""

from __future__ import annotations

import csv
import hashlib
import io
import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from arcore.events import Real
from pipeline.core import paths
from pipeline.core.errors import UserError, unknown_name
from pipeline.datasets.base import Dataset, Options, RawFile, SplitData, parse_options
from pipeline.datasets.formats.text_and_idx import check_rows, read_bytes
from pipeline.datasets.read_transforms import permute_rows

WINE_FILE = "winequality-red.csv"
WINE_ROWS, WINE_COLUMNS = 1599, 11
NUM_FOLDS, FOLD_SEED = 10, 0
MAX_CORRELATION = 0.98


def read_table(
    path: Path, delimiter: str, header: bool, drop: Sequence[str] = ()
) -> tuple[list[str], np.ndarray]:
    """Read a text table of numbers.

    Arguments:
        path: the file, UTF-8.
        delimiter: one character.
        header: whether the first row has the columns' names; else they are 0, 1, ...
        drop: columns to leave out, whatever is in them.

    Returns:
        The names of the columns kept, and their values (N, D) float64.

    Raises:
        UserError: naming the file, the row and the column of the first flaw.
    """
    rows = list(_rows(path, delimiter))
    names = _names(path, rows, header)
    kept = _kept(path, names, drop)
    values = np.empty((len(rows) - header, len(kept)))
    for out, (number, row) in zip(values, rows[header:], strict=True):
        if len(row) != len(names):
            raise UserError(f"{path}: row {number}: expected {len(names)} cells, got {len(row)}")
        for place, i in enumerate(kept):
            try:
                out[place] = float(row[i])
            except ValueError:
                out[place] = np.nan
            if not np.isfinite(out[place]):
                raise UserError(
                    f"{path}: row {number}, column {names[i]!r}: expected a finite number, "
                    f"got {row[i]!r}"
                )
    if len(values) == 0:
        raise UserError(f"{path}: expected rows of numbers below the header, got none")
    return [names[i] for i in kept], values


def _rows(path: Path, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """Yield the rows of a table that are not blank, with their numbers."""
    try:
        text = io.StringIO(read_bytes(path).decode("utf-8-sig"), newline="")
        reader = csv.reader(text, delimiter=delimiter, strict=True)
        for row in reader:
            if row:
                yield reader.line_num, row
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path}: not a table of text: {error}") from None


def _names(path: Path, rows: Sequence[tuple[int, list[str]]], header: bool) -> list[str]:
    if not rows:
        raise UserError(f"{path}: expected a table, got an empty file")
    first = rows[0][1]
    names = [cell.strip() for cell in first] if header else [str(i) for i in range(len(first))]
    for name in names:
        if names.count(name) > 1:
            raise UserError(f"{path}: expected columns of different names, got {name!r} twice")
    return names


def _kept(path: Path, names: Sequence[str], drop: Sequence[str]) -> list[int]:
    for name in drop:
        if name not in names:
            raise unknown_name(f"column of {path}", name, names)
    kept = [i for i, name in enumerate(names) if name not in drop]
    if not kept:
        raise UserError(f"{path}: expected a column that is not dropped, got none")
    return kept


def uncorrelated(values: np.ndarray, limit: float) -> list[int]:
    """Choose columns without one of each pair whose correlation exceeds `limit` in size.

    Example:
        >>> x = np.array([[0.0, 0.0, 1.0], [1.0, -2.0, 0.0], [2.0, -4.0, 0.0]])
        >>> uncorrelated(x, 0.98)
        [0, 2]
    """
    correlation = np.abs(np.corrcoef(values, rowvar=False))
    kept: list[int] = []
    for column in range(values.shape[1]):
        if all(correlation[column, other] <= limit for other in kept):
            kept.append(column)
    return kept


def standardize(
    parts: Mapping[str, np.ndarray], names: Sequence[str], where: str
) -> dict[str, np.ndarray]:
    """Shift and scale columns to mean 0 and variance 1 over the training rows.

    Arguments:
        parts: rows (n, D) of train, valid and test.
        names: the columns' names.
        where: what an error calls the table.

    Raises:
        UserError: for a column that is constant over the training rows.
    """
    mean, deviation = parts["train"].mean(0), parts["train"].std(0)
    for name, low, high in zip(names, parts["train"].min(0), parts["train"].max(0), strict=True):
        if low == high:
            raise UserError(
                f"{where}: column {name!r}: expected different values, got {low:g} in all training "
                f"rows; leave it out"
            )
    return {split: (x - mean) / deviation for split, x in parts.items()}


def _splits(parts: Mapping[str, np.ndarray]) -> dict[str, SplitData]:
    return {split: SplitData(x.astype("<f4")) for split, x in parts.items()}


@dataclass(frozen=True, kw_only=True)
class RedWineOptions(Options):
    """Options of red_wine.

    Arguments:
        fold: which of the ten folds is the test split.
    """

    fold: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.fold < NUM_FOLDS:
            raise UserError(
                f"option fold of dataset 'red_wine': expected 0 to {NUM_FOLDS - 1}, got {self.fold}"
            )


@dataclass(frozen=True, kw_only=True)
class RedWine(Dataset):
    """UCI's red wine under RNADE's protocol: fold k tests, fold k + 1 validates, the rest trains.

    Folds are cut from the permutation of rows that seed 0 names. The integer score is dropped, and
    one of each pair of columns whose correlation exceeds 0.98 in size, of which there is none.
    """

    fold: int = 0

    def decode(self, raw_dir: Path) -> dict[str, SplitData]:
        """Decode the table, cut the folds and standardise by the training rows."""
        path = raw_dir / WINE_FILE
        names, values = read_table(path, ";", header=True, drop=["quality"])
        check_rows(path, len(values), WINE_ROWS)
        kept = uncorrelated(values, MAX_CORRELATION)
        folds = np.array_split(permute_rows(len(values), FOLD_SEED), NUM_FOLDS)
        rows = {"test": folds[self.fold], "valid": folds[(self.fold + 1) % NUM_FOLDS]}
        held_out = np.concatenate(list(rows.values()))
        rows["train"] = np.setdiff1d(np.arange(len(values)), held_out)
        parts = {split: values[np.sort(chosen)][:, kept] for split, chosen in rows.items()}
        return _splits(standardize(parts, [names[i] for i in kept], str(path)))


def _build_red_wine(config: Mapping[str, object]) -> Dataset:
    options = parse_options(RedWineOptions, "red_wine", config)
    url = f"https://archive.ics.uci.edu/ml/machine-learning-databases/wine-quality/{WINE_FILE}"
    return RedWine(
        name="red_wine",
        family="uci_real",
        event=Real((WINE_COLUMNS,)),
        unit="nats",
        files=(
            RawFile(
                WINE_FILE,
                "4a402cf041b025d4566d954c3b9ba8635a3a8a01e039005d97d6a710278cf05e",
                84197,  # at least: the published file has 84,199, and "2.0" where others have "2"
                url,
                equals=("38cb54f15a085ae1cb8595ea3d9ec9e9ce0482d907e7c370d4bf40db6158edc8",),
            ),
        ),
        provenance=(
            f"{url}; the score dropped; ten folds of a permutation by seed {FOLD_SEED}, fold "
            f"{options.fold} is test, the next one valid; standardised by the training rows"
        ),
        options=options,
        published_name="red-wine",
        num_folds=NUM_FOLDS,
        fold=options.fold,
    )


@dataclass(frozen=True, kw_only=True)
class CsvOptions(Options):
    """Options of a dataset of kind csv; see the module's example.

    Arguments:
        path: the file, absolute or relative to the project's root.
        delimiter: one character between cells.
        header: whether the first row has the columns' names.
        drop: names of columns to leave out (without a header their numbers, as text).
        valid_fraction, test_fraction: shares of rows in (0, 1), drawn by `split_seed`.
        standardize: by the training rows; densities, hence nats, are of standardised values then.
    """

    path: str = ""
    delimiter: str = ","
    header: bool = True
    drop: list = field(default_factory=list)  # type: ignore[type-arg]
    valid_fraction: float = 0.1
    test_fraction: float = 0.1
    split_seed: int = 0
    standardize: bool = True


@dataclass(frozen=True, kw_only=True)
class CsvTable(Dataset):
    """A CSV file of the user's, split at random."""

    table: CsvOptions

    def decode(self, raw_dir: Path) -> dict[str, SplitData]:
        """Decode the table, split it and standardise, if so chosen."""
        options, path = self.table, raw_dir / self.files[0].name
        names, values = read_table(path, options.delimiter, options.header, options.drop)
        count = len(values)
        num_test, num_valid = (
            round(share * count) for share in (options.test_fraction, options.valid_fraction)
        )
        if min(num_test, num_valid, count - num_test - num_valid) < 1:
            raise UserError(
                f"{path}: expected rows for each of train, valid and test, got {count} rows with "
                f"valid_fraction {options.valid_fraction} and test_fraction {options.test_fraction}"
            )
        order = permute_rows(count, options.split_seed)
        cut = np.split(order, [num_test, num_test + num_valid])
        parts = {
            split: values[np.sort(rows)]
            for split, rows in zip(("test", "valid", "train"), cut, strict=True)
        }
        if options.standardize:
            parts = standardize(parts, names, str(path))
        return _splits(parts)


def build_csv(config: Mapping[str, object]) -> Dataset:
    """Build a dataset of kind csv, whose file must be there (or its copy in `data/raw/<name>/`).

    Raises:
        UserError: for bad options, or a file that is missing or has no column left.
    """
    name = str(config["name"])
    given = {key: value for key, value in config.items() if key != "kind"}
    options = parse_options(CsvOptions, name, given)
    where = f"of dataset {name!r}"
    if len(options.delimiter) != 1:
        raise UserError(
            f"option delimiter {where}: expected a character, got {options.delimiter!r}"
        )
    for key in ("valid_fraction", "test_fraction"):
        if not 0 < getattr(options, key) < 1:
            raise UserError(
                f"option {key} {where}: expected in (0, 1), got {getattr(options, key)}"
            )
    if not all(isinstance(column, str) for column in options.drop):
        raise UserError(f"option drop {where}: expected columns' names, got {options.drop!r}")
    path = paths.root() / options.path
    copy = paths.raw(name) / path.name
    if not path.is_file() and copy.is_file():
        path = copy
    if not options.path or not path.is_file():
        raise UserError(f"option path {where}: expected an existing file, got {options.path!r}")
    if re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9._ -]*", path.name) is None:
        raise UserError(
            f"option path {where}: expected a file name of letters, digits, '.', '_', '-' and "
            f"spaces, got {path.name!r}"
        )
    first = list(itertools.islice(_rows(path, options.delimiter), 1))
    columns = _kept(path, _names(path, first, options.header), options.drop)
    data = read_bytes(path)
    return CsvTable(
        name=name,
        family=name,
        event=Real((len(columns),)),
        unit="nats",
        files=(RawFile(path.name, hashlib.sha256(data).hexdigest(), len(data), None),),
        provenance=(
            f"{path.name}, columns {', '.join(options.drop) or 'none'} dropped; "
            f"{options.test_fraction} test and {options.valid_fraction} valid of the rows, chosen "
            f"by seed {options.split_seed}"
            + ("; standardised by the training rows" if options.standardize else "")
        ),
        options=options,
        system_folders=(str(path.parent),),
        table=options,
    )


DATASETS = {"red_wine": _build_red_wine}
KINDS = {"csv": build_csv}
