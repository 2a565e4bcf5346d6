"""Writing a dataset's report to `reports/<dataset>/`, and logging it to MLflow."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping
from pathlib import Path

from pipeline.artifacts import artifact
from pipeline.artifacts.writer import writing
from pipeline.core import paths
from pipeline.core.errors import one_line
from pipeline.evaluation import reading
from pipeline.reporting import curves, index, report_csv, tables
from pipeline.reporting.comparison import Report, build_report
from pipeline.tracking import mlflow_store, run_logger
from pipeline.uses import use_records

log = logging.getLogger(__name__)

EXPERIMENT = "arcore-reports"


def write(dataset: str) -> Path:
    """Write `reports/<dataset>/`, then log it to MLflow; an MLflow outage costs a warning.

    The index of all reports, `reports/index.html`, is written anew from the folders that there are.

    Raises:
        UserError: for missing or malformed results.
    """
    from pipeline.reporting import html  # matplotlib takes long to import

    report = build_report(dataset)
    files = {
        "table.md": tables.markdown(report),
        "table.csv": report_csv.csv_text(report),
        "report.html": html.html_page(report),
    }
    made_of = reading.hashes(_read_by(dataset))
    output = artifact.report(dataset)
    folder = output.folder
    with writing(output, wait=True) as partial:
        for name, text in files.items():
            (partial / name).write_text(text, encoding="utf-8")
        (partial / reading.MADE_OF).write_text(made_of, encoding="utf-8")
    curves.write(report)
    index.write()
    log.info("wrote %s", folder)
    _log_report(report, folder, files)
    return folder


def _read_by(dataset: str) -> list[Path]:
    """Return the files of numbers that a report reads."""
    measured = [folder / "metrics.json" for folder in reading.evaluations(dataset)]
    return [paths.codecs(dataset), *measured, *use_records.files(dataset)]


def _log_report(report: Report, folder: Path, files: Mapping[str, str]) -> None:
    """Log a report as an MLflow run, once for each content."""
    digest = hashlib.sha256(repr(sorted(files.items())).encode()).hexdigest()
    identity = f"report:{report.dataset}:{digest}"
    try:
        store = mlflow_store.require_store()
        where = mlflow_store.experiment_id(store, EXPERIMENT)
        runs = mlflow_store.find_runs(store, where, mlflow_store.RUN_KEY, identity)
    except Exception as error:  # MLflow's many kinds; the report itself is written
        log.warning("warning: report not logged: %s", one_line(error))
        return
    if any(run.info.status == "FINISHED" for run in runs):
        return
    run_id = mlflow_store.start_run(
        EXPERIMENT, report.dataset, identity, {}, {"dataset": report.dataset, "unit": report.unit}
    )
    logger = run_logger.RunLogger(run_id)
    rows = report_csv.csv_rows(report)
    columns = {key: [row[key] for row in rows] for key in rows[0]}
    for name in files:
        logger.artifact(folder / name)
    logger.table(columns, "table.json")
    logger.finish("FAILED" if logger.failures else "FINISHED")
