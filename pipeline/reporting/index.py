"""`reports/index.html`: links to every dataset's page, made of the reports that there are."""

from __future__ import annotations

import logging
from pathlib import Path

from pipeline.core import atomic, paths
from pipeline.core.errors import UserError
from pipeline.reporting import numbers, tables, templates, wording
from pipeline.reporting.templates import Cell, HtmlTable
from pipeline.reporting.wording import UNITS
from pipeline.tracking import mlflow_store

log = logging.getLogger(__name__)
HEADER = ("dataset", "best test value", "by", "its published counterpart")


def write() -> Path | None:
    """Write the index of the folders of reports and searches; None without any.

    It is no output of any stage: each report and search writes it, and so does showing them.
    """
    folder = paths.root() / "reports"
    rows = [row for path in sorted(folder.glob("[!.]*/table.csv")) if (row := _row(path))]
    searches = sorted(path.parent for path in paths.search("").glob("[!.]*/index.html"))
    if not rows and not searches:
        return None
    results = HtmlTable("Test results by dataset, lower is better", HEADER, rows)
    text = templates.render(
        templates.INDEX, server=mlflow_store.server(), results=results, searches=searches
    )
    path = folder / "index.html"
    folder.mkdir(parents=True, exist_ok=True)
    atomic.write_text(path, text)
    return path


def _row(path: Path) -> list[Cell] | None:
    """Summarise a report; None if it is damaged, or a row of ours is missing."""
    try:
        frame = numbers.read_csv(path)
    except UserError as error:
        log.warning("warning: %s; left out", error)
        return None
    ours = frame[(frame["kind"] == "ours") & (frame["split"] == "test")]
    if ours.empty:
        return None
    best, dataset = ours.iloc[0], path.parent.name
    conditional = f"given {best['condition']}" if best["condition"] else ""
    notes = filter(None, (conditional, tables.scored_of(best)))
    published = tables.published_text(best) if best["published_by"] else tables.NONE
    return [
        Cell(dataset, link=f"{dataset}/report.html"),
        Cell(f"{tables.number_text(best)} {UNITS[best['unit']]}"),
        Cell(wording.short_name(best["experiment"], dataset), ", ".join(notes)),
        Cell(published, best["published_by"]),
    ]
