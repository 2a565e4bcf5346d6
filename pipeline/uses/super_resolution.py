"""Super-resolution: images drawn given every second or fourth pixel, beside interpolation."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from arcore.inference import completion
from arcore.primitives.progress import progress_bar
from pipeline.core.errors import require
from pipeline.uses import image_quality, pictures
from pipeline.uses.outcome import Outcome, mean_of
from pipeline.uses.records import Number, Shown
from pipeline.uses.subject import Subject, rows_at_once, spread

MEAN = "the mean of all draws"


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Settings of super-resolution.

    Arguments:
        factors: of the enlargement; a model takes those whose small image comes first in its order.
        num_rows: random test images that are measured.
        num_shown: of them in the figures.
        num_draws: of each image, whose mean tends to the best guess by squared error.
        seed: of rows and draws.
    """

    factors: list[int] = field(default_factory=lambda: [2, 4])
    num_rows: int = 50
    num_shown: int = 8
    num_draws: int = 32
    seed: int = 0

    def __post_init__(self) -> None:
        for factor in self.factors:
            require(factor >= 2, "factors", "integers >= 2", factor)
        for name in ("num_rows", "num_shown"):
            require(getattr(self, name) >= 1, name, "an integer >= 1", getattr(self, name))
        require(self.num_draws >= 2, "num_draws", "an integer >= 2", self.num_draws)


def run(subject: Subject, settings: Settings, folder: Path) -> Outcome:
    """Enlarge test images by each factor that the model has the small image of."""
    event, model = subject.images, subject.model
    rows = subject.rows("test", settings.num_rows, settings.seed)
    truth = image_quality.shades(rows.x, event)
    numbers: list[Number] = []
    shown, left_out = [], []
    for factor in settings.factors:
        observed = given_pixels(event.extents, factor)
        ordered = completion.observed_first(model, observed)
        if ordered is None:
            left_out.append(factor)
            continue
        generator = subject.generator(settings.seed)
        draws = []
        with progress_bar(subject.progress, settings.num_draws, f"{factor}x") as advance:
            for _ in range(settings.num_draws):
                drawn = [
                    ordered.impute(part.x, observed, part.condition, generator)
                    for part in rows.split(rows_at_once(event))
                ]
                draws.append(image_quality.shades(torch.cat(drawn), event))
                advance(1)
        stacked, small = torch.stack(draws), truth[..., ::factor, ::factor]
        size = (event.extents[1], event.extents[2])
        made = {
            "one draw": draws[0],
            MEAN: stacked.mean(0),
            "bicubic": image_quality.enlarge(small, factor, size, "bicubic"),
            "nearest": image_quality.enlarge(small, factor, size, "nearest"),
        }
        if event.num_levels == 2:  # as black and white as the data
            for name in (MEAN, "bicubic"):
                made[f"{name}, in black and white"] = (made[name] > 0.5).double()
        numbers += image_quality.quality(truth, made, f"{factor}x")
        numbers += posterior_mean(f"{factor}x", truth, stacked)
        nats = subject.missing_nats(rows, observed)
        numbers.append(mean_of(f"{factor}x: the other pixels given the small image", nats, "nats"))
        path = folder / f"{factor}x.png"
        scale = event.num_levels - 1
        lines = [("given", pictures.colours(rows.x, event, ~observed))]
        lines += [("bicubic", pictures.colours(made["bicubic"] * scale, event))]
        lines += [
            (f"drawn {n}", pictures.colours(x * scale, event)) for n, x in enumerate(draws[:3], 1)
        ]
        lines += [("mean of draws", pictures.colours(made[MEAN] * scale, event))]
        lines += [("truth", pictures.colours(rows.x, event))]
        lines = [(title, images[spread(len(rows), settings.num_shown)]) for title, images in lines]
        pictures.save(pictures.grid(lines), path)
        shown.append(Shown(file=path.name, caption=f"Enlarged {factor}x (orange: not given)"))
    if len(left_out) == len(settings.factors):
        raise subject.unfit("small images first in the order")
    notes = _notes(settings, left_out, len(rows)) + subject.what_is_told
    return Outcome(numbers, shown, notes)


def given_pixels(extents: tuple[int, ...], factor: int) -> Tensor:
    """Return which pixels the small image has, (C, H, W) bool: every `factor`-th of both sides."""
    given = torch.zeros(extents, dtype=torch.bool)
    given[..., ::factor, ::factor] = True
    return given


def posterior_mean(what: str, truth: Tensor, draws: Tensor) -> list[Number]:
    """Return what the mean of endlessly many draws would reach, and whether draws are as apart.

    With J draws of variance v the squared error of their mean is e + v / J, where e is that of the
    posterior mean, the least possible. If the posterior is right, e = v: a single draw has twice
    the error of the mean, 3 dB less.

    Arguments:
        what: is measured, for the numbers' names.
        truth: (N, C, H, W) in [0, 1].
        draws: (J, N, C, H, W), J >= 2.
    """
    variance = float(draws.var(0).mean())
    error = float((draws.mean(0) - truth).square().mean()) - variance / len(draws)
    if error <= 0:  # too few rows to tell
        return []
    return [
        Number(
            name=f"{what}: PSNR, the mean of endlessly many draws",
            value=-10 * math.log10(error),
            unit="dB",
            sign="~",
        ),
        Number(name=f"{what}: variance of draws by squared error of that", value=variance / error),
    ]


def _notes(settings: Settings, left_out: list[int], count: int) -> str:
    notes = (
        f"{count} random test images; the small image is every second or fourth row and column, "
        "not an average, and comes first in the model's order, so that draws are from the exact "
        f"posterior. The best guess by squared error is the mean of the posterior, here of "
        f"{settings.num_draws} draws; a draw is an image that the model could have made, and has "
        "twice the squared error (3 dB less) if the posterior is right, in which case the variance "
        "of draws is the squared error of endlessly many, 1 in the table. PSNR is that of the mean "
        "squared error over all images; SSIM has windows of 7 x 7 pixels."
    )
    if left_out:
        missing = " or ".join(f"{factor}x" for factor in left_out)
        notes += f" The model's order has no small image of {missing}."
    return notes
