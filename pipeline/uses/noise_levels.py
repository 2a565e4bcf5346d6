"""Levels of noise: what the latents of each tell, and what changes as the noise of one varies."""

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
from pipeline.core.errors import require
from pipeline.evaluation import scoring
from pipeline.uses import pictures
from pipeline.uses.outcome import Outcome, mean_of
from pipeline.uses.records import Number, Shown
from pipeline.uses.subject import Subject

BATCH = 100
BLOCK = 2  # pixels a side of the blocks that tell layout from texture


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Settings of levels of noise.

    Arguments:
        num_shared: draws of the noise that stays, each with variations of every level.
        num_varied: variations of each.
        num_shown: of the shared draws in the figure.
        num_columns: variations of each in the figure.
        seed: of all noise.
    """

    num_shared: int = 8
    num_varied: int = 16
    num_shown: int = 2
    num_columns: int = 10
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("num_shared", "num_varied"):
            require(getattr(self, name) >= 2, name, "an integer >= 2", getattr(self, name))
        for name in ("num_shown", "num_columns"):
            require(getattr(self, name) >= 1, name, "an integer >= 1", getattr(self, name))


def run(subject: Subject, settings: Settings, folder: Path) -> Outcome:
    """Vary the noise of each level alone, and say what it changes and what latents cost."""
    event, model = subject.images, subject.model
    if not model.latent_levels:
        raise subject.unfit("a model with latents")
    split = subject.stored("test")
    terms, units = scoring.bound_scores(model, split, BATCH, np.arange(len(split)))
    numbers = [
        mean_of(f"{name}: {'KL' if place < len(units) else '-ln p(x | z)'}", nats, "nats")
        for place, (name, nats) in enumerate(zip(model.latent_levels, terms.T, strict=True))
    ]
    numbers += [
        Number(name=f"{name}: units in use", value=used, unit=f"of {count}")
        for name, (used, count) in zip(model.latent_levels, units, strict=False)
    ]
    varied = {name: _vary(subject, name, settings) for name in model.latent_levels}
    for name, x in varied.items():
        numbers += _effects(name, x, event)
    pictures.save(_grid(varied, settings, event), folder / "varied.png")
    pictures.save(_deviations(varied, event), folder / "deviations.png")
    shown = [
        Shown(
            file="varied.png",
            caption="A block for each draw of the noise that stays; in each row the noise of one "
            "level varies, and all else is fixed",
        ),
        Shown(
            file="deviations.png",
            caption="Standard deviation of each pixel, of black to white, as the noise of one "
            "level varies",
        ),
    ]
    return Outcome(numbers, shown, _notes(settings, len(split)))


def _vary(subject: Subject, level: str, settings: Settings) -> Tensor:
    """Draw variations of one level, (shared, varied, C, H, W) levels; all share the same draws."""
    model, count = subject.model, settings.num_varied
    classes = None
    if model.num_classes is not None:
        classes = torch.zeros(count, dtype=torch.int64, device=model.device)
    drawn = []
    for shared in range(settings.num_shared):
        generator = subject.generator(settings.seed * 1_000 + shared)
        given = None if classes is None else classes + shared % (model.num_classes or 1)
        drawn.append(model.sample_varying(count, level, given, generator).cpu())
    return torch.stack(drawn)


def spread(x: Tensor) -> tuple[Tensor, Tensor]:
    """Return how far variations are apart, and how much of it is layout rather than texture.

    Arguments:
        x: (draws, variations, C, H, W) in [0, 1].

    Returns:
        The mean variance of a pixel, (draws,); and that of averages over blocks of 2 x 2 pixels in
        place of them, (draws,), which is as large where neighbours change together and a quarter
        where they change independently.

    Example:
        >>> whole = torch.tensor([0.0, 1.0]).view(1, 2, 1, 1, 1).expand(-1, -1, -1, 4, 4)
        >>> [value.item() for value in spread(whole)]
        [0.5, 0.5]
    """
    pixels = x.var(1).flatten(1).mean(1)
    block = [min(BLOCK, extent) for extent in x.shape[-2:]]
    coarse = avg_pool2d(x.flatten(0, 1), block).unflatten(0, x.shape[:2])
    return pixels, coarse.var(1).flatten(1).mean(1)


def _effects(name: str, x: Tensor, event: Levels) -> list[Number]:
    pixels, coarse = spread(x.double() / (event.num_levels - 1))
    total = float(pixels.sum())
    share = float(coarse.sum()) / total if total > 0 else 0.0
    return [
        mean_of(f"{name}: variance of a pixel as its noise varies", pixels, "of white squared"),
        Number(name=f"{name}: share of that in averages of 2 x 2 pixels", value=share),
    ]


def _grid(varied: Mapping[str, Tensor], settings: Settings, event: Levels) -> Figure:
    lines = [
        (f"{name} varies", pictures.colours(x[shared, : settings.num_columns], event))
        for shared in range(min(settings.num_shown, settings.num_shared))
        for name, x in varied.items()
    ]
    return pictures.grid(lines)


def _deviations(varied: Mapping[str, Tensor], event: Levels) -> Figure:
    maps = [
        (x.double() / (event.num_levels - 1)).var(1).mean((0, 1)).sqrt() for x in varied.values()
    ]
    figure = Figure(figsize=(2.1 * len(maps) + 0.7, 2.3), layout="constrained", dpi=pictures.DPI)
    panels = figure.subplots(1, len(maps), squeeze=False)[0]
    highest = float(torch.stack(maps).max())
    for axes, name, deviation in zip(panels, varied, maps, strict=True):
        image = axes.imshow(deviation.numpy(), vmin=0, vmax=highest, interpolation="nearest")
        axes.set_title(f"{name} varies", fontsize=8)
        axes.set(xticks=[], yticks=[])
    figure.colorbar(image, ax=panels).ax.tick_params(labelsize=7)
    return figure


def _notes(settings: Settings, count: int) -> str:
    return (
        f"KLs and -ln p(x | z) are of {count} test images and sum to the bound; a unit is in use "
        "if its posterior mean has a variance above 0.01 over them. Of what varies: "
        f"{settings.num_shared} draws of the noise of all levels, and {settings.num_varied} of "
        "each level in turn while the others stay; where the latents of a level are drawn given "
        "those above, its noise stays, not they. Changes that neighbours share (layout) are "
        "left by averages over 2 x 2 pixels, independent ones (texture) by a quarter."
    )
