"""Where a row comes from: settings, commit, commands, data and files."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pipeline.core import paths
from pipeline.data.manifest import read_manifest
from pipeline.experiments import naming
from pipeline.experiments.params_file import dvc_target, stages_of
from pipeline.reporting import templates, wording
from pipeline.reporting.comparison import Report, Row
from pipeline.reporting.templates import Cell, Terms
from pipeline.tracking import mlflow_pages
from pipeline.training.training_records import TrainingRecord

CODECS = "codecs"


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
    """Return how many processors a training had: threads of a CPU, or accelerators.

    Example:
        >>> processors(None)
        1
    """
    if training is None:
        return 1
    threads = re.search(r"(\d+) threads?\)", training.device)
    return training.num_workers * (int(threads.group(1)) if threads else 1)


def of_report(report: Report) -> list[RowOrigin]:
    """Return where each of our rows comes from, and the codecs."""
    sha256 = read_manifest(paths.shards(report.dataset)).sha256
    found = [
        RowOrigin(anchor(row.result.experiment), row.short_name, _terms(row, sha256))
        for row in report.rows
    ]
    return found + ([_of_codecs(report, sha256)] if report.codecs else [])


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
    files = list(_files(row))
    if training is not None and training.run_id:
        files.append(Cell("MLflow run", link=mlflow_pages.run_page(training.run_id)))
    return [*terms, ("files", files)]


def _commands(row: Row) -> list[str]:
    """Return the commands that make a row again."""
    name = row.evaluated.folder.name
    if row.result.num_folds > 1:
        return [f"python -m stages.folds {naming.experiment_of(name)}"]
    stages = stages_of(name)
    by_hand = f"python -m stages.{stages[0]} {name} && python -m stages.evaluate {name}"
    return [f"dvc repro {dvc_target(stages[-1], name)}", by_hand]


def _files(row: Row) -> Iterator[Cell]:
    folder, split = row.evaluated.folder, row.result.split
    model = paths.model(folder.name)
    held = {
        "weights": model / "model.safetensors",
        "configuration": model / "config.yaml",
        "training record": model / "training.json",
        "curve (CSV)": model / "history.csv",
        "metrics": folder / "metrics.json",
        "nats of each test row (CSV)": folder
        / ("scores.csv" if split == "test" else f"scores_{split}.csv"),
        "values of the folds (CSV)": folder / "folds.csv",
    }
    for what, path in held.items():
        if path.is_file():
            address = Path("..", "..") / path.relative_to(paths.root())
            yield Cell(what, link=address.as_posix())


def _of_codecs(report: Report, dataset_sha256: str) -> RowOrigin:
    terms: Terms = [
        (codec.label, f"{codec.kind}; {codec.settings}; {codec.num_rows:,} test rows")
        for codec in report.codecs
    ]
    terms.append(("command", f"python -m stages.codecs {report.dataset}"))
    terms.append(("data checksum", dataset_sha256))
    path = f"../../codecs/{report.dataset}.json"
    terms.append(("files", [Cell("measurements (JSON)", link=path)]))
    return RowOrigin(CODECS, "codecs and simple models", terms)
