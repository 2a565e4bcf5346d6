"""`reports/index.html`: a way to every dataset's page, made of the reports that there are."""

from __future__ import annotations

import csv
import logging
from pathlib import Path

from pipeline.core import atomic, paths
from pipeline.core.errors import one_line
from pipeline.reporting import markup, wording
from pipeline.reporting.markup import Cell
from pipeline.reporting.wording import UNITS
from pipeline.tracking import mlflow_pages

log = logging.getLogger(__name__)


def write() -> Path | None:
    """Write the index anew from the folders of reports, studies and searches; None without any.

    It is no output of any stage: each report, search and study writes it, and so does showing them.
    """
    folder = paths.root() / "reports"
    lines = [line for path in sorted(folder.glob("[!.]*/table.csv")) if (line := _line(path))]
    others = {
        title: sorted(path.parent for path in above.glob("[!.]*/index.html"))
        for title, above in {"Studies": paths.study(""), "Searches": paths.search("")}.items()
    }
    if not lines and not any(others.values()):
        return None
    mlflow = markup.link(mlflow_pages.server(), "MLflow (while make ui runs)")
    body = [
        f'<header><nav aria-label="Elsewhere">{mlflow}</nav><h1>Reports</h1></header>',
        "<main>",
        *(_results(lines) if lines else []),
        *(line for title, found in others.items() if found for line in _list(title, found)),
        "</main>",
    ]
    path = folder / "index.html"
    folder.mkdir(parents=True, exist_ok=True)
    atomic.write_text(path, markup.page("Reports - arcore", body))
    return path


def _results(lines: list[list[Cell]]) -> list[str]:
    header = ["dataset", "best test value", "by", "its published counterpart", "our models"]
    return [
        markup.table(header, lines, "Test results by dataset, lower is better"),
        "<p>± is one standard error of the mean; &lt;= is an upper bound, ~ an estimate. A "
        "conditional model is given what rows come with, e.g. their class.</p>",
    ]


def _list(title: str, folders: list[Path]) -> list[str]:
    links = "".join(
        f"<li>{markup.link(f'../{one.parent.name}/{one.name}/index.html', one.name)}</li>"
        for one in folders
    )
    return [f"<h2>{title}</h2>", f"<ul>{links}</ul>"]


def _line(path: Path) -> list[Cell] | None:
    """Summarise a report's CSV; None if it is damaged, or the page or a row of ours is missing."""
    try:
        return _summary(path)
    except (KeyError, TypeError, ValueError, csv.Error) as error:
        log.warning("warning: %s: damaged: %s; left out", path, one_line(error))
        return None


def _summary(path: Path) -> list[Cell] | None:
    dataset = path.parent.name
    try:
        with open(path, newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
    except FileNotFoundError:  # just being replaced; whoever does so writes the index next
        return None
    ours = [row for row in rows if row.get("kind") == "ours" and row.get("split") == "test"]
    if (
        not ours
        or "published_relation" not in ours[0]
        or not (path.parent / "report.html").is_file()
    ):
        return None
    best, unit = ours[0], ours[0]["unit"]
    sign = wording.SIGNS.get(best["relation"], "")
    value = wording.with_error(float(best["value"]), float(best["value_stderr"]), sign)
    published = ""
    if best["published_value"]:
        near = wording.SIGNS.get(best["published_relation"], "")
        published = f"{near} {wording.rounded(float(best['published_value']), 2)}".strip()
    of = best["published"]
    if best["status"].startswith("unconfirmed"):
        of += ", unconfirmed"
    given = ["conditional"] if best["conditional"] == "True" else []
    scored, of_all = int(best["num_rows"]), int(best["num_split_rows"] or 0)
    given += [f"{scored:,} of {of_all:,} rows"] if scored < of_all else []
    experiments = {row["experiment"].split(" (")[0] for row in ours}
    return [
        Cell(dataset, link=f"{dataset}/report.html"),
        Cell(f"{value} {UNITS[unit]}", number=True),
        Cell(wording.short_name(best["experiment"], dataset), ", ".join(given)),
        Cell(published or "-", of if published else "", number=True),
        Cell(str(len(experiments)), number=True),
    ]
