"""The report's HTML page: one file, figures inside, nothing fetched from elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from pipeline.core import paths
from pipeline.data.manifest import read_manifest
from pipeline.reporting import (
    figures,
    gallery,
    origins,
    tables,
    templates,
    use_sections,
    wording,
)
from pipeline.reporting.comparison import Report
from pipeline.reporting.tables import Texts
from pipeline.reporting.templates import Cell, HtmlTable
from pipeline.reporting.wording import UNITS
from pipeline.tracking import mlflow_pages

LEFT_OUT = ("settings", "device", "source")  # which the origin of each row gives
FIRST = ("experiment", "condition", "published", "difference")


@dataclass(frozen=True)
class Chart:
    """A chart as SVG.

    Attributes:
        wide, narrow: for wide and narrow screens.
        alt, caption: what it shows, for those who do not see it, and for all.
    """

    wide: bytes
    narrow: bytes
    alt: str
    caption: str


def render(report: Report, frame: pd.DataFrame) -> str:
    """Render a report and its numbers as one self-contained HTML page."""
    results = tables.results(frame)
    return templates.render(
        templates.REPORT,
        dataset=report.dataset,
        results=_results(results, report),
        legend=tables.legend(report, list(results[0])),
        comparison_title=_comparison_title(report),
        comparison=_comparison(report),
        curves=_curves(report),
        samples=gallery.sections(report),
        uses=use_sections.sections(report.dataset),
        published=_published(frame, report),
        nothing_published=tables.nothing_published(report),
        manifest=read_manifest(paths.shards(report.dataset)),
        models_page=mlflow_pages.models_page(),
        origins=origins.of_report(report),
    )


def _results(rows: Sequence[Texts], report: Report) -> HtmlTable:
    """Return the table of our rows and of codecs: names lead to origins, remarks are notes."""
    first = [FIRST[0], tables.value_column(report.unit), *FIRST[1:]]
    columns = [name for name in first if name in rows[0]]
    columns += [name for name in rows[0] if name not in (*first, *LEFT_OUT)]
    cells = [[_cell(name, row[name], report) for name in columns] for row in rows]
    caption = "Test results, best first; a name leads to how its row was made"
    return HtmlTable(caption, columns, cells)


def _cell(column: str, text: str, report: Report) -> Cell:
    if column == "experiment":
        codecs = {codec.label for codec in report.codecs}
        link = "codecs" if text in codecs else origins.anchor(text)
        return Cell(wording.short_name(text, report.dataset), link=f"#{link}")
    if column in ("published", tables.value_column(report.unit)):
        value, _, note = text.partition(" (")
        return Cell(value, note.removesuffix(")"))
    return Cell(text)


def _published(frame: pd.DataFrame, report: Report) -> HtmlTable:
    rows = tables.published(frame)
    cells = [
        [Cell(text, link=row.address if name == "source" else "") for name, text in texts.items()]
        for texts, (row, _) in zip(rows, report.context, strict=True)
    ]
    caption = "Published results that none of ours is matched with"
    return HtmlTable(caption, list(rows[0]) if rows else [], cells)


def _comparison_title(report: Report) -> str:
    shown = figures.kinds_shown(report)
    if figures.PUBLISHED in shown:
        return "Compared with published values"
    return "Compared with codecs and simple models" if figures.CODEC in shown else "Compared"


def _comparison(report: Report) -> Chart | None:
    if len(report.rows) + len(report.codecs) + len(report.context) < 2:
        return None
    shown = figures.kinds_shown(report)
    kinds = [words for marker, words in figures.KINDS.items() if marker in shown]
    caption = f"Test {UNITS[report.unit]}, lower is better: {'; '.join(kinds)}."
    if report.rows[0].entropy is not None:
        caption += " Dashed: the entropy bound."
    if omitted := figures.left_out(report):
        caption += f" {omitted.capitalize()}."
    wide, narrow = (figures.svg(figures.comparison(report, narrow)) for narrow in (False, True))
    alt = f"Dot plot of the test results of {report.dataset}; the numbers are in the tables"
    return Chart(wide, narrow, alt, caption)


def _curves(report: Report) -> Chart | None:
    curves: Sequence[figures.Curve] = figures.curves_of(report)
    if not curves:
        return None
    wide, narrow = (
        figures.svg(figures.learning_curves(curves, report.unit, narrow))
        for narrow in (False, True)
    )
    ends = ", ".join(f"{curve.label} {curve.values[-1]:.4g}" for curve in curves)
    unit = UNITS[report.unit]
    caption = (
        f"Validation {unit} over the time of training, in seconds times processors, validation not "
        "counted. The first epochs may lie above the picture; ↑ marks a curve that ends there."
    )
    return Chart(wide, narrow, f"Learning curves; last validation {unit}: {ends}", caption)
