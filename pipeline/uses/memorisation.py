"""Memorisation: how near samples are to training images, beside how near test images are."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

from pipeline.core.errors import require
from pipeline.evaluation.scoring import mean_and_error
from pipeline.uses import pictures
from pipeline.uses.outcome import Outcome, mean_of
from pipeline.uses.records import Number, Shown
from pipeline.uses.subject import Subject, spread

BATCH = 250
BLOCK = 4096  # known rows that are wide numbers at a time


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Settings of memorisation.

    Arguments:
        num_samples: drawn, and as many random test images.
        num_shown: samples in the figure.
        num_train: random training images that are searched and scored, and validation images that
            are scored; null for all.
        seed: of rows and draws.
    """

    num_samples: int = 200
    num_shown: int = 10
    num_train: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        require(self.num_samples >= 2, "num_samples", "an integer >= 2", self.num_samples)
        require(self.num_shown >= 1, "num_shown", "an integer >= 1", self.num_shown)
        rows = self.num_train
        require(rows is None or rows >= 2, "num_train", "an integer >= 2 or null", rows)


def run(subject: Subject, settings: Settings, folder: Path) -> Outcome:
    """Find the training image that is nearest to each sample and to each test image."""
    event, model = subject.images, subject.model
    train = subject.rows("train", settings.num_train, settings.seed)
    test = subject.rows("test", settings.num_samples, settings.seed)
    condition = None
    if model.condition_kind is not None:
        assert test.condition is not None
        places = torch.arange(settings.num_samples, device=model.device) % len(test)
        condition = test.condition[places]
    generator = subject.generator(settings.seed)
    drawn = model.sample(settings.num_samples, condition, generator, progress=subject.progress)
    scale = event.num_levels - 1
    of_samples, rows = nearest(drawn.flatten(1), train.x.flatten(1))
    of_test, _ = nearest(test.x.flatten(1), train.x.flatten(1))
    of_samples, of_test = of_samples / scale, of_test / scale
    valid = subject.rows("valid", settings.num_train, settings.seed)
    nats = {
        name: subject.nats(part.x, part.condition, BATCH, f"{name} images")
        for name, part in (("training", train), ("validation", valid))
    }
    (of_train, train_error), (of_valid, valid_error) = map(mean_and_error, nats.values())
    gap, gap_error = of_valid - of_train, math.hypot(train_error, valid_error)
    numbers = [
        mean_of("distance of a sample to the nearest training image", of_samples),
        mean_of("distance of a test image to it", of_test),
        Number(
            name="samples that are training images", value=float((of_samples == 0).double().mean())
        ),
        Number(
            name="test images that are training images", value=float((of_test == 0).double().mean())
        ),
        *(mean_of(f"{name} images", values, "nats") for name, values in nats.items()),
        Number(
            name="validation above training images",
            value=gap,
            stderr=gap_error if len(valid) > 1 else None,
            unit="nats",
        ),
    ]
    shown = spread(len(drawn), settings.num_shown)  # test rows may lie class by class
    lines = [
        ("sample", pictures.colours(drawn[shown], event)),
        ("nearest of training", pictures.colours(train.x[rows[shown]], event)),
    ]
    pictures.save(pictures.grid(lines), folder / "nearest.png")
    pictures.save(_figure(of_samples.numpy(), of_test.numpy()), folder / "distances.png")
    notes = (
        f"Euclidean distances of pixels in [0, 1] to the nearest of {len(train):,} training rows, "
        f"of {len(drawn)} samples and {len(test)} random test images: samples that are as far as "
        "test images are no copies. Distances do not see an image that is copied and moved. The "
        f"nats by which {len(valid):,} validation images are less probable than training images "
        "say how far the model overfits; test images may be of others, easier or harder."
    )
    if not model.exact:
        notes += " A bound stands for the probability."
    captions = {
        "nearest.png": "Samples, and below each the training image that is nearest to it",
        "distances.png": "Distances to the nearest training image",
    }
    return Outcome(numbers, [Shown(file=f, caption=c) for f, c in captions.items()], notes)


def nearest(x: Tensor, known: Tensor) -> tuple[Tensor, Tensor]:
    """Return the Euclidean distance of each row (N, D) to the nearest known one, and which it is.

    Example:
        >>> found = nearest(torch.tensor([[0.0, 1.0]]), torch.tensor([[3.0, 5.0], [0.0, 1.0]]))
        >>> [one.tolist() for one in found]
        [[0.0], [1]]
    """
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


def _figure(of_samples: np.ndarray, of_test: np.ndarray) -> Figure:
    figure = Figure(figsize=(5, 3), layout="constrained", dpi=pictures.DPI)
    axes = figure.subplots()
    bins = np.linspace(0, max(of_samples.max(), of_test.max(), 1e-9), 31).tolist()
    for values, label in ((of_samples, "samples"), (of_test, "test images")):
        axes.hist(values, bins, histtype="step", linewidth=1.8, label=label)
    axes.set(xlabel="distance to the nearest training image", ylabel="images")
    axes.legend()
    return figure
