"""Denoising: the posterior of test images under a stated noise, by a particle filter."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from arcore.events import Levels
from arcore.inference.posterior import gaussian_noise, posterior, replacement_noise
from pipeline.core.errors import require, unknown_name
from pipeline.uses import image_quality, pictures
from pipeline.uses.outcome import Outcome
from pipeline.uses.records import Shown
from pipeline.uses.subject import Rows, Subject, rows_at_once, spread

NOISES = ("replaced", "gaussian")


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Settings of denoising.

    Arguments:
        noise: replaced (each sub-pixel by another level, uniformly, with a probability; of bits
            these are flips) or gaussian (added to levels in [0, 1]).
        amount: the probability, or the standard deviation.
        num_rows: random test images that are measured.
        num_shown: of them in the figure.
        num_particles: of the filter.
        seed: of rows, noise and draws.
    """

    noise: str = "replaced"
    amount: float = 0.1
    num_rows: int = 50
    num_shown: int = 8
    num_particles: int = 32
    seed: int = 0

    def __post_init__(self) -> None:
        if self.noise not in NOISES:
            raise unknown_name("noise", self.noise, NOISES)
        fits = 0 < self.amount < 1
        require(fits, "amount", "a number in (0, 1)", self.amount)
        for name in ("num_rows", "num_shown", "num_particles"):
            require(getattr(self, name) >= 1, name, "an integer >= 1", getattr(self, name))


def run(subject: Subject, settings: Settings, folder: Path) -> Outcome:
    """Add noise to test images and take it away again."""
    event = subject.images
    rows = subject.rows("test", settings.num_rows, settings.seed)
    noisy, drawn, means = _denoise(subject, rows, settings)
    scale = event.num_levels - 1
    truth = image_quality.shades(rows.x, event)
    seen = image_quality.shades(noisy, event).clamp(0, 1)
    made = {
        "noisy": seen,
        "median filter": image_quality.median_filter(seen),
        "a draw from the posterior": image_quality.shades(drawn, event),
        "the posterior mean": image_quality.shades(means, event),
    }
    numbers = image_quality.quality(truth, made, _described(settings))
    lines = [(name, pictures.colours(x * scale, event)) for name, x in made.items()]
    lines = [
        (name, images[spread(len(rows), settings.num_shown)])
        for name, images in [*lines, ("truth", pictures.colours(rows.x, event))]
    ]
    pictures.save(pictures.grid(lines), folder / "images.png")
    caption = f"Test images with noise ({_described(settings)}), and without it again"
    notes = (
        f"{len(rows)} random test images. The noise is known to the model's user: draws are from "
        "p(x | y), where y is the noisy image, by a fully adapted particle filter of "
        f"{settings.num_particles} particles in the model's order, which is exact as these grow. "
        "The median filter is of 3 x 3 pixels. PSNR is that of the mean squared error over all "
        "images, for which the posterior mean is the best guess if the model is right; SSIM has "
        "windows of 7 x 7 pixels."
    )
    shown = [Shown(file="images.png", caption=caption)]
    return Outcome(numbers, shown, notes + subject.what_is_told)


def _denoise(subject: Subject, rows: Rows, settings: Settings) -> tuple[Tensor, Tensor, Tensor]:
    """Return noisy images, a draw from the posterior of each and its mean, in levels."""
    model, event = subject.single_model, subject.levels
    noisy = add_noise(rows.x.cpu(), event, settings)
    generator, count, shown = (
        subject.generator(settings.seed),
        rows_at_once(event, settings.num_particles),
        subject.progress,
    )
    drawn, means = [], []
    for part, seen in zip(rows.split(count), noisy.split(count), strict=True):
        particles = posterior(
            model, log_likelihood(seen, event, settings), settings.num_particles, part.condition,
            generator, progress=shown,
        )  # fmt: skip
        drawn.append(particles.draw(generator).cpu())
        means.append(particles.mean().cpu())
    return noisy, torch.cat(drawn), torch.cat(means)


def add_noise(x: Tensor, event: Levels, settings: Settings) -> Tensor:
    """Return noisy images.

    Gaussian noise leaves reals, in levels, that may lie outside of their range.
    """
    generator = torch.Generator().manual_seed(settings.seed)
    if settings.noise == "gaussian":
        deviation = settings.amount * (event.num_levels - 1)
        return x + deviation * torch.randn(x.shape, generator=generator, dtype=torch.float64)
    hit = torch.rand(x.shape, generator=generator) < settings.amount
    away = torch.randint(1, event.num_levels, x.shape, generator=generator)
    return torch.where(hit, (x.long() + away) % event.num_levels, x.long())


def log_likelihood(noisy: Tensor, event: Levels, settings: Settings) -> Tensor:
    """Return ln p(noisy | level) of every level, (N, C, H, W, K)."""
    if settings.noise == "gaussian":
        return gaussian_noise(noisy, settings.amount * (event.num_levels - 1), event.num_levels)
    return replacement_noise(noisy, settings.amount, event.num_levels)


def _described(settings: Settings) -> str:
    if settings.noise == "gaussian":
        return f"Gaussian, deviation {settings.amount:g}"
    return f"{100 * settings.amount:g}% replaced"
