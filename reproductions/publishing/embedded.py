"""The numbers that `make repro` ends with, kept as one CSV file of `results/`."""

import csv
import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from pipeline.artifacts import origin
from pipeline.core.errors import UserError, explained
from pipeline.reporting import numbers, tables, wording

FILE = "embedded.csv"


@dataclass(frozen=True, kw_only=True)
class EmbeddedLine:
    """A result on embedded data, or of a codec by its label."""

    dataset: str
    experiment: str
    members: str
    sign: str = ""
    value: float  # in `unit`, as is `stderr`, which old records lack
    stderr: float | None = None
    unit: str
    above: str = ""  # the least that is possible, by how much
    commit: str = ""

    @property
    def test(self) -> str:
        """The value with its error and unit, and how far it is above the bound."""
        value = f"{self.sign} {self.value:g}".lstrip()
        if self.stderr is not None:
            value = wording.with_error(self.value, self.stderr, self.sign)
        text = f"{value} {wording.UNITS[self.unit]}"
        return f"{text}, {self.above} above the bound" if self.above else text


def lines_of(frame: pd.DataFrame) -> list[EmbeddedLine]:
    """Return the lines of a report's numbers, in their order."""
    here = origin.commit()
    groups = numbers.compared(frame).groupby("experiment", sort=False)
    return [_line(group, here) for _, group in groups]


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
    return str(pd.DataFrame(map(vars, lines)).to_csv(index=False, lineterminator="\n"))


def read(path: Path) -> list[EmbeddedLine]:
    """Read what `csv_text` rendered."""
    if not path.is_file():
        again = "run `python -m reproductions.results --embedded <datasets>`"
        raise UserError(f"{path}: missing; {again}")
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file, restval=""))
    return [_parsed(row, f"{path}: line {number}") for number, row in enumerate(rows, 2)]


def _parsed(row: dict[str, str], where: str) -> EmbeddedLine:
    with explained(f"{where}: expected numbers, got", KeyError, ValueError):
        words = {field.name: row[field.name] for field in dataclasses.fields(EmbeddedLine)}
        value, stderr = float(words.pop("value")), words.pop("stderr")
        return EmbeddedLine(value=value, stderr=float(stderr) if stderr else None, **words)
