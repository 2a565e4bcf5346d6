"""Writing a dataset's report to `reports/<dataset>/`, and its curves for `dvc plots`."""

import logging
from pathlib import Path

import pandas as pd

from pipeline.artifacts import artifact
from pipeline.artifacts.artifact import CODECS
from pipeline.artifacts.writer import writing
from pipeline.core import atomic, paths
from pipeline.evaluation import reading
from pipeline.reporting import index, numbers, tables
from pipeline.reporting.comparison import Report, build_report
from pipeline.training.training_records import read_history
from pipeline.uses import use_records

log = logging.getLogger(__name__)


def write(dataset: str) -> Path:
    """Write `reports/<dataset>/`, `curves/<dataset>.csv` and the index of all reports."""
    from plotly.offline import get_plotlyjs

    from pipeline.reporting import report_page  # matplotlib takes long to import

    report = build_report(dataset)
    frame = numbers.numbers(report)
    files = {
        "table.md": tables.markdown(report, frame),
        "table.csv": numbers.csv_text(frame),
        "report.html": report_page.render(report, frame),
        "plotly.min.js": get_plotlyjs(),
        reading.MADE_OF: reading.hashes(_read_by(dataset)),
    }
    output = artifact.report(dataset)
    with writing(output, wait=True) as partial:
        for name, text in files.items():
            (partial / name).write_text(text, encoding="utf-8")
    _write_curves(report)
    index.write()
    log.info("wrote %s", output.folder)
    return output.folder


def _read_by(dataset: str) -> list[Path]:
    measured = [folder / "metrics.json" for folder in reading.evaluations(dataset)]
    return [paths.root() / "codecs" / dataset / CODECS.main, *measured, *use_records.files(dataset)]


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
    path.parent.mkdir(parents=True, exist_ok=True)
    atomic.write_text(path, frame.to_csv(index=False, lineterminator="\n"))
