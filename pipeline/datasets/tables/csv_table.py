"""Tables of text: reading and standardising; UCI's red wine in ten folds."""

from __future__ import annotations

import array
import csv
import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np

from arcore.events import Real
from pipeline.core.errors import UserError, require, unknown_name
from pipeline.datasets.base import Dataset, RawFile, SplitData
from pipeline.datasets.formats.text_and_idx import check_rows, open_text, read_bytes
from pipeline.datasets.options import Options, between, parse_options
from pipeline.datasets.read_transforms import permute_rows
from pipeline.datasets.scaling import Scaling

WINE_FILE = "winequality-red.csv"
WINE_ROWS, WINE_COLUMNS = 1599, 11
NUM_FOLDS, FOLD_SEED = 10, 0
MAX_CORRELATION = 0.98


Counts = Mapping[str, int | list[str]]


def read_table(
    path: Path,
    delimiter: str,
    header: bool,
    drop: Sequence[str] = (),
    levels: Counts | None = None,
) -> tuple[list[str], np.ndarray]:
    """Read a text table of numbers.

    Arguments:
        path: the file, UTF-8.
        delimiter: one character.
        header: whether the first row has the columns' names; else they are 0, 1, ...
        drop: columns to leave out, whatever is in them.
        levels: of columns that are not of reals, the number k of integers in [0, k), or the names
            that stand for 0, 1, ...

    Returns:
        The names of the columns kept, and their values (N, D) float64.

    Raises:
        UserError: naming the file, the row and the column of the first flaw.
    """
    rows = read_rows(path, delimiter)
    first = list(itertools.islice(rows, 1))
    names = column_names(path, first, header)
    kept = kept_columns(path, names, drop)
    values = array.array("d")
    for number, row in rows if header else itertools.chain(first, rows):
        if len(row) != len(names):
            raise UserError(f"{path}: row {number}: expected {len(names)} cells, got {len(row)}")
        for i in kept:
            count = (levels or {}).get(names[i])
            value = _number(row[i], count)
            if value is None:
                raise UserError(
                    f"{path}: row {number}, column {names[i]!r}: expected {_wanted(count)}, "
                    f"got {row[i]!r}"
                )
            values.append(value)
    if len(values) == 0:
        raise UserError(f"{path}: expected rows of numbers below the header, got none")
    return [names[i] for i in kept], np.frombuffer(values).reshape(-1, len(kept))


def _number(cell: str, count: int | list[str] | None) -> float | None:
    """The number that a cell stands for, None where it stands for none."""
    if isinstance(count, list):
        name = cell.strip()
        return count.index(name) if name in count else None
    value = number_of(cell)
    if value is None:
        return None
    fits = np.isfinite(value) if count is None else value in range(count)
    return value if fits else None


def number_of(cell: str) -> float | None:
    """Return the number that a cell says, None if it says none.

    Example:
        >>> number_of(" 1e3"), number_of("1_000"), number_of("x")
        (1000.0, None, None)
    """
    if "_" in cell or not cell.isascii():  # which Python reads all the same
        return None
    try:
        return float(cell)
    except ValueError:
        return None


def _wanted(count: int | list[str] | None) -> str:
    if isinstance(count, list):
        return f"one of {', '.join(map(repr, count[:8]))}{', ...' if len(count) > 8 else ''}"
    return "a finite number" if count is None else f"an integer in [0, {count})"


def read_rows(path: Path, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """Yield the rows of a table that are not blank, with their numbers."""
    fits = len(delimiter) == 1 and delimiter not in '"\r\n'
    require(fits, "delimiter", "one character, no quote or line break", delimiter)
    with open_text(path) as text:
        reader = csv.reader(text, delimiter=delimiter, strict=True)
        blank, columns = None, 0
        try:
            for row in reader:
                if not row:
                    blank = blank or reader.line_num
                    continue
                columns = columns or len(row)
                if blank and columns == 1:
                    raise UserError(f"{path}: row {blank}: expected a value, got an empty cell")
                yield reader.line_num, row
        except UnicodeDecodeError:
            raise UserError(f"{path}: {_not_text(path)}") from None
        except csv.Error as error:
            where = f"{path}: row {reader.line_num}"
            raise UserError(f"{where}: not a table of text: {error}") from None


def _not_text(path: Path) -> str:
    """Say where a file is no UTF-8, which reading in pieces does not know."""
    content = read_bytes(path)
    try:
        content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        number = content.count(b"\n", 0, error.start) + 1
        return f"row {number}: not a table of text: {error}"
    return "not a table of text: changed while it was read"


def column_names(path: Path, rows: Sequence[tuple[int, list[str]]], header: bool) -> list[str]:
    """The names of a table's columns, from its first row or by their numbers."""
    if not rows:
        raise UserError(f"{path}: expected a table, got an empty file")
    first = rows[0][1]
    names = [cell.strip() for cell in first] if header else [str(i) for i in range(len(first))]
    for name in names:
        if names.count(name) > 1:
            hint = "; if row 1 has none, give header=false" if header else ""
            raise UserError(
                f"{path}: expected columns of different names, got {name!r} twice{hint}"
            )
    return names


def kept_columns(path: Path, names: Sequence[str], drop: Sequence[str]) -> list[int]:
    """The places of the columns that are not dropped."""
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


def scaling_of(train: np.ndarray, names: Sequence[str], where: str) -> Scaling:
    """Find what shifts and scales columns to mean 0 and variance 1 over the training rows.

    Arguments:
        train: these rows, (n, D).
        names: the columns' names.
        where: what an error calls the table.

    Raises:
        UserError: for a column that is constant over the training rows.
    """
    with np.errstate(over="ignore", invalid="ignore"):  # which is refused below
        mean, deviation = train.mean(0), train.std(0)
    for name, low, high in zip(names, train.min(0), train.max(0), strict=True):
        if low == high:
            raise UserError(
                f"{where}: column {name!r}: expected different values, got {low:g} in all training "
                f"rows; leave it out"
            )
    for name, spread in zip(names, deviation, strict=True):
        if not (np.isfinite(spread) and spread > 0):
            raise UserError(
                f"{where}: column {name!r}: expected numbers whose squares are finite and differ"
            )
    return Scaling(mean, deviation)


@dataclass(frozen=True, kw_only=True)
class RedWineOptions(Options):
    """Options of red_wine.

    Arguments:
        fold: which of the ten folds is the test split.
    """

    fold: Annotated[int, between(0, NUM_FOLDS - 1)] = 0


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
        scaling = scaling_of(parts["train"], [names[i] for i in kept], str(path))
        return {
            split: SplitData(scaling.of(x).astype("<f4"), scalings={"x": scaling})
            for split, x in parts.items()
        }


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


DATASETS = {"red_wine": _build_red_wine}
