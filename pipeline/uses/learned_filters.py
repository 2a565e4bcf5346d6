"""What a model learned: first-layer weights, the probabilities of samples, softmax activations."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

import arcore
from arcore.events import Levels
from arcore.inference.features import first_layer
from pipeline.uses import pictures
from pipeline.uses.use_base import Use, mean_of, setting
from pipeline.uses.use_context import UseContext
from pipeline.uses.use_records import Number, Shown, UseOutcome

COLUMNS = 10
NOTES = "What the weights and conditionals look like; the entropies are of the images shown."
PLACES = {
    "first": (0, 0),
    "upper": (1 / 4, 1 / 2),
    "centre": (1 / 2, 1 / 2),
    "lower": (3 / 4, 1 / 2),
}


@dataclass(frozen=True, kw_only=True)
class LearnedFilters(Use):
    """Draw what there is to see of a model: not every model has everything."""

    num_units: int = setting(40, "first-layer units, those with the largest weights", least=1)
    num_samples: int = setting(10, "samples shown with their probabilities", least=1)
    num_softmax: int = setting(3, "test images whose softmax is shown", least=1)

    def _run(self, context: UseContext, folder: Path) -> UseOutcome:
        event, model = context.images, context.model
        shown = self._filters(model, event, folder)
        rows = context.rows("test", self.num_softmax, self.seed)
        numbers: list[Number] = []
        if model.exact and model.generates:
            shown.append(self._probabilities(context, folder))
            logits = _log_levels(model, rows.x, rows.condition)
            if event.num_levels > 2:
                caption = (
                    f"p(level | pixels before it) at four pixels of {len(rows)} test images; the "
                    "line is the true level"
                )
                figure = _softmax(logits, rows.x.cpu(), event)
                shown.append(pictures.show(figure, folder / "softmax.png", caption))
            numbers += _entropies(logits, model)
        if not shown:
            raise context.unfit("a single exact model, or one with a dense first layer")
        return UseOutcome(numbers, shown, NOTES)

    def _filters(
        self, model: arcore.AutoregressiveModel, event: Levels, folder: Path
    ) -> list[Shown]:
        """Draw the weights of the first layer, where it is dense."""
        filters = first_layer(model)
        if filters is None:
            return []
        strongest = filters.flatten(1).norm(dim=1).argsort(descending=True)[: self.num_units]
        caption = f"First-layer weights of the {len(strongest)} units with the largest ones"
        if event.num_levels > 2:
            caption += ", for the highest level"
        caption += ": red above zero, blue below, each unit scaled by itself"
        figure = pictures.grid(_weight_rows(filters[strongest]))
        return [pictures.show(figure, folder / "filters.png", caption)]

    def _probabilities(self, context: UseContext, folder: Path) -> Shown:
        """Draw samples, and the expected level of each pixel given the pixels before it."""
        model, event = context.model, context.images
        rows = context.rows("test", self.num_samples, self.seed)
        drawn = model.sample(len(rows), rows.condition, context.generator(self.seed))
        logits = _log_levels(model, drawn, rows.condition)
        levels = torch.arange(event.num_levels, dtype=logits.dtype)
        expected = (logits.exp() * levels).sum(-1)
        figure = pictures.image_grid({"sample": drawn, "expected": expected}, event, len(drawn))
        what = "probability of white" if event.num_levels == 2 else "expected level"
        caption = f"Samples, and below each the {what} of each pixel given the pixels drawn before"
        return pictures.show(figure, folder / "probabilities.png", caption)


def _entropies(logits: Tensor, model: arcore.AutoregressiveModel) -> list[Number]:
    """Return the entropies of all conditionals and of the first one."""
    entropy = -(logits.exp() * logits).nan_to_num(0).sum(-1).flatten(1)
    order = torch.cat(model.schedule).cpu()
    first = float(entropy[:, order[0]].double().mean())
    return [
        mean_of("entropy of a sub-pixel's conditional", entropy.mean(1), "nats"),
        Number(name="entropy of the first one's", value=first, unit="nats"),
    ]


def _weight_rows(weights: Tensor) -> list[tuple[str, np.ndarray]]:
    """Return the first channel of weights (N, C, H, W) as rows of colours."""
    one = weights[:, 0].float().cpu()
    scaled = (one / one.abs().amax((1, 2), keepdim=True).clamp(min=1e-12)).numpy()
    above, below = np.clip(scaled, 0, 1), np.clip(-scaled, 0, 1)
    colours = 1 - np.stack([below, above + below * 0.6, above], -1)
    count = min(COLUMNS, len(colours))
    return [
        (f"{first + 1} to {min(first + count, len(colours))}", colours[first : first + count])
        for first in range(0, len(colours), count)
    ]


@torch.no_grad()
def _log_levels(model: arcore.AutoregressiveModel, x: Tensor, condition: Tensor | None) -> Tensor:
    """Return ln p of every level of every sub-pixel, (N, C, H, W, K) float64 on the CPU."""
    conditionals = model.conditionals(x, condition)
    logits: Tensor = conditionals.logits.double().cpu()  # type: ignore[attr-defined]
    if logits.shape == x.shape:  # Bernoulli
        logits = torch.stack([torch.zeros_like(logits), logits], -1)
    return logits.log_softmax(-1)


def _softmax(logits: Tensor, x: Tensor, event: Levels) -> Figure:
    """Draw p(level) at some pixels of the first colour, a row an image, a column a pixel."""
    count, (_, height, width) = len(x), event.extents
    figure = pictures.new_figure(2.4 * len(PLACES) + 0.6, 1.5 * count + 0.5)
    panels = figure.subplots(count, len(PLACES), squeeze=False, sharex=True)
    levels = np.arange(event.num_levels)
    for row in range(count):
        for axes, (name, place) in zip(panels[row], PLACES.items(), strict=True):
            at = int(place[0] * height), int(place[1] * width)
            axes.bar(levels, logits[row, 0, at[0], at[1]].exp().numpy(), width=1)
            axes.axvline(float(x[row, 0, at[0], at[1]]), color="tab:orange", linewidth=1.2)
            axes.tick_params(labelsize=7)
            if row == 0:
                axes.set_title(f"{name} pixel {at}", fontsize=8)
    for axes in panels[-1]:
        axes.set_xlabel("level", fontsize=8)
    return figure
