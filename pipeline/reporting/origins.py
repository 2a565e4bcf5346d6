"""Where a row comes from: settings, commit, commands, data and files."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from pipeline.core import paths
from pipeline.data.manifest import read_manifest
from pipeline.experiments import naming
from pipeline.experiments.params_file import dvc_target, stages_of
from pipeline.reporting import templates, wording
from pipeline.reporting.comparison import Report, Row
from pipeline.reporting.templates import Cell, Terms
from pipeline.tracking import mlflow_store
from pipeline.training.training_records import TrainingRecord


@dataclass(frozen=True)
class RowOrigin:
    """Where a row of a page comes from: what is known, and the id that the row's name leads to."""

    id: str
    title: str
    terms: Terms


def anchor(experiment: str) -> str:
    """Return the id of an experiment's origin on a page."""
    return f"row-{templates.identifier(experiment)}"


def processors(training: TrainingRecord | None) -> int:
    """Return how many processors a training had: threads of a CPU, or accelerators."""
    if training is None:
        return 1
    threads = re.search(r"(\d+) threads?\)", training.device)
    return training.num_workers * (int(threads.group(1)) if threads else 1)


def of_report(report: Report) -> list[RowOrigin]:
    """Return where each of our rows comes from."""
    sha256 = read_manifest(paths.shards(report.dataset)).sha256
    return [
        RowOrigin(anchor(row.result.experiment), row.short_name, _terms(row, sha256))
        for row in report.rows
    ]


def _terms(row: Row, dataset_sha256: str) -> Terms:
    result, training, published = row.result, row.evaluated.training, row.published
    terms: Terms = [("model", result.model), ("settings", wording.settings(row.evaluated))]
    if published is not None:
        text = f"{published.label}: {published.source} [{published.status}]"
        terms.append(("published", [Cell(text, link=published.address)]))
    terms.append(("commit", (training and training.commit) or "unknown"))
    terms += [("command", command) for command in _commands(row)]
    terms.append(("data checksum", str(row.evaluated.config.dataset_sha256 or dataset_sha256)))
    terms += [("device", result.device)] if result.device else []
    if training is not None and training.epochs is not None:
        terms.append(("epochs", f"{training.epochs}, best {training.best_epoch}"))
    seconds = {"evaluation": result.evaluate_seconds, "sampling": result.sample_seconds}
    terms += [(name, f"{value:.2f} s") for name, value in seconds.items() if value is not None]
    folders = {"model": paths.model(row.evaluated.folder.name), "results": row.evaluated.folder}
    files = [
        Cell(what, link=(Path("..", "..") / folder.relative_to(paths.root())).as_posix())
        for what, folder in folders.items()
        if folder.is_dir()
    ]
    if training is not None and training.run_id:
        files.append(Cell("MLflow run", link=mlflow_store.run_page(training.run_id)))
    return [*terms, ("files", files)]


def _commands(row: Row) -> list[str]:
    """Return the commands that make a row again."""
    name = row.evaluated.folder.name
    if row.result.num_folds > 1:
        return [f"python -m stages.folds {naming.experiment_of(name)}"]
    stages = stages_of(name)
    by_hand = f"python -m stages.{stages[0]} {name} && python -m stages.evaluate {name}"
    return [f"dvc repro {dvc_target(stages[-1], name)}", by_hand]
