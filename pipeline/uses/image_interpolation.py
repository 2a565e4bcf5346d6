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
from pipeline.datasets.read_transforms import permute_rows
from pipeline.uses import image_quality, pictures
from pipeline.uses.use_base import Use, UseOutcome, mean_of, setting
from pipeline.uses.use_context import ModelRows, UseContext
from pipeline.uses.use_records import Number, Shown


@dataclass(frozen=True, kw_only=True)
class ImageInterpolation(Use):
    """Walk between test images, and measure distances from both ends."""

    num_pairs: int = setting(40, "pairs of test images, of different classes if possible", least=2)
    num_shown: int = setting(6, "pairs in the figure", least=1)
    num_steps: int = setting(9, "images of each walk, both ends included", least=2)

    def _run(self, context: UseContext, folder: Path) -> UseOutcome:
        event, model = context.images, context.model
        by_vector = isinstance(model.condition_kind, Vector)
        if not by_vector and (not model.latent_levels or model.condition_kind is not None):
            raise context.unfit("a vector-conditional model, or an unconditional one with latents")
        rows = context.rows("test", 2 * self.num_pairs, self.seed)
        one, other = pairs(rows, permute_rows(len(rows), self.seed).tolist())
        first, second = rows.x[one], rows.x[other]
        count, generator = self.num_steps, context.generator(self.seed)
        if by_vector:
            assert rows.condition is not None
            ends = rows.condition[one], rows.condition[other]
            way = interpolation.walk(context.single_model, *ends, count, generator).cpu()
        else:
            way = latent_levels.walk(model, first, second, count, None, generator).cpu()
        numbers = _distances(way, first, event)
        if by_vector:
            numbers += _nats_by_vector(context, first, interpolation.between(*ends, 3))
        what = "vectors" if by_vector else "latents"
        walks = torch.cat([first[:, None].cpu(), way, second[:, None].cpu()], 1)
        shown = [self._show(walks, what, event, folder)]
        return UseOutcome(numbers, shown, self._notes(len(way), what))

    def _show(self, walks: Tensor, what: str, event: Levels, folder: Path) -> Shown:
        lines = [
            (f"pair {number}", pictures.colours(walk, event))
            for number, walk in enumerate(walks[: self.num_shown], 1)
        ]
        caption = (
            "Left and right a test image, between them images drawn along the line from the "
            f"{what} of the one to those of the other, with the same noise of the pixels"
        )
        return pictures.show(pictures.grid(lines), folder / "walks.png", caption)

    def _notes(self, count: int, what: str) -> str:
        end = "the mean of q(z | x)" if what == "latents" else "its vector"
        return (
            f"{count} random pairs of test images, {self.num_steps} steps a walk. Distances are "
            f"Euclidean, with black 0 and white 1. Each end is drawn given {end}: a small distance "
            f"from an image to its end means that the {what} describe it. A largest step far "
            "below the whole distance means that images change gradually."
        )


def pairs(rows: ModelRows, order: Sequence[int]) -> tuple[list[int], list[int]]:
    """Return the first half of rows in an order, and partners of another class if possible."""
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


def _distances(way: Tensor, first: Tensor, event: Levels) -> list[Number]:
    """Measure walks, (pairs, steps, C, H, W) levels, from the first images on."""
    shades = image_quality.shades(way, event)
    steps = torch.linalg.vector_norm(shades.diff(dim=1).flatten(2), dim=2).amax(1)
    whole = torch.linalg.vector_norm((shades[:, -1] - shades[:, 0]).flatten(1), dim=1)
    return [
        mean_of("distance between the ends of a walk", whole),
        mean_of("its largest step", steps),
        mean_of("from an image to the end that is to be it", _miss(first, way[:, 0], event)),
        mean_of("from an image to the other end", _miss(first, way[:, -1], event)),
    ]


def _miss(x: Tensor, end: Tensor, event: Levels) -> Tensor:
    apart = (x.cpu() - end).double() / (event.num_levels - 1)
    distances: Tensor = torch.linalg.vector_norm(apart.flatten(1), dim=1)
    return distances


@torch.no_grad()
def _nats_by_vector(context: UseContext, first: Tensor, line: Tensor) -> list[Number]:
    """Say what the first image costs given the vectors at the beginning, middle and end."""
    places = ("its own vector", "the vector halfway", "the vector of the other")
    return [
        mean_of(f"an image given {place}", -context.model.log_prob(first, given), "nats")
        for place, given in zip(places, line.unbind(1), strict=True)
    ]
