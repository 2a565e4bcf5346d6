"""Comparisons on the same test rows: with other models, and of ensembles of orderings."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from matplotlib.figure import Figure
from torch import Tensor

import arcore
from arcore.events import after_frames
from pipeline.core.errors import UserError, require
from pipeline.evaluation import scoring
from pipeline.evaluation.scoring import ChosenRows
from pipeline.uses import pictures, use_context
from pipeline.uses.use_base import Use, mean_of, setting
from pipeline.uses.use_context import UseContext
from pipeline.uses.use_records import Number, UseOutcome


@dataclass(frozen=True, kw_only=True)
class PairedDifferences(Use):
    """Score the rows of each test split by all models, and compare row by row."""

    others: list[str] = setting([], "experiments on the same data, compared as single models")
    num_rows: int | None = setting(None, "random rows of each test split; null for all", least=2)

    def __post_init__(self) -> None:
        super().__post_init__()
        require(len(self.others) >= 1, "others", "an experiment or more", self.others)

    def _run(self, context: UseContext, folder: Path) -> UseOutcome:
        alone = len(self.others) == len({context.experiment, *self.others}) - 1
        expected = f"different experiments, none of them {context.experiment}"
        require(alone, "others", expected, self.others)
        others = [_other(context, name) for name in self.others]
        numbers: list[Number] = []
        counts = []
        for split in ("test", *context.manifest.extra_test_splits):
            test = context.stored(split)
            given = context.manifest.context_frames
            rows = ChosenRows.of(test, count=self.num_rows, seed=self.seed, context_frames=given)
            ours = scoring.scores(context.model, rows)
            counts.append(f"{len(rows):,} rows of {split}")
            for other in others:
                where = f"over {other.experiment}" + ("" if split == "test" else f", {split}")
                apart = scoring.scores(other.model, rows) - ours
                numbers += _numbers(context, where, apart, rows)
        notes = (
            f"Another model's score less this one's on the same {' and '.join(counts)}: above 0, "
            "this one is better. Errors are of the differences over rows; each model is one "
            "training."
        )
        if bounded := [one.experiment for one in (context, *others) if not one.model.exact]:
            notes += f" Of {' and '.join(bounded)} a bound is compared."
        hashes = {one.experiment: one.trained.weights_sha256 for one in others}
        return UseOutcome(numbers, [], notes, others=hashes)


def _other(context: UseContext, name: str) -> UseContext:
    other = use_context.load(name)
    if other.manifest.sha256 != context.manifest.sha256:
        expected = f"{context.dataset}, as of {context.experiment}"
        raise UserError(f"{name}: expected a model of {expected}, got one of {other.dataset}")
    return other


def _numbers(context: UseContext, where: str, apart: Tensor, rows: ChosenRows) -> list[Number]:
    """Return the mean difference in the dataset's unit, and how often it is above 0."""
    whole, unit = context.manifest.event, context.manifest.unit
    score = rows.score(apart, whole, difference=True)
    event = after_frames(whole, rows.context_frames)
    is_of_samples = event.is_open and unit == "bits_per_dim"
    word = "bits/sample" if is_of_samples else unit.replace("_per_", "/")
    value, stderr = score.in_unit(unit, event)
    gain = Number(name=f"{where}: gain", value=value, stderr=stderr, unit=word)
    return [gain, mean_of(f"{where}: ahead on", (apart > 0).double(), "of rows")]


@dataclass(frozen=True, kw_only=True)
class OrderingEnsembles(Use):
    """Score test rows under all orderings, and mix the first ones."""

    most: int = setting(128, "orderings of the largest of 1, 2, 4, ... of them", least=2)
    num_rows: int | None = setting(None, "random test rows; null for all", least=2)

    def _run(self, context: UseContext, folder: Path) -> UseOutcome:
        ensemble = self._ensemble(context)
        rows = ChosenRows.of(context.stored("test"), count=self.num_rows, seed=self.seed)
        each = torch.stack([scoring.scores(one, rows) for one in ensemble], 1)
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
            f"{len(rows):,} test rows; all members have one network's weights, and an ensemble "
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
