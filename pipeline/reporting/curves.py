"""Validation curves of a dataset's experiments in one table, for one plot of `dvc plots`."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from pipeline.core import atomic, paths
from pipeline.reporting.comparison import Report
from pipeline.training.history import read_history


def write(report: Report) -> Path:
    """Write `curves/<dataset>.csv`: the epochs that were validated, experiment by experiment."""
    histories = {
        name: paths.model(name) / "history.csv"
        for name in sorted({row.result.experiment for row in report.rows})
    }
    rows = [
        (name, int(line["epoch"]), line["valid_nats"])
        for name, history in histories.items()
        if history.is_file()
        for line in read_history(history)
        if line.get("valid_nats")
    ]
    frame = pd.DataFrame(rows, columns=["experiment", "epoch", "valid_nats"])
    path = paths.curves(report.dataset)
    path.parent.mkdir(parents=True, exist_ok=True)
    atomic.write_text(path, frame.to_csv(index=False, lineterminator="\n"))
    return path
