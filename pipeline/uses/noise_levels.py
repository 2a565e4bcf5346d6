"""Levels of noise: the KL of each, and what changes as its noise varies."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor
from torch.nn.functional import avg_pool2d

from arcore.events import Levels
from pipeline.evaluation import scoring
from pipeline.uses import image_quality, pictures
from pipeline.uses.use_base import Use, UseOutcome, mean_of, setting
from pipeline.uses.use_context import UseContext
from pipeline.uses.use_records import Number

BATCH = 100
BLOCK = 2  # pixels a side of the blocks that separate layout from texture


@dataclass(frozen=True, kw_only=True)
class NoiseLevels(Use):
    """Vary the noise of each level alone, and say what it changes and what latents cost."""

    num_shared: int = setting(8, "draws of the noise that stays fixed", least=2)
    num_varied: int = setting(16, "variations of each level for each of these draws", least=2)
    num_shown: int = setting(2, "draws in the figure", least=1)
    num_columns: int = setting(10, "variations of each in the figure", least=1)

    def _run(self, context: UseContext, folder: Path) -> UseOutcome:
        event, model = context.images, context.model
        if not model.latent_levels:
            raise context.unfit("a model with latents")
        split = context.stored("test")
        terms, units = scoring.bound_scores(model, split, BATCH, np.arange(len(split)))
        numbers = [
            mean_of(f"{name}: {'KL' if place < len(units) else '-ln p(x | z)'}", nats, "nats")
            for place, (name, nats) in enumerate(zip(model.latent_levels, terms.T, strict=True))
        ]
        numbers += [
            Number(name=f"{name}: units in use", value=used, unit=f"of {count}")
            for name, (used, count) in zip(model.latent_levels, units, strict=False)
        ]
        varied = {name: self._vary(context, name) for name in model.latent_levels}
        for name, x in varied.items():
            numbers += _effects(name, x, event)
        lines = [
            (f"{name} varies", pictures.colours(x[shared, : self.num_columns], event))
            for shared in range(min(self.num_shown, self.num_shared))
            for name, x in varied.items()
        ]
        shown = [
            pictures.show(
                pictures.grid(lines), folder / "varied.png",
                "A block for each draw of the noise that stays; in each row the noise of one level "
                "varies, and all else is fixed",
            ),
            pictures.show(
                _deviations(varied, event), folder / "deviations.png",
                "Standard deviation of each pixel, of black to white, as the noise of one level "
                "varies",
            ),
        ]  # fmt: skip
        notes = (
            f"KLs and -ln p(x | z) of {len(split)} test images sum to the bound. A unit is in use "
            "if its posterior mean varies by more than 0.01 over them. For each of "
            f"{self.num_shared} draws of all noise, the noise of one level is drawn "
            f"{self.num_varied} times while the noise of other levels is fixed. Averages over 2 x "
            "2 pixels keep the variance of layout, and a quarter of that of independent pixels."
        )
        return UseOutcome(numbers, shown, notes)

    def _vary(self, context: UseContext, level: str) -> Tensor:
        """Draw variations of a level, (shared, varied, C, H, W); levels share the same draws."""
        model, given, drawn = context.model, None, []
        for shared in range(self.num_shared):
            generator = context.generator(self.seed * 1_000 + shared)
            if model.num_classes is not None:
                label = shared % model.num_classes
                given = torch.full((self.num_varied,), label, device=model.device)
            drawn.append(model.sample_varying(self.num_varied, level, given, generator).cpu())
        return torch.stack(drawn)


def variance_and_layout(x: Tensor) -> tuple[Tensor, Tensor]:
    """Return how far variations are apart, and how much of it is layout rather than texture.

    Of (draws, variations, C, H, W) in [0, 1] that is the mean variance of a pixel, (draws,), and of
    averages over 2 x 2 pixels, (draws,), which is as large where neighbours change together and a
    quarter where they change independently.
    """
    pixels = x.var(1).flatten(1).mean(1)
    block = [min(BLOCK, extent) for extent in x.shape[-2:]]
    coarse = avg_pool2d(x.flatten(0, 1), block).unflatten(0, x.shape[:2])
    return pixels, coarse.var(1).flatten(1).mean(1)


def _effects(name: str, x: Tensor, event: Levels) -> list[Number]:
    pixels, coarse = variance_and_layout(image_quality.shades(x, event))
    total = float(pixels.sum())
    share = float(coarse.sum()) / total if total > 0 else 0.0
    return [
        mean_of(f"{name}: variance of a pixel as its noise varies", pixels, "of white squared"),
        Number(name=f"{name}: share of that in averages of 2 x 2 pixels", value=share),
    ]


def _deviations(varied: Mapping[str, Tensor], event: Levels) -> Figure:
    maps = [image_quality.shades(x, event).var(1).mean((0, 1)).sqrt() for x in varied.values()]
    figure = pictures.new_figure(2.1 * len(maps) + 0.7, 2.3)
    panels = figure.subplots(1, len(maps), squeeze=False)[0]
    highest = float(torch.stack(maps).max())
    for axes, name, deviation in zip(panels, varied, maps, strict=True):
        image = axes.imshow(deviation.numpy(), vmin=0, vmax=highest, interpolation="nearest")
        axes.set_title(f"{name} varies", fontsize=8)
        axes.set(xticks=[], yticks=[])
    figure.colorbar(image, ax=panels).ax.tick_params(labelsize=7)
    return figure
