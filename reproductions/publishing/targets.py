"""What each family was to reach, what it reached, and what its recorded curves say of the rest.

`results/marks.yaml` has a row for each target:

    budget_hours: hours of one thread that a target may cost
    rows:
      - system: what the table calls it
        of: an experiment of results/, or null while nothing is recorded
        mark: the value to reach, in the dataset's unit
        orderings: so many of one network, scored by its use `orderings` (default: `of` as it is)
        approximate: true for the importance-weighted estimate (default false)
        published: what is beside it; null for the record's own
        earlier_hours: of one thread, of trainings before the one recorded (default 0)
        train, overrides: the experiment that goes on (default `of`), and what is changed of it

`marks` in `results/tables.yaml` draws the table, `write` the curves as `results/marks.svg`.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from pipeline.core.errors import UserError, require
from pipeline.core.records import Record, require_known
from pipeline.core.yaml_settings import read_yaml
from pipeline.reporting import tables, wording
from pipeline.reporting.comparison import Report, Row
from reproductions.publishing import recorded, rendering, target_curves, use_tables
from reproductions.publishing.target_curves import TrainingCurve

FILE, FIGURE = "marks.yaml", "marks.svg"
HEADER = (
    "system", "test", "mark", "missed by", "published", "above training", "last third", "hours",
    "limited by", "goes on with",
)  # fmt: skip
LIMITS = ("overfitting", "time", "underfitting")


@dataclass(frozen=True, kw_only=True)
class Target(Record):
    """A row of `marks.yaml`; see the module."""

    system: str
    of: str | None
    mark: float
    orderings: int | None = None
    approximate: bool = False
    published: str | None = None
    earlier_hours: float = 0.0
    train: str | None = None
    overrides: str = ""

    @property
    def command(self) -> str:
        """What trains on, or anew."""
        return f"python -m stages.train {self.train or self.of} {self.overrides}".rstrip()


@dataclass(frozen=True, kw_only=True)
class TargetResult:
    """What is recorded of a target.

    Attributes:
        text, value: the test value with its error, and as a number, in the dataset's unit.
        published: its published counterpart, as text.
        curve: of the training; None for what is not trained itself.
    """

    text: str
    value: float
    published: str
    curve: TrainingCurve | None


def read(results: Path) -> tuple[float, list[Target]]:
    """Read `marks.yaml`: the hours of a target's budget, and the targets.

    Raises:
        UserError: naming the key that is amiss.
    """
    path = results / FILE
    given = read_yaml(path)
    hours, rows = given.get("budget_hours"), given.get("rows")
    require_known(given, ("budget_hours", "rows"), str(path))
    fits = isinstance(hours, int | float) and hours > 0
    require(fits, f"{path}: budget_hours", "a number > 0", hours)
    require(isinstance(rows, list), f"{path}: rows", "a list", rows)
    assert isinstance(rows, list) and isinstance(hours, int | float)
    return hours, [_target(row, f"{path}: row {number}") for number, row in enumerate(rows, 1)]


def _target(row: object, where: str) -> Target:
    require(isinstance(row, Mapping), where, "a mapping", row)
    described = cast(Mapping[str, object], row)
    require_known(described, Target.keys(), where)
    target = Target.from_dict(described, where)
    fits = target.of is not None or target.train is not None
    require(fits, f"{where}: train", "an experiment, since `of` is null", target.train)
    alone = target.of is not None and not target.approximate
    fits = target.orderings is None or alone
    require(fits, f"{where}: orderings", "an experiment as `of`, exactly scored", target.of)
    return target


def limit(curve: TrainingCurve, missed: float, budget: float) -> str:
    """Say what keeps a model from a target, given the distance to it and the hours to spend.

    Overfitting, if validation departs from training by half of what is missing or more (where
    training has a curve), or rose again; time, if validation still fell by half of it in the last
    third of the steps, or less than a third of the hours was spent; underfitting, if neither is so.

    Example:
        >>> valid = ((1, 90.0), (2, 88.0), (3, 86.0))
        >>> fell = TrainingCurve(valid=valid, train=((3, 85.8),), hours=1.0)
        >>> [limit(fell, missed, budget=2.5) for missed in (0.2, 3.0, 15.0)]
        ['overfitting, time', 'time', 'underfitting']
        >>> limit(fell, missed=15.0, budget=3.5)
        'time'
    """
    above = curve.above_training
    overfits = (above is not None and above >= missed / 2) or curve.rose
    in_time = curve.last_third >= missed / 2 or curve.hours < budget / 3
    return ", ".join(itertools.compress(LIMITS, (overfits, in_time, not overfits and not in_time)))


def table(results: Path, kept: recorded.Reader | None = None) -> tuple[list[str], list[list[str]]]:
    """Return the header and the cells of the table of targets.

    Arguments:
        results: folder of the records.
        kept: reads their datasets; None for a reader of its own.

    Raises:
        UserError: for a missing or malformed record.
    """
    hours, marks = read(results)
    kept = kept or recorded.reader(results)
    return list(HEADER), [_cells(target, measure(target, results, kept), hours) for target in marks]


def measure(target: Target, results: Path, kept: recorded.Reader) -> TargetResult | None:
    """Return what is recorded of a target; None if nothing is."""
    if target.of is None or (target.orderings and not _scored(target, results).is_file()):
        return None
    found = kept(target.of.partition("-")[0])
    unit = found.report.unit
    curve = target_curves.read(results, target.of, unit)
    if curve is not None:
        curve = dataclasses.replace(curve, hours=curve.hours + target.earlier_hours)
    if target.orderings:
        value, error = _score_of_orderings(target, results, unit)
        return TargetResult(
            text=wording.with_error(value, error),
            value=value,
            published=target.published or "",
            curve=curve,
        )
    row = _row(target, found.report, results)
    texts = found.texts(row.result.experiment)
    scored = wording.rows_scored(row.result.num_rows, row.result.num_split_rows)
    return TargetResult(
        text=texts[tables.value_column(unit)] + (f" ({scored})" if scored else ""),
        value=row.value,
        published=target.published or texts.get("published", ""),
        curve=curve,
    )


def _row(target: Target, report: Report, results: Path) -> Row:
    found = [row for row in report.rows if row.result.experiment == target.of]
    if target.approximate and found:
        same = [row for row in report.rows if row.evaluated.config == found[0].evaluated.config]
        found = [row for row in same if row.approximate]
    if not found:
        kind = "estimate" if target.approximate else "record"
        raise UserError(f"{results / str(target.of)}: no {kind} of {target.of}")
    return found[0]


def _score_of_orderings(target: Target, results: Path, unit: str) -> tuple[float, float]:
    """Return the mean and error of a mixture of orderings, which no table of a dataset has."""
    name = f"{target.orderings} orderings: nats"
    require(unit == "nats", f"{target.system}: orderings", "a dataset in nats", unit)
    for number in use_tables.part(results, str(target.of), "orderings").numbers:
        if number.name == name and number.stderr is not None:
            return number.value, number.stderr
    raise UserError(f"{_scored(target, results)}: no number {name!r}")


def _scored(target: Target, results: Path) -> Path:
    """Return the record of a target's orderings."""
    return use_tables.path_of(results, str(target.of), "orderings")


def _cells(target: Target, measured: TargetResult | None, budget: float) -> list[str]:
    goal, command = f"{target.mark:g}", f"`{target.command}`"
    if measured is None and target.orderings:
        command = f"`python -m stages.use orderings {target.of}`"
    if measured is None:
        return [target.system, "not run", goal, "", target.published or "", "", "", "", "", command]
    missed = measured.value - target.mark
    cells = [target.system, measured.text, goal]
    if missed <= 0:
        return [*cells, "met", measured.published, "", "", "", "", ""]
    digits = 2 if measured.value > 10 else 3
    cells += [wording.rounded(missed, digits), measured.published]
    curve = measured.curve
    if curve is None:
        return [*cells, "", "", "", "its members", ""]
    above = curve.above_training
    spent = f"{curve.hours:.1f} of {budget:g}" if curve.hours < budget else f"{curve.hours:.1f}"
    return [
        *cells,
        "" if above is None else wording.rounded(above, digits),
        wording.rounded(-curve.last_third, digits),
        spent,
        limit(curve, missed, budget),
        command,
    ]


def draw(results: Path) -> str:
    """Return all curves beside their targets as an SVG."""
    kept = recorded.reader(results)
    panels: list[target_curves.Panel] = []
    for target in read(results)[1]:
        measured = measure(target, results, kept)
        if measured is not None and measured.curve is not None:
            panels.append(target_curves.Panel(target.system, target.mark, measured.curve))
    return target_curves.draw(_distinct(panels))


def write(results: Path) -> Path | None:
    """Draw `marks.svg` where there are targets; return it if it changed."""
    if not (results / FILE).is_file():
        return None
    return rendering.write_if_changed(results / FIGURE, draw(results))


def _distinct(panels: Sequence[target_curves.Panel]) -> list[target_curves.Panel]:
    """Leave out a second panel of the same curve."""
    kept: list[target_curves.Panel] = []
    for panel in panels:
        if all(panel.curve != other.curve for other in kept):
            kept.append(panel)
    return kept
