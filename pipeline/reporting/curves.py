"""Validation curves of a dataset's experiments in one table, for one plot of `dvc plots`."""

from __future__ import annotations

import csv
import io
from pathlib import Path

from pipeline.core import atomic, paths
from pipeline.reporting.comparison import Report
from pipeline.training.history import read_history

COLUMNS = ("experiment", "epoch", "valid_nats")


def write(report: Report) -> Path:
    """Write `curves/<dataset>.csv`: the epochs that were validated, experiment by experiment."""
    rows: dict[tuple[str, int], str] = {}
    for name in sorted({row.result.experiment for row in report.rows}):
        history = paths.model(name) / "history.csv"
        if not history.is_file():
            continue
        for line in read_history(history):
            if line.get("valid_nats"):
                rows[name, int(line["epoch"])] = line["valid_nats"]
    path = paths.curves(report.dataset)
    path.parent.mkdir(parents=True, exist_ok=True)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows((*key, value) for key, value in rows.items())
    atomic.write_text(path, text.getvalue())
    return path
