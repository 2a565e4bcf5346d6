"""Orderings of one orderless network: what an ensemble of more and more of them scores."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from matplotlib.figure import Figure

import arcore
from pipeline.core.errors import require
from pipeline.datasets.read_transforms import choose_rows
from pipeline.evaluation import scoring
from pipeline.uses import pictures
from pipeline.uses.kept_scores import KeptScores
from pipeline.uses.outcome import Outcome, mean_of
from pipeline.uses.records import Number, Shown
from pipeline.uses.subject import Subject

BATCH = 500
FILE = "nats.png"


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Settings of orderings.

    Arguments:
        most: orderings; ensembles are of 1, 2, 4, ... of them, the first ones each.
        num_rows: random test rows; null for all.
        seed: of these rows.
    """

    most: int = 128
    num_rows: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        require(self.most >= 2, "most", "an integer >= 2", self.most)
        rows = self.num_rows
        require(rows is None or rows >= 2, "num_rows", "an integer >= 2 or null", rows)


def run(subject: Subject, settings: Settings, folder: Path) -> Outcome:
    """Score test rows under all orderings, and mix the first ones."""
    model, test = subject.exact_model, subject.stored("test")
    if not getattr(model.hyperparameters, "order_agnostic", True):
        raise subject.unfit("MADE with an ordering for each mask")
    try:
        ensemble = model.ensemble(settings.most)
    except ValueError:
        raise subject.unfit(f"a model with {settings.most} orderings") from None
    count = len(test) if settings.num_rows is None else min(settings.num_rows, len(test))
    chosen = choose_rows(len(test), count, settings.seed)
    assert isinstance(ensemble, arcore.Ensemble), "of two or more"
    kept = KeptScores(subject, "orderings", chosen)
    columns = [
        kept.of(f"{index:04d}", partial(scoring.scores, member, test, BATCH, chosen))
        for index, member in enumerate(ensemble)
    ]
    each = torch.stack(columns, 1)
    counts = [1 << power for power in range((settings.most - 1).bit_length())] + [settings.most]
    mixed = {count: scoring.mixture(each[:, :count]) for count in counts}
    numbers: list[Number] = []
    for count, nats in mixed.items():
        what = "1 ordering" if count == 1 else f"{count} orderings"
        numbers.append(mean_of(f"{what}: nats", nats, "nats"))
        if count < settings.most:
            above = mean_of(f"{what}: above {settings.most}", nats - mixed[settings.most], "nats")
            numbers.append(above)
    figure = Figure(figsize=(5, 3), layout="constrained", dpi=pictures.DPI)
    axes = figure.subplots()
    axes.semilogx(counts, [float(nats.mean()) for nats in mixed.values()], marker="o", base=2)
    axes.set(xlabel="orderings", ylabel="nats of test rows")
    axes.grid(alpha=0.3)
    pictures.save(figure, folder / FILE)
    notes = (
        f"{len(chosen):,} test rows; all members have one network's weights, and an ensemble of k "
        "is the first k of them. Differences are of the same rows."
    )
    shown = [Shown(file=FILE, caption="Nats over the orderings of an ensemble")]
    return Outcome(numbers, shown, notes, kept.earlier_seconds)
