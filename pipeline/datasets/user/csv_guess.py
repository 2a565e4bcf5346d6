"""What a CSV file suggests for its options: which columns are levels, by what most cells are.

A cell that is not what most of its column are is named, since the whole column would be something
else on account of it.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.core import paths
from pipeline.core.errors import UserError, require
from pipeline.datasets.tables.csv_table import column_names, kept_columns, number_of, read_rows
from pipeline.datasets.user.csv_file import MISSING, columns_by_name
from pipeline.datasets.user.findings import listed

MOST_NAMES = 256
FEW = 50  # a column of integers has at most one number in fifty that is no level
_DECIMAL_COMMA = re.compile(r"[-+]?\d+,\d+")

Rows = Sequence[tuple[int, list[str]]]


@dataclass(frozen=True)
class Column:
    """A column of a table.

    Arguments:
        name: its name.
        place: which one it is.
        levels: what most cells are: the number of levels of integers, a list of names, or None for
            reals.
    """

    name: str
    place: int
    levels: int | list[str] | None

    def flaw(self, rows: Rows, is_levels: bool) -> tuple[int, str, str] | None:
        """The first cell that is not what the column is: its row, what was expected, the cell."""
        fits: Callable[[str], bool]
        if isinstance(self.levels, list):
            fits, wanted = _is_name, "a name, as most cells are"
        elif is_levels:
            fits, wanted = _is_level, "an integer from 0 to 255"
        else:
            fits, wanted = _is_finite, "a finite number"
        cells = _cells(rows, self.place)
        return next(((row, wanted, cell) for row, cell in cells if not fits(cell)), None)


def guess(path: str, given: Mapping[str, object]) -> dict[str, object]:
    """Say what the delimiter is, whether there is a header, and which columns are levels.

    Arguments:
        path: the file.
        given: options that the user gives, which are not guessed.

    Raises:
        UserError: for a file that is missing or no table, a cell that is not what most of its
            column are, a column of names that cannot be levels, and names among reals.
    """
    file, given = paths.root() / path, columns_by_name(given)
    delimiter = str(given.get("delimiter") or _delimiter(file))
    require(len(delimiter) == 1, "option delimiter", "a character", delimiter)
    rows = list(read_rows(file, delimiter))
    first = [cell.strip() for cell in rows[0][1]] if rows else []
    header, hint = given.get("header"), ""
    if not isinstance(header, bool):
        header = not any(_is_number(cell) for cell in first)
        if not header and not all(_is_number(cell) for cell in first):
            hint = "; if row 1 has the columns' names, give header=true"
    found: dict[str, object] = {"delimiter": delimiter, "header": header}
    if "levels" in given:
        return found
    names = column_names(file, rows, header)
    kept = kept_columns(file, names, _names(given, "drop"))
    body = rows[header:]
    columns = [_column(file, names[i], i, body) for i in kept]
    label = given.get("label")
    told = {*_names(given, "conditions"), label}
    modelled = [column for column in columns if column.name not in told]
    are_levels = all(column.levels is not None for column in modelled)
    words = [column.name for column in modelled if isinstance(column.levels, list)]
    if words and not are_levels:
        raise UserError(
            f"{path}: columns {listed(words)} are names, others are reals: give these names by "
            f"label=COLUMN or conditions=[...], or leave them out by drop=[...]{hint}"
        )
    # Given columns of integers stay numbers, which are standardised; a label needs its levels.
    levels = {
        column.name: column.levels
        for column in columns
        if isinstance(column.levels, list)
        or (column.levels and (column.name == label or (are_levels and column in modelled)))
    }
    _refuse_flaws(file, body, columns, levels, hint)
    return found | {"levels": levels}


def _refuse_flaws(
    file: Path, rows: Rows, columns: Iterable[Column], levels: Mapping[str, object], hint: str
) -> None:
    """Refuse the first cell that is not what its column is."""
    found = ((column.flaw(rows, column.name in levels), column.name) for column in columns)
    flaws = [(flaw, name) for flaw, name in found if flaw is not None]
    if not flaws:
        return
    (row, wanted, cell), name = min(flaws, key=lambda one: one[0][0])
    more = hint if row == rows[0][0] else ""
    if not more and name in levels and _is_finite(cell):
        more = "; if that is right, say which columns are levels by levels={COLUMN: ...}"
    raise UserError(f"{file}: row {row}, column {name!r}: expected {wanted}, got {cell!r}{more}")


def _cells(rows: Rows, place: int) -> Iterator[tuple[int, str]]:
    """Yield a column's cells with the numbers of their rows; rows that are too short have none."""
    return ((row, cells[place].strip()) for row, cells in rows if place < len(cells))


def _column(file: Path, name: str, place: int, rows: Rows) -> Column:
    """Say what most cells of a column are.

    Raises:
        UserError: for decimal commas, and for names that are all the same or too many.
    """
    counts = Counter(cell for _, cell in _cells(rows, place))
    finite = {cell for cell in counts if _is_finite(cell)}
    words = {cell for cell in counts.keys() - finite if cell and _is_name(cell)}
    plain = {cell for cell in words if cell.lower() not in MISSING}
    if plain and all(_DECIMAL_COMMA.fullmatch(cell) for cell in plain):
        row, got = next((row, cell) for row, cell in _cells(rows, place) if cell in plain)
        raise UserError(
            f"{file}: row {row}, column {name!r}: expected numbers with a decimal point, "
            f"got {got!r}"
        )
    numbers = sum(counts[cell] for cell in finite)
    if numbers > sum(counts[cell] for cell in plain):
        levels = [cell for cell in finite if _is_level(cell)]
        others = numbers - sum(counts[cell] for cell in levels)
        if not levels or others * FEW > numbers:
            return Column(name, place, None)
        return Column(name, place, max(2, max(map(int, levels)) + 1))
    if len(words) > MOST_NAMES:
        raise UserError(
            f"{file}: column {name!r}: expected at most {MOST_NAMES} different names, got "
            f"{len(words)} in {len(rows)} rows; leave it out by drop=[{name!r}]"
        )
    if len(words) < 2 and counts and all(_is_name(cell) for cell in counts):
        raise UserError(
            f"{file}: column {name!r}: expected numbers or different names, got only "
            f"{max(counts)!r}; leave it out by drop=[{name!r}]"
        )
    return Column(name, place, sorted(words))


def _delimiter(file: Path) -> str:
    """The character that the first line has most of."""
    try:
        with file.open("rb") as stream:
            line = stream.readline(1 << 16).decode("utf-8-sig", "replace")
    except OSError as error:
        raise UserError(f"{file}: {error.strerror}") from None
    return max(",;\t|", key=(line.splitlines() or [""])[0].count)


def _names(given: Mapping[str, object], option: str) -> list[str]:
    value = given.get(option)
    return list(map(str, value)) if isinstance(value, list) else []


def _is_number(cell: str) -> bool:
    return number_of(cell) is not None


def _is_finite(cell: str) -> bool:
    value = number_of(cell)
    return value is not None and math.isfinite(value)


def _is_level(cell: str) -> bool:
    return len(cell) <= 3 and cell.isascii() and cell.isdigit() and int(cell) < 256


def _is_name(cell: str) -> bool:
    """Whether a cell may be a name; that a row has none is said where it is read."""
    return not _is_number(cell) or cell.lower() in MISSING
