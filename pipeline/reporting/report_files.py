"""Reports in `reports/<dataset>/`, their curves for `dvc plots`, their index, and their listing."""

import logging
from collections.abc import Iterable
from pathlib import Path

import pandas as pd

from pipeline import stage
from pipeline.artifacts import artifact
from pipeline.artifacts.artifact import CODECS
from pipeline.artifacts.writer import Work
from pipeline.core import atomic, paths
from pipeline.core.errors import UserError
from pipeline.datasets import catalog
from pipeline.evaluation import reading
from pipeline.reporting import numbers, tables, templates, wording
from pipeline.reporting.comparison import Report, build_report
from pipeline.reporting.templates import Cell, HtmlTable
from pipeline.reporting.wording import UNITS
from pipeline.stage import Made
from pipeline.tracking import mlflow_store
from pipeline.training.training_records import read_history
from pipeline.uses import use_records

log = logging.getLogger(__name__)
MOST_ROWS = 10
HEADER = ("dataset", "best test value", "by", "its published counterpart")


def write(dataset: str) -> Path:
    """Write `reports/<dataset>/`, `curves/<dataset>.csv` and the index of all reports."""
    from plotly.offline import get_plotlyjs

    from pipeline.reporting import report_page  # matplotlib takes long to import

    report = build_report(dataset)
    frame = numbers.numbers(report)
    measured = [folder / "metrics.json" for folder in reading.evaluations(dataset)]
    read = [artifact.codecs(dataset).folder / CODECS.main, *measured, *use_records.files(dataset)]
    files = {
        "table.md": tables.markdown(report, frame),
        "table.csv": numbers.csv_text(frame),
        "report.html": report_page.render(report, frame),
        "plotly.min.js": get_plotlyjs(),
        reading.MADE_OF: reading.hashes(read),
    }
    output = artifact.report(dataset)

    def make(work: Work) -> Made[Path]:
        for name, text in files.items():
            (work.folder / name).write_text(text, encoding="utf-8")
        return Made(output.folder, [f"wrote {output.folder}"], finish=complete)

    def complete() -> None:
        _write_curves(report)
        write_index()

    return stage.run(output, make)


def _write_curves(report: Report) -> None:
    """Write the epochs that were validated, experiment by experiment."""
    rows = [
        (name, int(line["epoch"]), line["valid_nats"])
        for name in sorted({row.result.experiment for row in report.rows})
        if (history := paths.model(name) / "history.csv").is_file()
        for line in read_history(history)
        if line.get("valid_nats")
    ]
    frame = pd.DataFrame(rows, columns=["experiment", "epoch", "valid_nats"])
    path = paths.root() / "curves" / f"{report.dataset}.csv"
    atomic.write_text(path, frame.to_csv(index=False, lineterminator="\n"))


def write_index() -> Path | None:
    """Write the index of the folders of reports and searches; None without any.

    It is no output of any stage: each report and search writes it, and so does showing them.
    """
    folder = paths.root() / "reports"
    rows = [row for path in sorted(folder.glob("[!.]*/table.csv")) if (row := _row(path))]
    searches = sorted(path.parent for path in (paths.root() / "searches").glob("[!.]*/index.html"))
    if not rows and not searches:
        return None
    results = HtmlTable("Test results by dataset, lower is better", HEADER, rows)
    text = templates.render(
        templates.INDEX, server=mlflow_store.server(), results=results, searches=searches
    )
    path = folder / "index.html"
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
    unconditional = ours[ours["condition"] == ""]
    best = (ours if unconditional.empty else unconditional).iloc[0]
    dataset = path.parent.name
    conditional = f"conditioned on {best['condition']}" if best["condition"] else ""
    notes = filter(None, (conditional, tables.scored_of(best)))
    published = tables.published_text(best) if best["published_by"] else tables.NONE
    return [
        Cell(dataset, link=f"{dataset}/report.html"),
        Cell(f"{tables.number_text(best)} {UNITS[best['unit']]}"),
        Cell(wording.short_name(best["experiment"], dataset), ", ".join(notes)),
        Cell(published, best["published_by"]),
    ]


def show(datasets: Iterable[str] = ()) -> str:
    """Return the best rows of existing reports, aligned for a terminal."""
    existing = (paths.root() / "reports").glob("[!.]*/table.csv")
    names = list(datasets) or sorted(path.parent.name for path in existing)
    if not names:
        raise UserError("reports: none yet; run `make repro` or `dvc repro`")
    return "\n".join(map(_shown, names))


def _shown(dataset: str) -> str:
    path = artifact.report(dataset).folder / "table.csv"
    if not path.is_file():
        catalog.load_settings(dataset)  # an unknown one is named, with what is near it
        raise UserError(f"{path}: missing; run `python -m stages.report {dataset}`")
    frame = numbers.read_csv(path)
    rows = tables.results(frame)
    shown, unit = rows[:MOST_ROWS], numbers.main_unit(frame)
    columns = ["experiment", "members", tables.CONDITION, tables.value_column(unit)]
    columns = [name for name in (*columns, "published", "difference") if name in shown[0]]
    return templates.render(
        templates.TERMINAL,
        dataset=dataset,
        unit=UNITS[unit],
        table=tables.plain_table(columns, [[row[name] for name in columns] for row in shown]),
        more=len(rows) - len(shown),
        page=path.with_name("report.html"),
    )
