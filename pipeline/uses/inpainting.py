"""In-painting: missing pixels drawn given the others, and what they cost in nats.

Where a model's order has the observed pixels first, or where it serves any order, draws and numbers
are exact. Elsewhere a particle filter draws, and estimates -ln p(missing | observed) as
-ln p(x) + ln p(observed); NADE does so under another order too (`completion.reordered`).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
from matplotlib.figure import Figure
from torch import Tensor

import arcore
from arcore.events import Levels
from arcore.inference import completion
from arcore.inference.posterior import Particles, observation, posterior
from arcore.primitives.orderings import random_ordering
from pipeline.core.errors import unknown_name
from pipeline.uses import pictures
from pipeline.uses.use_base import Use, mean_of, setting
from pipeline.uses.use_context import ModelRows, UseContext, rows_at_once
from pipeline.uses.use_records import UseOutcome

REORDERED = "in an order with the given pixels first"
MASKS = {
    "lower": "the lower half is missing",
    "right": "the right half is missing",
    "middle": "the middle square is missing",
    "scattered": "three of four pixels are missing, at random",
}


def missing_pixels(mask: str, event: Levels, seed: int = 0) -> Tensor:
    """Return which pixels a mask leaves out, (C, H, W) bool; all colours of a pixel together."""
    channels, height, width = event.extents
    missing = torch.zeros(height, width, dtype=torch.bool)
    if mask == "lower":
        missing[height // 2 :] = True
    elif mask == "right":
        missing[:, width // 2 :] = True
    elif mask == "middle":
        missing[height // 4 : height - height // 4, width // 4 : width - width // 4] = True
    else:
        left_out = random_ordering(height * width, seed)[: height * width * 3 // 4]
        missing.view(-1)[left_out] = True
    return missing.expand(channels, -1, -1).contiguous()


@dataclass(frozen=True)
class MaskedImages:
    """Completing and scoring images with some pixels observed, (C, H, W) bool."""

    context: UseContext
    observed: Tensor
    num_particles: int
    seed: int

    @cached_property
    def exact(self) -> arcore.AutoregressiveModel | None:
        """The model in an order of its own with the observed pixels first; None without one."""
        return completion.observed_first(self.context.model, self.observed)

    @cached_property
    def reordered(self) -> arcore.AutoregressiveModel | None:
        """Where there is no exact one, the model in an order that it was not trained for."""
        if self.exact is not None:
            return None
        return completion.reordered(self.context.model, self.observed)

    def nats(self, rows: ModelRows) -> Tensor:
        """Return -ln p(missing | observed) of each row, (rows,): exact, or else estimated."""
        if self.exact is not None:
            return self.context.missing_nats(rows, self.observed)
        return self.estimated_nats(rows)

    def estimated_nats(self, rows: ModelRows) -> Tensor:
        """Estimate -ln p(missing | observed) of each row by the particle filter, (rows,)."""
        generator, found = self.context.generator(self.seed), []
        for part in rows.split(rows_at_once(self.context.levels, self.num_particles)):
            evidence = self.filtered(part, generator).log_evidence
            with torch.no_grad():
                nats = evidence - self.context.model.log_prob(part.x, part.condition).double()
            found.append(nats.double().cpu())
        return torch.cat(found)

    def filtered(self, rows: ModelRows, generator: torch.Generator) -> Particles:
        """Return particles of rows given their observed pixels."""
        levels, progress = self.context.levels.num_levels, self.context.progress
        seen = observation(rows.x, self.observed.to(rows.x.device), levels)
        return posterior(
            self.context.model, seen, self.num_particles, rows.condition, generator,
            progress=progress,
        )  # fmt: skip

    def draw(self, rows: ModelRows, number: int) -> Tensor:
        """Draw what is missing once for each row; other numbers give other draws."""
        generator, exact = self.context.generator(self.seed * 1_000 + number), self.exact
        if exact is not None:
            return exact.impute(rows.x, self.observed, rows.condition, generator)
        return self.filtered(rows, generator).draw(generator)

    def figure(self, rows: ModelRows, count: int) -> Figure:
        """Draw what is given of rows, `count` completions and the truth."""
        event, other = self.context.images, self.reordered
        lines = [("given", pictures.colours(rows.x, event, ~self.observed))]
        for number in range(count):
            drawn = self.draw(rows, number)
            lines.append((f"drawn {number + 1}", pictures.colours(drawn, event)))
        if other is not None:
            generator = self.context.generator(self.seed)
            drawn = other.impute(rows.x, self.observed, rows.condition, generator)
            lines.append(("reordered", pictures.colours(drawn, event)))
        return pictures.grid([*lines, ("truth", pictures.colours(rows.x, event))])


@dataclass(frozen=True, kw_only=True)
class Inpainting(Use):
    """Complete and score test images under each mask."""

    masks: list[str] = setting(list(MASKS), "which pixels are missing, of `MASKS`")
    num_rows: int = setting(100, "random test images that are scored", least=1)
    num_shown: int = setting(8, "images in the figures", least=1)
    num_completions: int = setting(3, "completions of each shown image", least=1)
    num_particles: int = setting(32, "particles where a model's order does not fit", least=1)

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in self.masks:
            if name not in MASKS:
                raise unknown_name("mask", name, MASKS)

    def under(self, mask: str, context: UseContext) -> MaskedImages:
        """Return what completes images under a mask."""
        observed = ~missing_pixels(mask, context.images, self.seed)
        return MaskedImages(context, observed, self.num_particles, self.seed)

    def _run(self, context: UseContext, folder: Path) -> UseOutcome:
        event, _ = context.images, context.single_model
        rows = context.rows("test", self.num_rows, self.seed)
        kind = "sub-pixels" if event.shape[0] == 3 else "pixels"
        numbers, shown, estimated = [], [], []
        for mask in self.masks:
            masked, what = self.under(mask, context), MASKS[mask]
            exact, other = masked.exact is not None, masked.reordered
            estimated += [] if exact else [mask]
            unit = f"nats of {int((~masked.observed).sum())} of {event.size} {kind}"
            numbers.append(mean_of(what, masked.nats(rows), unit, "" if exact else "~"))
            caption = f"{what} (orange); drawn "
            caption += "from the exact posterior" if exact else self._filter_words()
            if other is not None:
                nats = context.missing_nats(rows, masked.observed, other)
                numbers.append(mean_of(f"{what}, {REORDERED}", nats, unit))
                caption += f"; reordered: drawn {REORDERED}"
            figure = masked.figure(rows.spread(self.num_shown), self.num_completions)
            shown.append(pictures.show(figure, folder / f"{mask}.png", caption))
        notes = self._notes(estimated, len(rows))
        if any(REORDERED in number.name for number in numbers):
            notes += (
                " NADE has weights for any order, though it was trained for one: in one with the "
                "given pixels first the posterior is exact, of a distribution that is not its own."
            )
        return UseOutcome(numbers, shown, notes + context.condition_note)

    def _filter_words(self) -> str:
        return f"by a particle filter of {self.num_particles} particles"

    def _notes(self, estimated: Sequence[str], count: int) -> str:
        notes = f"-ln p(missing | observed), mean over {count} random test images."
        if estimated:
            notes += (
                f" ~: estimates {self._filter_words()}, where the model's order does not have "
                f"the observed pixels first ({', '.join(estimated)}); they tend to be too low, "
                "since the logarithm of an unbiased estimate is."
            )
        return notes
