"""Where a row comes from: commit, commands, data and files."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from pipeline.core import paths
from pipeline.experiments import naming
from pipeline.experiments.params_file import stages_of
from pipeline.reporting.comparison import Row
from pipeline.tracking import mlflow_pages
from pipeline.training.training_records import TrainingRecord


@dataclass(frozen=True, kw_only=True)
class Origin:
    """Where a result of ours comes from.

    Attributes:
        training: its record; None for an outcome over folds, which leaves no model.
        commands: that make it again.
        dataset_sha256: of the shards.
        files: addresses by what they hold, relative to `reports/<dataset>/`.
        run: address of the MLflow run's page.
    """

    training: TrainingRecord | None
    commands: tuple[str, ...]
    dataset_sha256: str
    files: tuple[tuple[str, str], ...]
    run: str | None


def commit_of(row: Row) -> str | None:
    """Return the commit that a row's model was trained at, None where that is unknown."""
    training = TrainingRecord.of(paths.model(row.evaluated.folder.name))
    return training.commit if training else None


def processors(experiment: str) -> int:
    """Return how many processors a training had: threads of a CPU, or accelerators.

    Example:
        >>> processors("never trained")
        1
    """
    training = TrainingRecord.of(paths.model(experiment))
    if training is None:
        return 1
    threads = re.search(r"(\d+) threads?\)", training.device)
    return training.num_workers * (int(threads.group(1)) if threads else 1)


def origin_of(row: Row, dataset_sha256: str) -> Origin:
    """Return where a row comes from.

    Arguments:
        row: of a report.
        dataset_sha256: of the dataset's shards.
    """
    folder = row.evaluated.folder
    name = folder.name
    training = TrainingRecord.of(paths.model(name))
    if row.result.num_folds > 1:
        commands: tuple[str, ...] = (f"python -m stages.folds {naming.experiment_of(name)}",)
    else:
        stages = stages_of(name)
        by_hand = f"python -m stages.{stages[0]} {name} && python -m stages.evaluate {name}"
        commands = (f"dvc repro {stages[-1]}@{name}", by_hand)
    model, split = paths.model(name), row.result.split
    scores = "scores.csv" if split == "test" else f"scores_{split}.csv"
    held = [
        ("weights", model / "model.safetensors"),
        ("configuration", model / "config.yaml"),
        ("training record", model / "training.json"),
        ("curve (CSV)", model / "history.csv"),
        ("metrics", folder / "metrics.json"),
        ("nats of each test row (CSV)", folder / scores),
        ("values of the folds (CSV)", folder / "folds.csv"),
    ]
    return Origin(
        training=training,
        commands=commands,
        dataset_sha256=str(row.evaluated.config.dataset_sha256 or dataset_sha256),
        files=tuple((what, _address(path)) for what, path in held if path.is_file()),
        run=mlflow_pages.run_page(training.run_id) if training and training.run_id else None,
    )


def _address(path: Path) -> str:
    return (Path("..", "..") / path.relative_to(paths.root())).as_posix()
