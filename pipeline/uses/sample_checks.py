"""Samples against data: copies of training images, and covariances of pixels."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

from pipeline.core.errors import UserError, require
from pipeline.evaluation.scoring import mean_and_error
from pipeline.uses import image_quality, pictures
from pipeline.uses.use_base import Use, mean_of, setting
from pipeline.uses.use_context import ModelRows, UseContext
from pipeline.uses.use_records import Number, UseOutcome

BATCH = 250
BLOCK = 4096  # known rows that are wide numbers at a time


@dataclass(frozen=True, kw_only=True)
class Memorisation(Use):
    """Find the training image that is nearest to each sample and to each test image."""

    num_samples: int = setting(200, "samples, and the number of test images", least=2)
    num_shown: int = setting(10, "samples in the figure", least=1)
    num_train: int | None = setting(None, "training and validation images; null for all", least=2)

    def _run(self, context: UseContext, folder: Path) -> UseOutcome:
        event = context.images
        train = context.rows("train", self.num_train, self.seed)
        valid = context.rows("valid", self.num_train, self.seed)
        test = context.rows("test", self.num_samples, self.seed)
        drawn = self._draw(context, test)
        of_samples, rows = nearest(drawn.flatten(1), train.x.flatten(1))
        of_test, _ = nearest(test.x.flatten(1), train.x.flatten(1))
        scale = event.num_levels - 1
        of_samples, of_test = of_samples / scale, of_test / scale
        numbers = [
            mean_of("distance of a sample to the nearest training image", of_samples),
            mean_of("distance of a test image to it", of_test),
            *(
                Number(
                    name=f"{what} that are training images", value=float((x == 0).double().mean())
                )
                for what, x in (("samples", of_samples), ("test images", of_test))
            ),
            *_overfitting(context, train, valid),
        ]
        images = pictures.image_grid(
            {"sample": drawn, "nearest of training": train.x[rows]}, event, self.num_shown
        )
        caption = "Samples, and below each the training image that is nearest to it"
        shown = [pictures.show(images, folder / "nearest.png", caption)]
        distances = _figure({"samples": of_samples.numpy(), "test images": of_test.numpy()})
        caption = "Distances to the nearest training image"
        shown.append(pictures.show(distances, folder / "distances.png", caption))
        notes = (
            f"Euclidean distances of {len(drawn)} samples and {len(test)} random test images to "
            f"the nearest of {len(train):,} training images, pixels in [0, 1]. Samples as far away "
            "as test images are no copies; a shifted copy is not found. The nats of "
            f"{len(valid):,} validation images above those of training images measure overfitting."
        )
        return UseOutcome(numbers, shown, notes + context.bound_note)

    def _draw(self, context: UseContext, test: ModelRows) -> Tensor:
        """Draw samples, conditioned on what test rows are, one after the other."""
        model, condition = context.model, None
        if model.condition_kind is not None:
            assert test.condition is not None
            places = torch.arange(self.num_samples, device=model.device) % len(test)
            condition = test.condition[places]
        generator = context.generator(self.seed)
        return model.sample(self.num_samples, condition, generator, progress=context.progress)


def _overfitting(context: UseContext, train: ModelRows, valid: ModelRows) -> list[Number]:
    """Return the nats of training and of validation images, and how far they are apart."""
    nats = {
        name: context.nats(rows.x, rows.labels)
        for name, rows in (("training images", train), ("validation images", valid))
    }
    (of_train, train_error), (of_valid, valid_error) = map(mean_and_error, nats.values())
    apart = Number(
        name="validation above training images",
        value=of_valid - of_train,
        stderr=math.hypot(train_error, valid_error) if len(valid) > 1 else None,
        unit="nats",
    )
    return [*(mean_of(name, values, "nats") for name, values in nats.items()), apart]


def nearest(x: Tensor, known: Tensor) -> tuple[Tensor, Tensor]:
    """Return the Euclidean distance of each row (N, D) to the nearest known one, and which."""
    exact, distances, rows = "donot_use_mm_for_euclid_dist", [], []
    for block in known.split(BLOCK):
        wide = block.double()
        parts = [
            torch.cdist(part.double(), wide, compute_mode=exact).min(1) for part in x.split(BATCH)
        ]
        distances.append(torch.cat([part.values for part in parts]).cpu())
        rows.append(torch.cat([part.indices for part in parts]).cpu())
    least = torch.stack(distances).min(0)
    within = torch.stack(rows).gather(0, least.indices[None])[0]
    return least.values, within + BLOCK * least.indices


def _figure(distances: Mapping[str, np.ndarray]) -> Figure:
    figure, axes = pictures.new_axes(5, 3)
    bins = np.linspace(0, max(*(values.max() for values in distances.values()), 1e-9), 31).tolist()
    for label, values in distances.items():
        axes.hist(values, bins, histtype="step", linewidth=1.8, label=label)
    axes.set(xlabel="distance to the nearest training image", ylabel="images")
    axes.legend()
    return figure


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
            self.num_samples, None, context.generator(self.seed), batch=500,
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
    """Return how far apart each two pixels are, (height*width, height*width)."""
    places = torch.cartesian_prod(torch.arange(height), torch.arange(width)).double()
    return torch.cdist(places, places, compute_mode="donot_use_mm_for_euclid_dist")
