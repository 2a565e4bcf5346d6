"""Networks over the size of the training set: which one needs fewer rows."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from pipeline.core.errors import require
from pipeline.evaluation import scoring
from pipeline.uses import pictures
from pipeline.uses.use_context import rows_at_once
from reproductions.studies.study_base import (
    Study,
    StudyContext,
    StudyOutcome,
    device_of,
    require_counts,
    require_networks,
    with_error,
)

FILE = "train_rows.png"


@dataclass(frozen=True, kw_only=True)
class TrainRows(Study):
    """Networks trained on more and more rows."""

    networks: dict[str, Any] = field(default_factory=dict)
    rows: list[int] = field(default_factory=list)
    passes: int = 1

    def __post_init__(self) -> None:
        require_networks(self.networks)
        require_counts("rows", self.rows)
        distinct = len(set(self.rows)) == len(self.rows)
        require(distinct, "rows", "integers that differ", self.rows)
        require(self.passes >= 1, "passes", "an integer >= 1", self.passes)

    def run(self, context: StudyContext, folder: Path) -> StudyOutcome:
        """Train each network on each number of rows, and score test images in bits/dim."""
        per_dim, most = context.images.size * math.log(2), max(self.rows)
        known = context.manifest.splits["train"].rows
        require(most <= known, "rows", f"at most the {known} of the training set", most)
        configs = {}
        for title, network in self.networks.items():
            for count in self.rows:
                epochs = math.ceil(self.passes * most / count)
                overrides = [f"trainer.train_rows={count}", f"trainer.max_epochs={epochs}"]
                config = context.compose(title, network, overrides)
                batch = config.trainer.batch_size
                require(count >= batch, "rows", f"at least a batch of {batch} each", count)
                stops = config.trainer.patience
                where = f"{context.where(title)}.trainer.patience"
                require(stops is None, where, "null, so that all take as many steps", stops)
                configs[title, count] = config
        test, rows, trainings = context.split("test"), [], []
        lines: dict[str, list[float]] = {}
        for (title, count), config in configs.items():
            trained = context.train(config)
            model = trained.load(context.device)
            bits = scoring.scores(model, test, rows_at_once(context.images)) / per_dim
            rows.append([title, f"{count:,}", str(trained.record.epochs), with_error(bits)])
            lines.setdefault(title, []).append(float(bits.mean()))
            trainings.append(trained)
        notes = (
            f"Bits/dim of {len(test):,} test images, one training each, of the epoch with the "
            "lowest validation value. All have about the same number of steps."
        )
        caption = "Test bits/dim over the number of images learned from"
        shown = [pictures.show(_figure(lines, self.rows), folder / FILE, caption)]
        header = ["network", "rows learned from", "epochs", "test bits/dim"]
        return StudyOutcome(header, rows, notes, device_of(trainings), shown)


def _figure(lines: dict[str, list[float]], counts: list[int]) -> Figure:
    figure, axes = pictures.new_axes(5, 3.4)
    for title, means in lines.items():
        axes.semilogx(counts, means, marker="o", label=title)
    axes.set_xticks(counts, [f"{count:,}" for count in counts])
    axes.minorticks_off()
    axes.set(xlabel="rows learned from", ylabel="test bits/dim")
    axes.legend()
    axes.grid(alpha=0.3)
    return figure
