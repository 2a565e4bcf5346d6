"""Denoising: the posterior of test images under a stated noise, by a particle filter."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from arcore.events import Levels
from arcore.inference.posterior import posterior, replacement_noise
from pipeline.core.errors import require
from pipeline.uses import image_quality, pictures
from pipeline.uses.use_base import Use, UseOutcome, setting
from pipeline.uses.use_context import ModelRows, UseContext, rows_at_once


@dataclass(frozen=True, kw_only=True)
class Denoising(Use):
    """Replace levels of test images at random, and restore the images."""

    amount: float = setting(0.1, "the probability that a sub-pixel gets another level")
    num_rows: int = setting(50, "random test images that are measured", least=1)
    num_shown: int = setting(8, "images in the figure", least=1)
    num_particles: int = setting(32, "particles of the filter", least=1)

    def __post_init__(self) -> None:
        super().__post_init__()
        require(0 < self.amount < 1, "amount", "a number in (0, 1)", self.amount)

    def _run(self, context: UseContext, folder: Path) -> UseOutcome:
        event, noise = context.images, f"{100 * self.amount:g}% replaced"
        rows = context.rows("test", self.num_rows, self.seed)
        noisy, drawn, means = self._denoise(context, rows)
        seen = image_quality.shades(noisy, event)
        made = {
            "noisy": seen,
            "median filter": image_quality.median_filter(seen),
            "a draw from the posterior": image_quality.shades(drawn, event),
            "the posterior mean": image_quality.shades(means, event),
        }
        truth = image_quality.shades(rows.x, event)
        numbers = image_quality.quality(truth, made, noise)
        shades = {**made, "truth": truth}
        levels = {name: x * (event.num_levels - 1) for name, x in shades.items()}
        figure = pictures.image_grid(levels, event, self.num_shown)
        caption = f"Test images with noise ({noise}), and without it again"
        notes = (
            f"{len(rows)} random test images with noise of a known kind. Draws are from "
            "p(image | noisy image), by a fully adapted particle filter of "
            f"{self.num_particles} particles in the model's order; more particles make it exact. "
            "If the model is right, the posterior mean has the least squared error. The median "
            f"filter is of 3 x 3 pixels. {image_quality.NOTE}"
        )
        shown = [pictures.show(figure, folder / "images.png", caption)]
        return UseOutcome(numbers, shown, notes + context.condition_note)

    def _denoise(self, context: UseContext, rows: ModelRows) -> tuple[Tensor, Tensor, Tensor]:
        """Return noisy images, a draw from the posterior of each and its mean, in levels."""
        model, event = context.single_model, context.levels
        noisy, generator = self.add_noise(rows.x.cpu(), event), context.generator(self.seed)
        count, drawn, means = rows_at_once(event, self.num_particles), [], []
        for part, seen in zip(rows.split(count), noisy.split(count), strict=True):
            particles = posterior(
                model, replacement_noise(seen, self.amount, event.num_levels), self.num_particles,
                part.condition, generator, progress=context.progress,
            )  # fmt: skip
            drawn.append(particles.draw(generator).cpu())
            means.append(particles.mean().cpu())
        return noisy, torch.cat(drawn), torch.cat(means)

    def add_noise(self, x: Tensor, event: Levels) -> Tensor:
        """Return noisy images: each level is replaced by another one, uniformly, with `amount`."""
        generator = torch.Generator().manual_seed(self.seed)
        hit = torch.rand(x.shape, generator=generator) < self.amount
        away = torch.randint(1, event.num_levels, x.shape, generator=generator)
        return torch.where(hit, (x.long() + away) % event.num_levels, x.long())
