"""Latents and vectors: what each level of noise changes, and images between two."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from matplotlib.figure import Figure
from torch import Tensor
from torch.nn.functional import avg_pool2d

from arcore.conditions import Vector
from arcore.events import Levels
from arcore.inference import interpolation, latent_levels
from pipeline.datasets.read_transforms import permute_rows
from pipeline.evaluation import scoring
from pipeline.evaluation.scoring import ChosenRows
from pipeline.uses import image_quality, pictures
from pipeline.uses.use_base import Use, mean_of, setting
from pipeline.uses.use_context import ModelRows, UseContext
from pipeline.uses.use_records import Number, Shown, UseOutcome

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
        rows = ChosenRows.of(context.stored("test"))
        terms, units = scoring.bound_scores(model, rows)
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
            f"KLs and -ln p(x | z) of {len(rows)} test images sum to the bound. A unit is in use "
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
            f"{what} of one to the {what} of the other, with the same noise of the pixels"
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
