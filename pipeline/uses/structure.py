"""Structure near and far: covariances of pixels of samples, compared with test images."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from pipeline.core.errors import UserError, require
from pipeline.uses import image_quality
from pipeline.uses.use_base import Use, UseOutcome, setting
from pipeline.uses.use_context import UseContext
from pipeline.uses.use_records import Number

BATCH = 500


@dataclass(frozen=True, kw_only=True)
class PixelStructure(Use):
    """Compare covariances of pairs of pixels in draws with those in test images."""

    num_samples: int = setting(2000, "samples, and test and training images each", least=2)
    near: float = setting(3, "largest distance of near pairs, in pixels", least=1)
    far: float = setting(14, "smallest distance of far pairs, in pixels")

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.far > self.near, "far", f"a number > near, {self.near}", self.far)

    def _run(self, context: UseContext, folder: Path) -> UseOutcome:
        event, model = context.images, context.unconditional_model
        colours, height, width = event.extents
        diagonal = ((height - 1) ** 2 + (width - 1) ** 2) ** 0.5
        if self.far > diagonal:
            raise UserError(f"far: expected at most {diagonal:.1f}, got {self.far}")
        images = {
            f"{split} images": context.rows(name, self.num_samples, self.seed).x
            for split, name in (("test", "test"), ("training", "train"))
        }
        images["samples"] = model.sample(
            self.num_samples, None, context.generator(self.seed), batch=BATCH,
            progress=context.progress,
        )  # fmt: skip
        shades = {name: image_quality.shades(x, event) for name, x in images.items()}
        numbers = [
            Number(name=f"brightness of {name}", value=float(x.mean()))
            for name, x in shades.items()
        ]
        pairs = pairs_apart(height, width).repeat(colours, colours)
        near, far = (pairs > 0) & (pairs <= self.near), pairs >= self.far
        truth = covariances(shades["test images"])
        for name in ("training images", "samples"):
            off = (covariances(shades[name]) - truth).square()
            for group, chosen in (("near", near), ("far", far)):
                value = 1000 * float(off[chosen].mean().sqrt())
                numbers.append(
                    Number(name=f"{group} pairs off, {name}", value=value, unit="x 1e-3")
                )
        notes = (
            "Off: the root mean squared difference between the covariances of two pixels, in "
            f"[0, 1], and those in {len(images['test images']):,} test images, for pairs within "
            f"{self.near:g} pixels and for pairs {self.far:g} or more apart. Of "
            f"{self.num_samples:,} samples and {len(images['training images']):,} training images; "
            "the latter differ by chance alone."
        )
        return UseOutcome(numbers, [], notes)


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
