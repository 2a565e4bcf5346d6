"""Images restored by the posterior: noise taken away, and small images enlarged."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from arcore.events import Levels
from arcore.inference import completion
from arcore.inference.posterior import posterior, replacement_noise
from pipeline.core.errors import require
from pipeline.uses import image_quality, pictures
from pipeline.uses.use_base import Use, mean_of, setting
from pipeline.uses.use_context import ModelRows, UseContext, rows_at_once, spread
from pipeline.uses.use_records import Number, Shown, UseOutcome


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


MEAN = "the mean of all draws"
NUM_DRAWN = 3  # draws in a figure


@dataclass(frozen=True, kw_only=True)
class SuperResolution(Use):
    """Enlarge test images by each factor that the model has the small image of."""

    factors: list[int] = setting(
        [2, 4], "enlargements; those whose small image comes first", least=2
    )
    num_rows: int = setting(50, "random test images that are measured", least=1)
    num_shown: int = setting(8, "images in the figures", least=1)
    num_draws: int = setting(32, "draws of each image, for their mean", least=2)

    def _run(self, context: UseContext, folder: Path) -> UseOutcome:
        event = context.images
        rows = context.rows("test", self.num_rows, self.seed)
        numbers: list[Number] = []
        shown, missing = [], []
        for factor in self.factors:
            observed = given_pixels(event.extents, factor)
            ordered = completion.observed_first(context.model, observed)
            if ordered is None:
                missing.append(f"{factor}x")
                continue
            parts = rows.split(rows_at_once(event))
            levels = context.draw(parts, observed, self.num_draws, self.seed, ordered)
            draws = image_quality.shades(levels, event)
            made = _enlargements(rows, draws, factor, event)
            truth = image_quality.shades(rows.x, event)
            numbers += image_quality.quality(truth, made, f"{factor}x")
            numbers += posterior_mean(f"{factor}x", truth, draws)
            nats = context.missing_nats(rows, observed)
            what = f"{factor}x: the other pixels given the small image"
            numbers.append(mean_of(what, nats, "nats"))
            shown.append(self._show(rows, observed, made, draws, event, folder / f"{factor}x.png"))
        if not shown:
            raise context.unfit("small images first in the order")
        notes = self._notes(missing, len(rows)) + context.condition_note
        return UseOutcome(numbers, shown, notes)

    def _show(
        self, rows: ModelRows, observed: Tensor, made: dict[str, Tensor], draws: Tensor,
        event: Levels, path: Path,
    ) -> Shown:  # fmt: skip
        some = spread(len(rows), self.num_shown)
        drawn = {f"drawn {n}": x for n, x in enumerate(draws[:NUM_DRAWN], 1)}
        lines = [("given", pictures.colours(rows.x[some], event, ~observed))]
        for name, x in {"bicubic": made["bicubic"], **drawn, "mean of draws": made[MEAN]}.items():
            lines.append((name, pictures.colours(x[some] * (event.num_levels - 1), event)))
        lines.append(("truth", pictures.colours(rows.x[some], event)))
        caption = f"Enlarged {path.stem} (orange: not given)"
        return pictures.show(pictures.grid(lines), path, caption)

    def _notes(self, missing: Sequence[str], count: int) -> str:
        notes = (
            f"{count} random test images. The small image has every n-th row and column, not "
            "averages; it comes first in the model's order, so draws are from the exact posterior. "
            f"The mean of {self.num_draws} draws approximates the posterior mean, which has the "
            "least squared error. If the posterior is right, a draw has twice that error (3 dB "
            "less), and the variance of draws divided by the error is 1. "
            f"{image_quality.NOTE}"
        )
        if missing:
            notes += f" The model's order has no small image of {' or '.join(missing)}."
        return notes


def _enlargements(rows: ModelRows, draws: Tensor, factor: int, event: Levels) -> dict[str, Tensor]:
    """Return images enlarged in several ways by name, (rows, C, H, W) in [0, 1]."""
    small = image_quality.shades(rows.x, event)[..., ::factor, ::factor]
    size = (event.extents[1], event.extents[2])
    made = {
        "one draw": draws[0],
        MEAN: draws.mean(0),
        "bicubic": image_quality.enlarge(small, factor, size, "bicubic"),
        "nearest": image_quality.enlarge(small, factor, size, "nearest"),
    }
    if event.num_levels == 2:  # as black and white as the data
        for name in (MEAN, "bicubic"):
            made[f"{name}, in black and white"] = (made[name] > 0.5).double()
    return made


def given_pixels(extents: tuple[int, ...], factor: int) -> Tensor:
    """Return which pixels the small image has, (C, H, W) bool: every `factor`-th of both sides."""
    given = torch.zeros(extents, dtype=torch.bool)
    given[..., ::factor, ::factor] = True
    return given


def posterior_mean(what: str, truth: Tensor, draws: Tensor) -> list[Number]:
    """Return what the mean of endlessly many draws would reach, and whether draws are as apart.

    With J draws (J, N, C, H, W) of variance v the squared error of their mean is e + v / J, where e
    is that of the posterior mean, the least possible. If the posterior is right, e = v.
    """
    variance = float(draws.var(0).mean())
    error = float((draws.mean(0) - truth).square().mean()) - variance / len(draws)
    if error <= 0:  # too few rows to tell
        return []
    decibels = -10 * math.log10(error)
    return [
        Number(name=f"{what}: PSNR, the mean of endlessly many draws", value=decibels, unit="dB",
               sign="~"),
        Number(name=f"{what}: variance of draws by squared error of that", value=variance / error),
    ]  # fmt: skip
