"""Networks over the size of the learning set: which one needs fewer rows."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from pipeline.core.errors import require
from pipeline.evaluation import scoring
from pipeline.studies.records import Outcome, with_error
from pipeline.studies.workplace import Workplace
from pipeline.training import saved_models
from pipeline.uses import pictures
from pipeline.uses.records import Shown

FILE = "learning_rows.png"


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Settings of learning rows.

    Arguments:
        networks: by title, as experiments without a dataset.
        rows: of the learning set, its first ones each.
        passes: over the largest of these; over fewer rows as many more, so that all trainings have
            about the same number of steps.
    """

    networks: dict[str, Any] = field(default_factory=dict)
    rows: list[int] = field(default_factory=list)
    passes: int = 1

    def __post_init__(self) -> None:
        require(len(self.networks) >= 1, "networks", "one or more", self.networks)
        fits = len(self.rows) >= 1 and all(count >= 1 for count in self.rows)
        require(fits, "rows", "one integer >= 1 or more", self.rows)
        require(self.passes >= 1, "passes", "an integer >= 1", self.passes)


def run(place: Workplace, settings: Settings, folder: Path) -> Outcome:
    """Train each network on each number of rows, and score test images in bits/dim."""
    per_dim = place.images.size * math.log(2)
    most, test = max(settings.rows), place.split("test")
    known = len(place.split("train"))
    require(most <= known, "rows", f"at most the {known} of the learning set", most)
    rows, lines = [], {}
    for title, network in settings.networks.items():
        means = []
        for count in settings.rows:
            epochs = math.ceil(settings.passes * most / count)
            overrides = [f"trainer.train_rows={count}", f"trainer.max_epochs={epochs}"]
            trained = saved_models.load_folder(place.train(title, network, overrides))
            batch = int(trained.content["evaluation"]["batch_size"])
            bits = scoring.scores(trained.model.to(place.device), test, batch) / per_dim
            rows.append([title, f"{count:,}", str(epochs), with_error(bits)])
            means.append(float(bits.mean()))
        lines[title] = means
    figure = Figure(figsize=(5, 3.4), layout="constrained", dpi=pictures.DPI)
    axes = figure.subplots()
    for title, means in lines.items():
        axes.semilogx(settings.rows, means, marker="o", label=title)
    axes.set(xlabel="rows learned from", ylabel="test bits/dim")
    axes.legend()
    axes.grid(alpha=0.3)
    pictures.save(figure, folder / FILE)
    notes = (
        f"Bits/dim of {len(test):,} test images, one training each, of the epoch with the lowest "
        "validation value. All have about the same number of steps."
    )
    shown = [Shown(file=FILE, caption="Test bits/dim over the number of images learned from")]
    return Outcome(["network", "rows learned from", "epochs", "test bits/dim"], rows, notes, shown)
