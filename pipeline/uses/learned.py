"""What a model learned: first-layer weights, the probabilities of samples, softmax activations."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

import arcore
from arcore.events import Levels
from arcore.inference.features import first_layer
from pipeline.core.errors import require
from pipeline.uses import pictures
from pipeline.uses.outcome import Outcome, mean_of
from pipeline.uses.records import Number, Shown
from pipeline.uses.subject import Subject

COLUMNS = 10
PLACES = {
    "first": (0, 0),
    "upper": (1 / 4, 1 / 2),
    "centre": (1 / 2, 1 / 2),
    "lower": (3 / 4, 1 / 2),
}


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Settings of what a model learned.

    Arguments:
        num_units: of the first layer, those with the largest weights.
        num_samples: shown with their probabilities.
        num_softmax: test images whose softmax is shown.
        seed: of rows and draws.
    """

    num_units: int = 40
    num_samples: int = 10
    num_softmax: int = 3
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("num_units", "num_samples", "num_softmax"):
            require(getattr(self, name) >= 1, name, "an integer >= 1", getattr(self, name))


def run(subject: Subject, settings: Settings, folder: Path) -> Outcome:
    """Draw what there is to see of a model: not every model has everything."""
    event, model = subject.images, subject.model
    shown = []
    filters = first_layer(model)
    if filters is not None:
        strongest = filters.flatten(1).norm(dim=1).argsort(descending=True)[: settings.num_units]
        pictures.save(pictures.grid(_filters(filters[strongest])), folder / "filters.png")
        caption = f"First-layer weights of the {len(strongest)} units with the largest ones"
        if event.num_levels > 2:
            caption += ", for the highest level"
        caption += ": red above zero, blue below, each unit scaled by itself"
        shown.append(Shown(file="filters.png", caption=caption))
    rows = subject.rows("test", settings.num_softmax, settings.seed)
    numbers: list[Number] = []
    if model.exact and not isinstance(model, arcore.Ensemble):  # which has no joint conditionals
        shown.append(_probabilities(subject, settings, folder, event))
        with torch.no_grad():
            logits = _log_levels(model, rows.x, rows.condition)
        if event.num_levels > 2:
            pictures.save(_softmax(logits, rows.x.cpu(), event), folder / "softmax.png")
            caption = (
                f"p(level | pixels before it) at four pixels of {len(rows)} test images; the line "
                "is the true level"
            )
            shown.append(Shown(file="softmax.png", caption=caption))
        entropy = -(logits.exp() * logits).nan_to_num(0).sum(-1).flatten(1)
        numbers.append(mean_of("entropy of a sub-pixel's conditional", entropy.mean(1), "nats"))
        order = torch.cat(model.schedule).cpu()
        first = mean_of("entropy of the first one's", entropy[:, order[0]], "nats")
        numbers.append(Number(name=first.name, value=first.value, unit=first.unit))
    if not shown:
        raise subject.unfit("a single exact model, or one with a dense first layer")
    notes = "What the weights and conditionals look like; the entropies are of the images shown."
    return Outcome(numbers, shown, notes)


def _filters(weights: Tensor) -> list[tuple[str, np.ndarray]]:
    """Return weights (N, C, H, W), of which the first channel is shown, as rows of colours."""
    one = weights[:, 0].float().cpu()
    scaled = (one / one.abs().amax((1, 2), keepdim=True).clamp(min=1e-12)).numpy()
    above, below = np.clip(scaled, 0, 1), np.clip(-scaled, 0, 1)
    colours = 1 - np.stack([below, above + below * 0.6, above], -1)
    count = min(COLUMNS, len(colours))
    return [
        (f"{first + 1} to {min(first + count, len(colours))}", colours[first : first + count])
        for first in range(0, len(colours), count)
    ]


def _probabilities(subject: Subject, settings: Settings, folder: Path, event: Levels) -> Shown:
    """Draw samples beside the expected level of each pixel given those before it."""
    model = subject.model
    rows = subject.rows("test", settings.num_samples, settings.seed)
    drawn = model.sample(len(rows), rows.condition, subject.generator(settings.seed))
    logits = _log_levels(model, drawn, rows.condition)
    levels = torch.arange(event.num_levels, dtype=logits.dtype)
    expected = (logits.exp() * levels).sum(-1)
    lines = [
        ("sample", pictures.colours(drawn, event)),
        ("expected", pictures.colours(expected, event)),
    ]
    pictures.save(pictures.grid(lines), folder / "probabilities.png")
    what = "probability of white" if event.num_levels == 2 else "expected level"
    caption = f"Samples, and below each the {what} of each pixel given those that were drawn before"
    return Shown(file="probabilities.png", caption=caption)


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
    size = (2.4 * len(PLACES) + 0.6, 1.5 * count + 0.5)
    figure = Figure(figsize=size, layout="constrained", dpi=pictures.DPI)
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
