"""Writing a dataset's report to `reports/<dataset>/`, and logging it to MLflow."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from pipeline.artifacts import artifact
from pipeline.artifacts.writer import writing
from pipeline.core import paths
from pipeline.core.errors import one_line
from pipeline.evaluation import reading
from pipeline.reporting import curves, index, numbers, tables
from pipeline.reporting.comparison import build_report
from pipeline.tracking import mlflow_store, run_logger
from pipeline.uses import use_records

log = logging.getLogger(__name__)

EXPERIMENT = "arcore-reports"


def write(dataset: str) -> Path:
    """Write `reports/<dataset>/`, then log it to MLflow; an MLflow outage costs a warning.

    The index of all reports, `reports/index.html`, is rewritten from the folders that there are.
    """
    from pipeline.reporting import report_page  # matplotlib takes long to import

    report = build_report(dataset)
    frame = numbers.numbers(report)
    files = {
        "table.md": tables.markdown(report, frame),
        "table.csv": numbers.csv_text(frame),
        "report.html": report_page.render(report, frame),
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
    _log_report(frame, folder, files)
    return folder


def _read_by(dataset: str) -> list[Path]:
    """Return the files of numbers that a report reads."""
    measured = [folder / "metrics.json" for folder in reading.evaluations(dataset)]
    return [paths.codecs(dataset), *measured, *use_records.files(dataset)]


def _log_report(frame: pd.DataFrame, folder: Path, files: Mapping[str, str]) -> None:
    """Log a report as an MLflow run, once for each content."""
    digest = hashlib.sha256(repr(sorted(files.items())).encode()).hexdigest()
    dataset = folder.name
    identity = f"report:{dataset}:{digest}"
    try:
        store = mlflow_store.require_store()
        where = mlflow_store.experiment_id(store, EXPERIMENT)
        runs = mlflow_store.find_runs(store, where, mlflow_store.RUN_KEY, identity)
    except Exception as error:  # MLflow's many kinds; the report itself is written
        log.warning("warning: report not logged: %s", one_line(error))
        return
    if any(run.info.status == "FINISHED" for run in runs):
        return
    about = {"dataset": dataset, "unit": numbers.main_unit(frame)}
    run_id = mlflow_store.start_run(EXPERIMENT, dataset, identity, {}, about)
    logger = run_logger.RunLogger(run_id)
    for name in files:
        logger.artifact(folder / name)
    plain = frame.astype(object).where(frame.notna(), None)
    logger.table({name: plain[name].tolist() for name in numbers.TYPES}, "table.json")
    logger.finish("FAILED" if logger.failures else "FINISHED")
