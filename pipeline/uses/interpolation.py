"""Interpolation: images along the line between two, of their latents or of vectors of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from arcore.conditions import Vector
from arcore.events import Levels
from arcore.inference import interpolation, latent_levels
from pipeline.core.errors import require
from pipeline.datasets.read_transforms import permute_rows
from pipeline.uses import pictures
from pipeline.uses.outcome import Outcome, mean_of
from pipeline.uses.records import Number, Shown
from pipeline.uses.subject import Rows, Subject


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Settings of interpolation.

    Arguments:
        num_pairs: random pairs of test images, of different classes where there are labels.
        num_shown: of them in the figure.
        num_steps: of each walk, both ends included.
        seed: of rows and noise.
    """

    num_pairs: int = 40
    num_shown: int = 6
    num_steps: int = 9
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("num_pairs", "num_steps"):
            require(getattr(self, name) >= 2, name, "an integer >= 2", getattr(self, name))
        require(self.num_shown >= 1, "num_shown", "an integer >= 1", self.num_shown)


def run(subject: Subject, settings: Settings, folder: Path) -> Outcome:
    """Walk between test images, and measure how far from both ends the way leads."""
    event, model = subject.images, subject.model
    told = isinstance(model.condition_kind, Vector)
    if not told and (not model.latent_levels or model.condition_kind is not None):
        raise subject.unfit("a model told a vector, or an unconditional model with latents")
    rows = subject.rows("test", 2 * settings.num_pairs, settings.seed)
    one, other = pairs(rows, permute_rows(len(rows), settings.seed).tolist())
    first, second = rows.x[one], rows.x[other]
    count, generator = settings.num_steps, subject.generator(settings.seed)
    if told:
        assert rows.condition is not None
        ends = rows.condition[one], rows.condition[other]
        way = interpolation.walk(subject.single_model, *ends, count, generator).cpu()
    else:
        way = latent_levels.walk(model, first, second, count, None, generator).cpu()
    lengths = _lengths(way.double() / (event.num_levels - 1))
    numbers = [
        mean_of("distance between the ends of a walk", lengths[:, 0]),
        mean_of("its largest step", lengths[:, 1]),
        mean_of("from an image to the end that is to be it", _miss(first, way[:, 0], event)),
        mean_of("from an image to the other end", _miss(first, way[:, -1], event)),
    ]
    if told:
        numbers += _told(subject, first, interpolation.between(*ends, 3))
    shown = slice(settings.num_shown)
    lines = [
        (
            f"pair {number}",
            pictures.colours(torch.cat([a[None].cpu(), walk, b[None].cpu()]), event),
        )
        for number, (a, walk, b) in enumerate(
            zip(first[shown], way[shown], second[shown], strict=True), 1
        )
    ]
    pictures.save(pictures.grid(lines), folder / "walks.png")
    what = "vectors" if told else "latents"
    caption = (
        f"Left and right a test image, between them images drawn along the line from the {what} of "
        "the one to those of the other, with the same noise of the pixels"
    )
    notes = _notes(settings, len(way), told)
    return Outcome(numbers, [Shown(file="walks.png", caption=caption)], notes)


def pairs(rows: Rows, order: Sequence[int]) -> tuple[list[int], list[int]]:
    """Return the first half of rows and partners out of the second, of another class if possible.

    Arguments:
        rows: as they are stored, perhaps class by class.
        order: of their places, in which they are halved.

    Example:
        >>> import numpy as np
        >>> x, labels = torch.arange(4)[:, None], np.array([0, 1, 0, 1])
        >>> pairs(Rows(np.arange(4), x, None, labels), [0, 3, 2, 1])
        ([0, 3], [1, 2])
    """
    half = len(rows) // 2
    first, left = list(order[:half]), list(order[half : 2 * half])
    partners = []
    labels = rows.labels if rows.labels is not None and rows.labels.ndim == 1 else None
    for row in first:
        others = [] if labels is None else [one for one in left if labels[one] != labels[row]]
        chosen = (others or left)[0]
        left.remove(chosen)
        partners.append(chosen)
    return first, partners


def _lengths(way: Tensor) -> Tensor:
    """Return the distance between both ends and the largest step of walks, (pairs, 2)."""
    steps = torch.linalg.vector_norm(way.diff(dim=1).flatten(2), dim=2).amax(1)
    whole = torch.linalg.vector_norm((way[:, -1] - way[:, 0]).flatten(1), dim=1)
    return torch.stack([whole, steps], 1)


def _miss(x: Tensor, end: Tensor, event: Levels) -> Tensor:
    apart = (x.cpu() - end).double() / (event.num_levels - 1)
    distances: Tensor = torch.linalg.vector_norm(apart.flatten(1), dim=1)
    return distances


@torch.no_grad()
def _told(subject: Subject, first: Tensor, line: Tensor) -> list[Number]:
    """Say what the first image costs given the vectors at the beginning, middle and end."""
    places = ("its own vector", "the vector halfway", "the vector of the other")
    return [
        mean_of(f"an image given {place}", -subject.model.log_prob(first, given), "nats")
        for place, given in zip(places, line.unbind(1), strict=True)
    ]


def _notes(settings: Settings, count: int, told: bool) -> str:
    inferred = "An image is inferred, as the mean of q(z | x), and drawn again"
    given = "An image is drawn given the vector of a test image"
    return (
        f"{count} random pairs of test images, {settings.num_steps} steps a walk. Distances are "
        f"Euclidean, with black 0 and white 1. {given if told else inferred}, so that a small "
        f"distance to its own end says that the {'vectors' if told else 'latents'} hold it, and a "
        "largest step well below the whole way that images change little by little."
    )
