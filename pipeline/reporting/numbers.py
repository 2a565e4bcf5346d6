"""Everything that a dataset's report measures, uses included, as one tidy table: `numbers`.

Each row is one number. The Markdown, CSV, terminal and HTML tables are made of this table alone.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from pipeline.core.errors import explained, require
from pipeline.evaluation.result_records import CodecResult
from pipeline.reporting import wording
from pipeline.reporting.comparison import Report, Row
from pipeline.reporting.published import PublishedResult
from pipeline.uses.use_records import Number, UseTiming

TEST, ENTROPY, ABOVE = "test", "entropy bound", "above it"
CODED, CODED_ABOVE, CODING = "coded", "coded above test", "coding"
PARAMETERS, SECONDS = "parameters", "train time"
RELATIONS = {sign: relation for relation, sign in wording.SIGNS.items()}


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """One number, and what it is of."""

    dataset: str
    kind: str  # ours, codec, baseline, entropy (of a known source), published, or use
    experiment: str
    model: str = "-"
    settings: str = "-"
    members: str = "-"
    condition: str = ""
    split: str = "test"
    rows: int | None = None
    split_rows: int | None = None
    quantity: str = TEST  # one of the names in this module, or "use: what it measured"
    value: float = math.nan
    error: float | None = None
    unit: str = ""
    relation: str = "exact"  # of the true value: upper_bound, approx, below, above
    published: float | None = None
    published_unit: str = ""
    published_relation: str = ""
    difference: float | None = None  # ours minus published, where both have one unit
    published_by: str = ""
    source: str = ""
    status: str = ""
    marks: str = ""  # why the row does not compare with the others
    device: str = ""
    commit: str = ""
    dataset_sha256: str = ""


_TYPES = {"str": "str", "float": "float64", "float | None": "float64", "int | None": "Int64"}
TYPES = {field.name: _TYPES[str(field.type)] for field in dataclasses.fields(Measurement)}


def numbers(report: Report) -> pd.DataFrame:
    """Return every number of a report, a row for each: the columns are the fields of `Measurement`.

    Rows of one experiment follow each other, its test value in the dataset's unit first.
    Ours and codecs come first, from the best; then what is only published, and what uses measured.
    """
    found: list[Measurement] = []
    for row in report.measured:
        found += _codec(row, report) if isinstance(row, CodecResult) else _ours(row, report)
    found += [_published(row, value, report) for row, value in report.context]
    for record, folder in report.uses:
        timing = UseTiming.of(folder)
        base = Measurement(
            dataset=report.dataset,
            kind="use",
            experiment=record.experiment,
            model=record.model,
            device=timing.device if timing else "",
            commit=timing.commit if timing else "",
            dataset_sha256=record.dataset_sha256,
        )
        found += _used(base, record.use, record.numbers)
    return _frame(found)


def of_use(use: str, experiment: str, measured: Sequence[Number]) -> pd.DataFrame:
    """Return the numbers of one use alone, as `used` does of a whole table."""
    base = Measurement(dataset="", kind="use", experiment=experiment)
    return used(_frame(list(_used(base, use, measured))), use)


def _frame(found: Sequence[Measurement]) -> pd.DataFrame:
    columns = list(TYPES)
    return pd.DataFrame([vars(one) for one in found], columns=columns).astype(TYPES)


def csv_text(frame: pd.DataFrame) -> str:
    """Render a table of numbers as CSV."""
    return frame.to_csv(index=False, lineterminator="\n")


def read_csv(path: Path) -> pd.DataFrame:
    """Read what `csv_text` rendered."""
    flaws = (OSError, KeyError, TypeError, ValueError)
    with explained(f"{path}: expected a table of numbers, got", *flaws):
        empty = {name: [""] for name, kind in TYPES.items() if kind != "str"}
        frame = pd.read_csv(path, dtype=TYPES, keep_default_na=False, na_values=empty)
        return frame[list(TYPES)]


def compared(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the numbers that compare models and codecs: none only published, none of a use."""
    return frame[~frame["kind"].isin(["published", "use"])]


def used(frame: pd.DataFrame, use: str) -> pd.DataFrame:
    """Return the numbers of one use, whose quantity is then the name of the number alone."""
    names = frame["quantity"].where(frame["kind"] == "use", "")
    found = frame[names.str.startswith(f"{use}: ")]
    return found.assign(quantity=found["quantity"].str.removeprefix(f"{use}: "))


def main_unit(frame: pd.DataFrame) -> str:
    """Return the dataset's unit."""
    return str(frame["unit"].iloc[0])


def _codec(codec: CodecResult, report: Report) -> Iterator[Measurement]:
    for unit in report.units:
        value, error = codec.score.in_unit(unit, report.event)
        yield Measurement(
            dataset=report.dataset,
            kind=codec.kind,
            experiment=codec.label,
            model=codec.kind,
            settings=codec.settings,
            rows=codec.num_rows,
            value=value,
            error=error,
            unit=unit,
        )


def _ours(row: Row, report: Report) -> Iterator[Measurement]:
    result, evaluated = row.result, row.evaluated
    base = Measurement(
        dataset=report.dataset,
        kind="ours",
        experiment=result.experiment,
        model=result.model,
        settings=wording.settings(evaluated),
        members=wording.members(result, row.num_averaged),
        condition=row.condition,
        split=result.split,
        rows=result.num_rows,
        split_rows=result.num_split_rows,
        marks=_marks(row),
        device=result.device or "",
        commit=evaluated.training.commit if evaluated.training else "",
        dataset_sha256=evaluated.config.dataset_sha256 or "",
    )
    for unit in report.units:
        value, error = result.score.in_unit(unit, evaluated.event)
        relation = row.relation_in(unit)
        scored = dataclasses.replace(base, value=value, error=error, unit=unit, relation=relation)
        yield _compared(scored, row) if unit == report.unit else scored
    for quantity, unit, more, spread in _more(row):
        if more is not None:
            yield dataclasses.replace(base, quantity=quantity, value=more, error=spread, unit=unit)


def _compared(scored: Measurement, row: Row) -> Measurement:
    """Add the published counterpart to a test value."""
    published = row.published
    if published is None:
        return scored
    known = row.published_value is not None
    return dataclasses.replace(
        scored,
        published=row.published_value if known else published.value,
        published_unit=row.result.unit if known else published.metric,
        published_relation=published.nll_relation,
        difference=row.difference,
        published_by=published.label,
        source=published.source,
        status=published.status,
    )


def _more(row: Row) -> Iterator[tuple[str, str, float | None, float | None]]:
    """Yield (quantity, unit, value, error) of all but the test values."""
    result, unit = row.result, row.result.unit
    yield ENTROPY, unit, row.entropy, None
    if (above := row.above_entropy) is not None:
        yield ABOVE, unit, *above
    if result.coded is not None:
        nats = result.coded.coded_bytes * 8 * math.log(2) / result.num_rows
        yield CODED, unit, row.in_unit(nats), None
        yield CODED_ABOVE, "%", 100 * (nats / result.score.nats - 1), None
        if seconds := result.coded.coded_seconds:
            yield CODING, "rows/s", result.num_rows / seconds, None
    yield PARAMETERS, "", result.num_parameters, None
    yield SECONDS, "s", result.train_seconds, None


def _marks(row: Row) -> str:
    """Say why a row does not compare with the others."""
    result, given = row.result, row.condition
    relation = row.relation_in(result.unit)
    marks = [
        f"given {given}" if given else "",
        "bound" if relation == "upper_bound" else "",
        "estimate" if relation == "approx" else "",
        wording.rows_scored(result.num_rows, result.num_split_rows),
        f"{result.split} split" if result.split != "test" else "",
        f"{result.num_folds} folds" if result.num_folds > 1 else "",
    ]
    return "; ".join(filter(None, marks))


def _published(row: PublishedResult, value: float | None, report: Report) -> Measurement:
    known = value is not None
    return Measurement(
        dataset=report.dataset,
        kind="published",
        experiment=row.label,
        model=row.model,
        settings=row.variant,
        split=row.split,
        quantity=TEST if known else row.metric,
        value=value if value is not None else row.value,
        unit=report.unit if known else row.metric,
        relation=row.nll_relation,
        published_by=row.label,
        source=row.source,
        status=row.status,
        marks="" if row.comparable else row.status,
    )


def _used(base: Measurement, use: str, measured: Sequence[Number]) -> Iterator[Measurement]:
    for one in measured:
        where = f"{base.experiment}: {use}: {one.name}: sign"
        require(one.sign in RELATIONS, where, f"one of {list(RELATIONS)}", one.sign)
        yield dataclasses.replace(
            base,
            quantity=f"{use}: {one.name}",
            value=one.value,
            error=one.stderr,
            unit=one.unit,
            relation=RELATIONS[one.sign],
        )
