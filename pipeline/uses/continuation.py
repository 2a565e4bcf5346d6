"""Continuation: sounds drawn given their first half."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from pipeline.core.errors import require
from pipeline.evaluation import audio_figures
from pipeline.uses.sound_rows import SoundRows
from pipeline.uses.use_base import Use, UseOutcome, mean_of, setting
from pipeline.uses.use_context import UseContext
from pipeline.uses.use_records import Shown


@dataclass(frozen=True)
class ContinuedSound:
    """A sound (length,) of levels and its continuations (n, length), which share its first half."""

    title: str
    real: Tensor
    drawn: Tensor

    @property
    def half(self) -> int:
        """How many samples were given."""
        return len(self.real) // 2

    @property
    def panels(self) -> list[tuple[str, Tensor]]:
        """The sound and its continuations with their titles."""
        drawn = [(f"drawn {number}", x) for number, x in enumerate(self.drawn, 1)]
        return [(f"real {self.title}".strip(), self.real), *drawn]


@dataclass(frozen=True, kw_only=True)
class Continuation(Use):
    """Continue test sounds, and score their second halves with and without the first."""

    num_sounds: int = setting(3, "random test sounds that are continued", least=1)
    num_continuations: int = setting(3, "continuations of each", least=1)
    num_rows: int = setting(50, "random test sounds whose second half is scored", least=2)

    def _run(self, context: UseContext, folder: Path) -> UseOutcome:
        sounds = SoundRows.of(context)
        rows = sounds.choose(self.num_rows, self.seed)
        scored = torch.tensor([bits_of_half(sounds, row) for row in rows], dtype=torch.float64)
        numbers = [
            mean_of("the second half given the first", scored[:, 0], "bits/sample"),
            mean_of("the second half alone", scored[:, 1], "bits/sample"),
            mean_of("what the first half tells", scored[:, 1] - scored[:, 0], "bits/sample"),
        ]
        chosen = sounds.choose(self.num_sounds, self.seed)
        continued = [self._continue(sounds, row) for row in chosen]
        caption = (
            "Spectrograms, real and drawn; left of the line is given. Brighter is louder, over "
            "70 dB"
        )
        panels, path = [one.panels for one in continued], folder / "spectrograms.png"
        marks = [one.half / sounds.sound.sample_rate for one in continued]
        shown = [sounds.draw(panels, path, caption, marks)]
        for number, one in enumerate(continued, 1):
            shown += _play(sounds, number, one, folder)
        notes = (
            f"{len(rows)} random test sounds, halved at a whole frame of the model's condition. "
            "The second half alone is scored as a sound of its own. Draws are from the exact "
            "posterior. Means are over sounds, whatever their length."
        )
        return UseOutcome(numbers, shown, notes)

    def _continue(self, sounds: SoundRows, row: int) -> ContinuedSound:
        real, length, count = sounds.levels(row).long(), sounds.length(row), self.num_continuations
        condition = sounds.condition(row, 0, length)
        if condition is not None:
            condition = condition.expand(count, *condition.shape[1:])
        observed, generator = torch.arange(length) < length // 2, sounds.generator(row, self.seed)
        twin = sounds.context.model.of_length(length)
        drawn = twin.impute(real.expand(count, -1), observed, condition, generator)
        title = audio_figures.title_of(sounds.labels([row])[0], sounds.sound)
        return ContinuedSound(title, real[0].cpu(), drawn.cpu())


def whole_frames(length: int, hop: int) -> int:
    """Return the samples of the first half, rounded to whole frames of a condition.

    Raises:
        UserError: for a sound of a single frame.

    Example:
        >>> whole_frames(1000, hop=1), whole_frames(1000, hop=64)
        (500, 512)
    """
    half = max(1, round(length / 2 / hop)) * hop
    require(half < length, "sounds", f"more than a frame of {hop} samples", length)
    return half


@torch.no_grad()
def bits_of_half(sounds: SoundRows, row: int) -> tuple[float, float]:
    """Return the bits per sample of a sound's second half given the first, and alone."""
    model, x, length = sounds.context.model, sounds.levels(row), sounds.length(row)
    half = whole_frames(length, model.hop)
    span = torch.tensor([[half, length]])
    given = -model.log_prob(x, sounds.condition(row, 0, length), span)
    alone = -model.log_prob(x[:, half:], sounds.condition(row, half, length))
    count = (length - half) * math.log(2)
    return float(given) / count, float(alone) / count


def _play(sounds: SoundRows, number: int, one: ContinuedSound, folder: Path) -> Iterator[Shown]:
    """Write a sound and its continuations as WAV files."""
    name = f"sound {number} ({one.title})" if one.title else f"sound {number}"
    yield sounds.play(one.real, folder / f"{number}-real.wav", f"{name}: real")
    for draw, levels in enumerate(one.drawn, 1):
        path = folder / f"{number}-drawn-{draw}.wav"
        yield sounds.play(levels, path, f"{name}: the first half real, then drawn {draw}")
