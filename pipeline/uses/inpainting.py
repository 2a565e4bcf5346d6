"""In-painting: missing pixels drawn given the others, and what they cost in nats.

Where a model's order has the observed pixels first, or where it serves any order, draws and numbers
are exact. Elsewhere a particle filter draws, and estimates -ln p(missing | observed) as
-ln p(x) + ln p(observed); NADE does so under another order too (`completion.reordered`).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import torch
from matplotlib.figure import Figure
from torch import Tensor

from arcore.events import Levels
from arcore.inference import completion
from arcore.inference.posterior import Particles, observation, posterior
from arcore.primitives.orderings import random_ordering
from pipeline.core.errors import require, unknown_name
from pipeline.uses import pictures
from pipeline.uses.outcome import Outcome, mean_of
from pipeline.uses.records import Shown
from pipeline.uses.subject import Rows, Subject, rows_at_once

REORDERED = "in an order with the given pixels first"
MASKS = {
    "lower": "the lower half is missing",
    "right": "the right half is missing",
    "middle": "the middle square is missing",
    "scattered": "three of four pixels are missing, at random",
}


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Settings of in-painting.

    Arguments:
        masks: which pixels are missing, of `MASKS`.
        num_rows: random test images that are scored.
        num_shown: of them in the figures.
        num_completions: of each of these.
        num_particles: of the filter where a model's order does not fit.
        seed: of rows, masks and draws.
    """

    masks: list[str] = field(default_factory=lambda: list(MASKS))
    num_rows: int = 100
    num_shown: int = 8
    num_completions: int = 3
    num_particles: int = 32
    seed: int = 0

    def __post_init__(self) -> None:
        for name in self.masks:
            if name not in MASKS:
                raise unknown_name("mask", name, MASKS)
        for name in ("num_rows", "num_shown", "num_completions", "num_particles"):
            require(getattr(self, name) >= 1, name, "an integer >= 1", getattr(self, name))


def missing_pixels(mask: str, event: Levels, seed: int = 0) -> Tensor:
    """Return which pixels a mask leaves out, (C, H, W) bool; all colours of a pixel together.

    Example:
        >>> missing_pixels("right", Levels(2, (1, 2, 4)))[0].int().tolist()
        [[0, 0, 1, 1], [0, 0, 1, 1]]
    """
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


def run(subject: Subject, settings: Settings, folder: Path) -> Outcome:
    """Complete and score test images under each mask."""
    event, model = subject.images, subject.single_model
    rows = subject.rows("test", settings.num_rows, settings.seed)
    numbers, shown, exact = [], [], []
    for mask in settings.masks:
        observed = ~missing_pixels(mask, event, settings.seed)
        fits = completion.observed_first(model, observed) is not None
        exact += [mask] if fits else []
        nats = _nats(subject, rows, observed, settings, fits)
        kind = "sub-pixels" if event.shape[0] == 3 else "pixels"
        unit = f"nats of {int((~observed).sum())} of {event.size} {kind}"
        numbers.append(mean_of(MASKS[mask], nats, unit, "" if fits else "~"))
        other = None if fits else completion.reordered(model, observed)
        if other is not None:
            nats = subject.missing_nats(rows, observed, other)
            numbers.append(mean_of(f"{MASKS[mask]}, {REORDERED}", nats, unit))
        figure = _figure(subject, rows.spread(settings.num_shown), observed, settings, fits)
        pictures.save(figure, folder / f"{mask}.png")
        drawn = f"by a particle filter of {settings.num_particles} particles"
        caption = f"{MASKS[mask]} (orange); drawn {'from the exact posterior' if fits else drawn}"
        caption += "" if other is None else f"; reordered: drawn {REORDERED}"
        shown.append(Shown(file=f"{mask}.png", caption=caption))
    notes = _notes(settings, exact, len(rows))
    if any(REORDERED in number.name for number in numbers):
        notes += (
            " NADE has weights for any order, though it was trained for one: in one with the given "
            "pixels first the posterior is exact, of a distribution that is not its own."
        )
    notes += subject.what_is_told
    return Outcome(numbers, shown, notes)


def _figure(
    subject: Subject, rows: Rows, observed: Tensor, settings: Settings, exact: bool
) -> Figure:
    event = subject.images
    lines = [("given", pictures.colours(rows.x, event, ~observed))]
    for number in range(settings.num_completions):
        drawn = _complete(subject, rows, observed, settings, exact, number)
        lines.append((f"drawn {number + 1}", pictures.colours(drawn, event)))
    other = None if exact else completion.reordered(subject.model, observed)
    if other is not None:
        generator = subject.generator(settings.seed)
        drawn = other.impute(rows.x, observed, rows.condition, generator)
        lines.append(("reordered", pictures.colours(drawn, event)))
    return pictures.grid([*lines, ("truth", pictures.colours(rows.x, event))])


def _nats(
    subject: Subject, rows: Rows, observed: Tensor, settings: Settings, exact: bool
) -> Tensor:
    """Return -ln p(missing | observed) of each row, (rows,)."""
    if exact:
        return subject.missing_nats(rows, observed)
    model, generator = subject.model, subject.generator(settings.seed)
    found = []
    for part in rows.split(rows_at_once(subject.levels, settings.num_particles)):
        evidence = _filtered(subject, part, observed, settings, generator).log_evidence
        with torch.no_grad():
            nats = evidence - model.log_prob(part.x, part.condition).double()
        found.append(nats.double().cpu())
    return torch.cat(found)


def _filtered(
    subject: Subject, rows: Rows, observed: Tensor, settings: Settings, generator: torch.Generator
) -> Particles:
    seen = observation(rows.x, observed.to(rows.x.device), subject.levels.num_levels)
    count, shown = settings.num_particles, subject.progress
    return posterior(subject.model, seen, count, rows.condition, generator, progress=shown)


def _complete(
    subject: Subject, rows: Rows, observed: Tensor, settings: Settings, exact: bool, number: int
) -> Tensor:
    """Draw what is missing once for each row."""
    model = subject.model
    generator = subject.generator(settings.seed * 1_000 + number)
    if exact:
        ordered = completion.observed_first(model, observed)
        assert ordered is not None
        return ordered.impute(rows.x, observed, rows.condition, generator)
    particles = _filtered(subject, rows, observed, settings, generator)
    return particles.draw(generator)


def _notes(settings: Settings, exact: list[str], count: int) -> str:
    notes = f"-ln p(missing | observed), mean over {count} random test images."
    others = [mask for mask in settings.masks if mask not in exact]
    if others:
        notes += (
            f" ~: estimates by a particle filter of {settings.num_particles} particles, where the "
            f"model's order does not have the observed pixels first ({', '.join(others)}); they "
            "tend to be too low, since the logarithm of an unbiased estimate is."
        )
    return notes
