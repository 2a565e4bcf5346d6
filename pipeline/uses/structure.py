"""Structure near and far: how the pixels of drawn images vary together, beside test images."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from pipeline.core.errors import UserError, require
from pipeline.uses.outcome import Outcome
from pipeline.uses.records import Number
from pipeline.uses.subject import Subject

BATCH = 500


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Settings of structure.

    Arguments:
        num_samples: drawn, and as many random test and training images.
        near, far: pixels at most, and at least, so far apart make a pair.
        seed: of rows and draws.
    """

    num_samples: int = 2000
    near: float = 3
    far: float = 14
    seed: int = 0

    def __post_init__(self) -> None:
        require(self.num_samples >= 2, "num_samples", "an integer >= 2", self.num_samples)
        require(self.near >= 1, "near", "a number >= 1", self.near)
        require(self.far > self.near, "far", f"a number > near, {self.near}", self.far)


def run(subject: Subject, settings: Settings, folder: Path) -> Outcome:
    """Compare covariances of pairs of pixels in draws with those in test images."""
    event, model = subject.images, subject.model
    if model.condition_kind is not None:
        raise subject.unfit("an unconditional model")
    colours, height, width = event.extents
    diagonal = ((height - 1) ** 2 + (width - 1) ** 2) ** 0.5
    if settings.far > diagonal:
        raise UserError(f"far: expected at most {diagonal:.1f}, got {settings.far}")
    known = {
        f"{split} images": subject.rows(name, settings.num_samples, settings.seed).x
        for split, name in (("test", "test"), ("training", "train"))
    }
    generator, count = subject.generator(settings.seed), settings.num_samples
    known["samples"] = model.sample(count, None, generator, batch=BATCH, progress=subject.progress)
    scale = event.num_levels - 1
    shades = {name: x.double().cpu() / scale for name, x in known.items()}
    truth, pairs = covariances(shades["test images"]), pairs_apart(height, width)
    groups = {
        "near": (pairs > 0) & (pairs <= settings.near),
        "far": pairs >= settings.far,
    }
    numbers = [
        Number(name=f"brightness of {name}", value=float(x.mean())) for name, x in shades.items()
    ]
    for name in ("training images", "samples"):
        off = (covariances(shades[name]) - truth).square()
        numbers += [
            Number(
                name=f"{group} pairs off, {name}",
                value=1000 * float(off[chosen.repeat(colours, colours)].mean().sqrt()),
                unit="x 1e-3",
            )
            for group, chosen in groups.items()
        ]
    notes = (
        f"Off: the root mean square of the difference between covariances of two pixels, in [0, "
        f"1], and those in {len(known['test images']):,} test images, of pairs within "
        f"{settings.near:g} pixels and of those {settings.far:g} or more apart. There are "
        f"{settings.num_samples:,} samples and {len(known['training images']):,} training images; "
        "what these have is chance."
    )
    return Outcome(numbers, [], notes)


def covariances(x: Tensor) -> Tensor:
    """Return the covariances of the dimensions of images (N, C, H, W), (C*H*W, C*H*W)."""
    return torch.cov(x.flatten(1).T)


def pairs_apart(height: int, width: int) -> Tensor:
    """Return how far apart each two pixels are, (height*width, height*width).

    Example:
        >>> pairs_apart(1, 3)[0].tolist()
        [0.0, 1.0, 2.0]
    """
    places = torch.cartesian_prod(torch.arange(height), torch.arange(width)).double()
    return torch.cdist(places, places, compute_mode="donot_use_mm_for_euclid_dist")
