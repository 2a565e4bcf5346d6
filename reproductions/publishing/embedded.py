"""The numbers that `make repro` ends with, kept as one CSV file of `results/`."""

from __future__ import annotations

import csv
import dataclasses
import io
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
        value = _printed(self.value, self.stderr, self.sign)
        text = f"{value} {wording.UNITS[self.unit]}"
        return f"{text}, {self.above} above the bound" if self.above else text


def _printed(value: float, stderr: float | None, sign: str = "") -> str:
    if stderr is None:
        return f"{sign} {value:g}".lstrip()
    return wording.with_error(value, stderr, sign)


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
    text = io.StringIO()
    writer = csv.DictWriter(text, _COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(dataclasses.asdict(line) for line in lines)
    return text.getvalue()


def read(path: Path) -> list[EmbeddedLine]:
    """Read what `csv_text` rendered.

    Raises:
        UserError: naming the file and line, if it is missing or malformed.
    """
    if not path.is_file():
        raise UserError(
            f"{path}: missing; run `python -m reproductions.results --embedded <datasets>`"
        )
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file, restval=""))
    return [_parsed(row, f"{path}: line {number}") for number, row in enumerate(rows, 2)]


def _parsed(row: dict[str, str], where: str) -> EmbeddedLine:
    if set(row) != set(_COLUMNS):
        raise UserError(f"{where}: expected the columns {', '.join(_COLUMNS)}, got {list(row)}")
    try:
        value = float(row["value"])
        stderr = float(row["stderr"]) if row["stderr"] else None
    except ValueError as error:
        raise UserError(f"{where}: expected numbers, got {error}") from None
    words = {key: row[key] for key in _COLUMNS if key not in ("value", "stderr")}
    return EmbeddedLine(value=value, stderr=stderr, **words)


_COLUMNS = [field.name for field in dataclasses.fields(EmbeddedLine)]
