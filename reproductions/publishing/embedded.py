"""The numbers that `make repro` ends with, kept as one CSV file of `results/`."""

from __future__ import annotations

import csv
import dataclasses
import io
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from pipeline.core import provenance
from pipeline.core.errors import UserError
from pipeline.evaluation.results import CodecResult
from pipeline.reporting import origins, wording
from pipeline.reporting.comparison import Report, Row

FILE = "embedded.csv"


@dataclass(frozen=True, kw_only=True)
class Line:
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


def lines_of(report: Report) -> list[Line]:
    """Return the lines of a report, best first."""
    here = provenance.commit()
    return [
        _codec_line(row, report, here) if isinstance(row, CodecResult) else _line(row, report)
        for row in report.measured
    ]


def _line(row: Row, report: Report) -> Line:
    result, event = row.result, row.evaluated.event
    above = wording.entropy_and_excess(row.evaluated)[1]
    return Line(
        dataset=report.dataset,
        experiment=result.experiment,
        members=wording.members(result, row.num_averaged) + _given(row),
        sign=row.sign_in(report.unit),
        value=row.value,
        stderr=result.score.stderr_in(report.unit, event),
        unit=report.unit,
        above=above if above != "-" else "",
        commit=origins.commit_of(row) or "",
    )


def _given(row: Row) -> str:
    """Say what a conditional model is given."""
    words = {
        "num_classes": "class",
        "local_classes": "symbols",
        "condition_size": "vector",
        "condition_sequence": "vectors",
        "condition_shape": "map",
    }
    given = [word for key, word in words.items() if row.evaluated.config.asked(key)]
    return f", given {' and '.join(given)}" if given else ""


def _codec_line(codec: CodecResult, report: Report, here: str) -> Line:
    return Line(
        dataset=report.dataset,
        experiment=codec.label,
        members=codec.settings,
        value=report.codec_value(codec),
        stderr=codec.score.stderr_in(report.unit, report.event),
        unit=report.unit,
        commit=here,
    )


def csv_text(lines: Iterable[Line]) -> str:
    """Render lines as CSV."""
    text = io.StringIO()
    writer = csv.DictWriter(text, _COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(dataclasses.asdict(line) for line in lines)
    return text.getvalue()


def read(path: Path) -> list[Line]:
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


def _parsed(row: dict[str, str], where: str) -> Line:
    if set(row) != set(_COLUMNS):
        raise UserError(f"{where}: expected the columns {', '.join(_COLUMNS)}, got {list(row)}")
    try:
        value = float(row["value"])
        stderr = float(row["stderr"]) if row["stderr"] else None
    except ValueError as error:
        raise UserError(f"{where}: expected numbers, got {error}") from None
    words = {key: row[key] for key in _COLUMNS if key not in ("value", "stderr")}
    return Line(value=value, stderr=stderr, **words)


_COLUMNS = [field.name for field in dataclasses.fields(Line)]
