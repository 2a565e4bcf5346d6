"""The numbers that `make repro` ends with, kept as one CSV file of `results/`."""

from __future__ import annotations

import csv
import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from pipeline.artifacts import origin
from pipeline.core.errors import UserError
from pipeline.reporting import numbers, tables, wording

FILE = "embedded.csv"


@dataclass(frozen=True, kw_only=True)
class EmbeddedLine:
    """A result on embedded data.

    Attributes:
        dataset: embedded one.
        experiment: its name, or the label of a codec.
        members: what was scored, in words.
        sign: of the value: nothing, <= or ~.
        value, stderr: in the dataset's unit; the error of old records may be missing.
        unit: one of `arcore.units.UNITS`.
        above: how far the value is above the least that is possible, with its error, as text.
        commit: of the training, empty where it is not known; for a codec of the record.
    """

    dataset: str
    experiment: str
    members: str
    sign: str = ""
    value: float
    stderr: float | None = None
    unit: str
    above: str = ""
    commit: str = ""

    @property
    def test(self) -> str:
        """The value with its error and unit, and how far it is above the bound."""
        value = f"{self.sign} {self.value:g}".lstrip()
        if self.stderr is not None:
            value = wording.with_error(self.value, self.stderr, self.sign)
        text = f"{value} {wording.UNITS[self.unit]}"
        return f"{text}, {self.above} above the bound" if self.above else text


_COLUMNS = [field.name for field in dataclasses.fields(EmbeddedLine)]


def lines_of(frame: pd.DataFrame) -> list[EmbeddedLine]:
    """Return the lines of a report's numbers, in their order."""
    here = origin.commit()
    measured = frame[frame["kind"] != "published"]
    return [_line(group, here) for _, group in measured.groupby("experiment", sort=False)]


def _line(group: pd.DataFrame, here: str) -> EmbeddedLine:
    first, ours = group.iloc[0], group["kind"].iloc[0] == "ours"
    given = f", given {first['condition']}" if first["condition"] else ""
    return EmbeddedLine(
        dataset=first["dataset"],
        experiment=first["experiment"],
        members=first["members"] + given if ours else first["settings"],
        sign=wording.SIGNS[first["relation"]],
        value=float(first["value"]),
        stderr=float(first["error"]),
        unit=first["unit"],
        above=tables.texts(group).get(numbers.ABOVE, ""),
        commit=first["commit"] if ours else here,
    )


def csv_text(lines: Iterable[EmbeddedLine]) -> str:
    """Render lines as CSV."""
    table = pd.DataFrame(map(dataclasses.asdict, lines), columns=_COLUMNS)
    return str(table.to_csv(index=False, lineterminator="\n"))


def read(path: Path) -> list[EmbeddedLine]:
    """Read what `csv_text` rendered.

    Raises:
        UserError: naming the file and line, if it is missing or malformed.
    """
    if not path.is_file():
        again = "run `python -m reproductions.results --embedded <datasets>`"
        raise UserError(f"{path}: missing; {again}")
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file, restval=""))
    return [_parsed(row, f"{path}: line {number}") for number, row in enumerate(rows, 2)]


def _parsed(row: dict[str, str], where: str) -> EmbeddedLine:
    if set(row) != set(_COLUMNS):
        raise UserError(f"{where}: expected the columns {', '.join(_COLUMNS)}, got {list(row)}")
    words = {key: row[key] for key in _COLUMNS if key not in ("value", "stderr")}
    try:
        stderr = float(row["stderr"]) if row["stderr"] else None
        return EmbeddedLine(value=float(row["value"]), stderr=stderr, **words)
    except ValueError as error:
        raise UserError(f"{where}: expected numbers, got {error}") from None
