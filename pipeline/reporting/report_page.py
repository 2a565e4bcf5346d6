"""The report's HTML page: one file, figures inside, nothing fetched from elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pandas as pd
from matplotlib.figure import Figure

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
from pipeline.tracking import mlflow_store

LEFT_OUT = ("settings", "device", "source")  # which the origin of each row gives
FIRST = ("experiment", "condition", "published", "difference")


Chart = tuple[bytes, bytes]  # SVG for wide and for narrow screens


def render(report: Report, frame: pd.DataFrame) -> str:
    """Render a report and its numbers as one self-contained HTML page."""
    results = tables.results(frame)
    dots, curves = figures.dots_of(report), figures.curves_of(report)
    return templates.render(
        templates.REPORT,
        dataset=report.dataset,
        unit=UNITS[report.unit],
        results=_results(results, report),
        legend=tables.legend(report, list(results[0])),
        dots=dots,
        comparison=_chart(figures.comparison, dots)
        if len(frame["experiment"].unique()) > 1
        else None,
        curves=curves,
        learning_curves=_chart(figures.learning_curves, curves, report.unit) if curves else None,
        samples=gallery.sections(report),
        uses=use_sections.sections(report.dataset),
        published=_published(frame, report),
        manifest=read_manifest(paths.shards(report.dataset)),
        models_page=mlflow_store.models_page(),
        origins=origins.of_report(report),
    )


def _chart(draw: Callable[..., Figure], *shown: object) -> Chart:
    wide, narrow = (figures.svg(draw(*shown, narrow=narrow)) for narrow in (False, True))
    return wide, narrow


def _results(rows: Sequence[Texts], report: Report) -> HtmlTable:
    """Return the table of our rows and of codecs: names lead to origins, remarks are notes."""
    first = [FIRST[0], tables.value_column(report.unit), *FIRST[1:]]
    columns = [name for name in first if name in rows[0]]
    columns += [name for name in rows[0] if name not in (*first, *LEFT_OUT)]
    cells = [[_cell(name, row[name], report) for name in columns] for row in rows]
    caption = "Test results, best first; each name links to the origin of its row"
    return HtmlTable(caption, columns, cells)


def _cell(column: str, text: str, report: Report) -> Cell:
    if column == "experiment":
        ours = any(row.result.experiment == text for row in report.rows)
        link = f"#{origins.anchor(text)}" if ours else ""
        return Cell(wording.short_name(text, report.dataset), link=link)
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
    caption = "Published results without a counterpart above"
    return HtmlTable(caption, list(rows[0]) if rows else [], cells)
