"""A dataset's report: our results matched with the published ones.

It is printed by `pipeline.reporting.tables` and, as an HTML page with figures, by
`pipeline.reporting.html`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from pipeline.core import paths
from pipeline.core.errors import UserError
from pipeline.evaluation.results import CodecResult, Result, read_codecs, read_json, read_results
from pipeline.reporting.published import PublishedResult, match, published_for


@dataclass(frozen=True, kw_only=True)
class Row:
    """One of our results with its published counterpart, if the experiment names one."""

    result: Result
    published: PublishedResult | None
    published_value: float | None

    @property
    def difference(self) -> float | None:
        """Ours minus published, in the dataset's unit; negative is better."""
        return None if self.published_value is None else self.result.value - self.published_value


@dataclass(frozen=True, kw_only=True)
class Report:
    """Everything that a dataset's table says.

    Attributes:
        rows: ours, best first.
        codecs: general codecs on the same images, best first; none for other data.
        context: published rows that none of ours is matched with, and their values in the
            dataset's unit (None where the metric is another quantity), best first; those that are
            no valid likelihood of the test split come last.
    """

    dataset: str
    published_name: str | None
    unit: str
    rows: tuple[Row, ...]
    codecs: tuple[CodecResult, ...]
    context: tuple[tuple[PublishedResult, float | None], ...]


def build_report(dataset: str) -> Report:
    """Put a dataset's results beside the published ones.

    An experiment names its counterpart in its config, `evaluation.published: {model, variant}`, and
    an ensemble that of one member, `evaluation.published_member`, which gives it a second row. A
    bound has a second row for its importance-weighted estimate, where one was made.

    Raises:
        UserError: for missing or malformed files, or a counterpart that is not published.
    """
    read = read_results(dataset)
    members = [result.of_member() for result in read if result.published_member is not None]
    read += [
        result.of_importance()
        for result in read
        if result.nats_importance_weighted is not None or result.published_importance is not None
    ]
    read += members
    results = sorted(read, key=lambda result: (result.value, result.experiment))
    name = read_json(paths.shards(dataset) / "manifest.json").get("published_name")
    units = {result.unit for result in results}
    if len(units) > 1 or len({result.event for result in results}) > 1:
        raise UserError(f"evaluation/{dataset}: its experiments differ in unit or event")
    unit, event = results[0].unit, results[0].event
    published = published_for(name)
    rows = []
    for result in results:
        row = None
        if result.published is not None:
            where = f"{result.experiment}: evaluation.published"
            row = match(published, result.published, where)
        value = None if row is None else row.nll(unit, event)
        rows.append(Row(result=result, published=row, published_value=value))
    ours = {row.published for row in rows}
    context = [(row, row.nll(unit, event)) for row in published if row not in ours]
    context.sort(
        key=lambda item: (not item[0].comparable, math.inf if item[1] is None else item[1])
    )
    return Report(
        dataset=dataset,
        published_name=name,
        unit=unit,
        rows=tuple(rows),
        codecs=tuple(read_codecs(dataset, unit, event)),
        context=tuple(context),
    )


def measured_rows(report: Report) -> list[Row | CodecResult]:
    """Return our rows and those of codecs as one list, best first."""
    return sorted(
        [*report.rows, *report.codecs],
        key=lambda row: row.value if isinstance(row, CodecResult) else row.result.value,
    )
