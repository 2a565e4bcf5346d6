"""`reports/index.html`: links to every dataset's page, made of the reports that there are."""

from __future__ import annotations

import logging
from pathlib import Path

import pandas as pd

from pipeline.core import atomic, paths
from pipeline.core.errors import UserError
from pipeline.reporting import numbers, tables, templates, wording
from pipeline.reporting.templates import Cell, HtmlTable
from pipeline.reporting.wording import UNITS
from pipeline.tracking import mlflow_pages

log = logging.getLogger(__name__)
HEADER = ("dataset", "best test value", "by", "its published counterpart", "our models")


def write() -> Path | None:
    """Write the index of the folders of reports, studies and searches; None without any.

    It is no output of any stage: each report, search and study writes it, and so does showing them.
    """
    folder = paths.root() / "reports"
    rows = [row for path in sorted(folder.glob("[!.]*/table.csv")) if (row := _row(path))]
    others = {
        title: sorted(path.parent for path in above.glob("[!.]*/index.html"))
        for title, above in {"Studies": paths.study(""), "Searches": paths.search("")}.items()
    }
    if not rows and not any(others.values()):
        return None
    results = HtmlTable("Test results by dataset, lower is better", HEADER, rows)
    text = templates.render(
        templates.INDEX, server=mlflow_pages.server(), results=results, others=others
    )
    path = folder / "index.html"
    folder.mkdir(parents=True, exist_ok=True)
    atomic.write_text(path, text)
    return path


def _row(path: Path) -> list[Cell] | None:
    """Summarise a report; None if it is damaged, or its page or a row of ours is missing."""
    try:
        frame = numbers.read_csv(path)
    except UserError as error:
        # one that is just being replaced is gone; whoever does so writes the index next
        if path.is_file():
            log.warning("warning: %s; left out", error)
        return None
    ours = frame[(frame["kind"] == "ours") & (frame["split"] == "test")]
    if ours.empty or not (path.parent / "report.html").is_file():
        return None
    return _summary(ours, path.parent.name)


def _summary(ours: pd.DataFrame, dataset: str) -> list[Cell]:
    best = ours.iloc[0]
    conditional = f"given {best['condition']}" if best["condition"] else ""
    notes = filter(None, (conditional, tables.scored_of(best)))
    published = tables.published_text(best) if best["published_by"] else tables.NONE
    value, _, doubt = published.partition(" (")
    counterpart = ", ".join(filter(None, (best["published_by"], doubt.removesuffix(")"))))
    models = {name.partition(" (")[0] for name in ours["experiment"]}
    return [
        Cell(dataset, link=f"{dataset}/report.html"),
        Cell(f"{tables.number_text(best)} {UNITS[best['unit']]}"),
        Cell(wording.short_name(best["experiment"], dataset), ", ".join(notes)),
        Cell(value, counterpart),
        Cell(str(len(models))),
    ]
