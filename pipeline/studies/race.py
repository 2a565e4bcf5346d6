"""Networks side by side: the time of training until all are as good as the slowest one's best."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

from pipeline.core.errors import require
from pipeline.studies.records import Outcome
from pipeline.studies.workplace import Workplace
from pipeline.training.history import read_history
from pipeline.training.records import TrainingRecord


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Settings of a race.

    Arguments:
        networks: by title, as experiments without a dataset; all are validated every epoch.
    """

    networks: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        require(len(self.networks) >= 2, "networks", "two or more", self.networks)


@dataclass(frozen=True)
class Run:
    """A training.

    Attributes:
        nats: of validation, after each epoch.
        epoch_seconds: of the shortest epoch; what else ran beside can only add to it.
        num_parameters: of the network.
    """

    nats: list[float]
    epoch_seconds: float
    num_parameters: int


def run(place: Workplace, settings: Settings, folder: Path) -> Outcome:
    """Train the networks, and say when each was as good as the one whose best is the worst."""
    runs = {title: _run(place, title, network) for title, network in settings.networks.items()}
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
    header += [f"epochs to {goal:.2f}", "s to that"]
    notes = "One training each; an epoch counts as the shortest of its training, validation apart."
    return Outcome(header, rows, notes)


def _run(place: Workplace, title: str, network: object) -> Run:
    model = place.train(title, network, ["trainer.validate_every=1"])
    record = TrainingRecord.read(model / "training.json")
    nats = [float(row["valid_nats"]) for row in read_history(model / "history.csv")]
    seconds = min(after - before for before, after in pairwise([0.0, *record.epoch_seconds]))
    return Run(nats, seconds, record.num_parameters)
