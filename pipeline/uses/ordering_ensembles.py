"""Orderings of one orderless network: what an ensemble of more and more of them scores."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from matplotlib.figure import Figure
from torch import Tensor

import arcore
from pipeline.evaluation import scoring
from pipeline.uses import pictures
from pipeline.uses.use_base import Use, UseOutcome, mean_of, setting
from pipeline.uses.use_context import UseContext, choose
from pipeline.uses.use_records import Number

BATCH = 500


@dataclass(frozen=True, kw_only=True)
class OrderingEnsembles(Use):
    """Score test rows under all orderings, and mix the first ones."""

    most: int = setting(128, "orderings of the largest of 1, 2, 4, ... of them", least=2)
    num_rows: int | None = setting(None, "random test rows; null for all", least=2)

    def _run(self, context: UseContext, folder: Path) -> UseOutcome:
        ensemble, test = self._ensemble(context), context.stored("test")
        chosen = choose(len(test), self.num_rows, self.seed)
        each = torch.stack([scoring.scores(one, test, BATCH, chosen) for one in ensemble], 1)
        counts = [1 << power for power in range((self.most - 1).bit_length())] + [self.most]
        mixed = {count: scoring.mixture(each[:, :count]) for count in counts}
        numbers: list[Number] = []
        for count, nats in mixed.items():
            what = "1 ordering" if count == 1 else f"{count} orderings"
            numbers.append(mean_of(f"{what}: nats", nats, "nats"))
            if count < self.most:
                above = nats - mixed[self.most]
                numbers.append(mean_of(f"{what}: above {self.most}", above, "nats"))
        notes = (
            f"{len(chosen):,} test rows; all members have one network's weights, and an ensemble "
            "of k is the first k of them. Differences are of the same rows."
        )
        caption = "Nats over the orderings of an ensemble"
        shown = [pictures.show(_figure(mixed), folder / "nats.png", caption)]
        return UseOutcome(numbers, shown, notes)

    def _ensemble(self, context: UseContext) -> arcore.Ensemble:
        model = context.exact_model
        if not getattr(model.hyperparameters, "order_agnostic", True):
            raise context.unfit("MADE with an ordering for each mask")
        try:
            ensemble = model.ensemble(self.most)
        except ValueError:
            raise context.unfit(f"a model with {self.most} orderings") from None
        assert isinstance(ensemble, arcore.Ensemble), "of two or more"
        return ensemble


def _figure(mixed: Mapping[int, Tensor]) -> Figure:
    figure, axes = pictures.new_axes(5, 3)
    means = [float(nats.mean()) for nats in mixed.values()]
    axes.semilogx(list(mixed), means, marker="o", base=2)
    axes.set(xlabel="orderings", ylabel="nats of test rows")
    axes.grid(alpha=0.3)
    return figure
