"""Networks side by side: the time of training until all are as good as the slowest one's best."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

from pipeline.core import paths
from pipeline.training.history import read_history
from reproductions.studies.study_base import (
    Study,
    StudyContext,
    StudyOutcome,
    Trained,
    device_of,
    require_networks,
)


@dataclass(frozen=True, kw_only=True)
class Race(Study):
    """Trainings that are timed until each is as good as the slowest one's best."""

    networks: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        require_networks(self.networks, least=2)

    def run(self, context: StudyContext, folder: Path) -> StudyOutcome:
        """Train the networks anew, and say when each was as good as the slowest one's best."""
        configs = {
            title: context.compose(title, network, ["trainer.validate_every=1"])
            for title, network in self.networks.items()
        }
        trained = {title: context.train(config, fresh=True) for title, config in configs.items()}
        header, rows = table({title: _run(one) for title, one in trained.items()})
        notes = (
            "One training each; an epoch counts as the shortest of its training, validation apart."
        )
        return StudyOutcome(header, rows, notes, device_of(trained.values()))


@dataclass(frozen=True)
class RaceRun:
    """A training."""

    nats: list[float]
    epoch_seconds: float
    num_parameters: int


def _run(trained: Trained) -> RaceRun:
    history = read_history(paths.model(trained.name) / "history.csv")
    ends = [0.0, *trained.record.epoch_seconds]
    return RaceRun(
        nats=[float(row["valid_nats"]) for row in history],
        epoch_seconds=min(after - before for before, after in pairwise(ends)),
        num_parameters=trained.record.num_parameters,
    )


def table(runs: Mapping[str, RaceRun]) -> tuple[list[str], list[list[str]]]:
    """Return the table of some trainings: the goal is the best value of the one that ends worst.

    Example:
        >>> runs = {"a": RaceRun([3.0, 2.0, 1.0], 2.0, 10), "b": RaceRun([2.5, 2.0], 3.0, 9)}
        >>> header, rows = table(runs)
        >>> header[-2:], [row[-2:] for row in rows]
        (['epochs to 2.00', 's to that'], [['2', '4'], ['2', '6']])
    """
    goal = max(min(one.nats) for one in runs.values())
    rows = []
    for title, one in runs.items():
        epochs = next(number for number, nats in enumerate(one.nats, 1) if nats <= goal)
        rows.append(
            [
                title,
                f"{one.num_parameters:,}",
                f"{min(one.nats):.2f}",
                f"{one.epoch_seconds:.2f}",
                str(epochs),
                f"{epochs * one.epoch_seconds:.3g}",
            ]
        )
    header = ["network", "weights", "best validation nats", "s an epoch"]
    return [*header, f"epochs to {goal:.2f}", "s to that"], rows
