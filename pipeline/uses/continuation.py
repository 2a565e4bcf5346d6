"""Continuation: sounds drawn given their first half."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

from pipeline.core.errors import require
from pipeline.data import sound_batches
from pipeline.datasets.base import Sound, SplitData
from pipeline.datasets.formats.wave_files import wave_bytes
from pipeline.datasets.read_transforms import choose_rows
from pipeline.evaluation import audio_figures
from pipeline.uses import pictures, sounds
from pipeline.uses.outcome import Outcome, mean_of
from pipeline.uses.records import Shown
from pipeline.uses.subject import Subject


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Settings of continuation.

    Arguments:
        num_sounds: random test sounds that are continued.
        num_continuations: of each.
        num_rows: random test sounds whose second half is scored.
        seed: of rows and draws.
    """

    num_sounds: int = 3
    num_continuations: int = 3
    num_rows: int = 50
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("num_sounds", "num_continuations"):
            require(getattr(self, name) >= 1, name, "an integer >= 1", getattr(self, name))
        require(self.num_rows >= 2, "num_rows", "an integer >= 2", self.num_rows)


@dataclass(frozen=True)
class Continued:
    """A sound and its continuations.

    Attributes:
        title: speaker and text.
        half: samples that were given.
        real: (length,) levels.
        drawn: (continuations, length) levels, whose first half is that of the real one.
    """

    title: str
    half: int
    real: Tensor
    drawn: Tensor


def run(subject: Subject, settings: Settings, folder: Path) -> Outcome:
    """Continue test sounds, and score their second halves with and without the first."""
    event, sound = sounds.of(subject)
    split = subject.split("test")
    rows = choose_rows(len(split), min(settings.num_rows, len(split)), settings.seed)
    scored = torch.tensor([_bits(subject, split, int(row)) for row in rows], dtype=torch.float64)
    numbers = [
        mean_of("the second half given the first", scored[:, 0], "bits/sample"),
        mean_of("the second half alone", scored[:, 1], "bits/sample"),
        mean_of("what the first half tells", scored[:, 1] - scored[:, 0], "bits/sample"),
    ]
    chosen = choose_rows(len(split), min(settings.num_sounds, len(split)), settings.seed)
    continued = [_continue(subject, split, sound, int(row), settings) for row in chosen]
    pictures.save(_figure(continued, event.num_levels, sound), folder / "spectrograms.png")
    caption = (
        "Spectrograms, real and drawn; left of the line is given. Brighter is louder, over 70 dB"
    )
    shown = [Shown(file="spectrograms.png", caption=caption)]
    for number, one in enumerate(continued, 1):
        named = [("real", one.real)]
        named += [(f"drawn-{n}", levels) for n, levels in enumerate(one.drawn, 1)]
        for name, levels in named:
            path = folder / f"{number}-{name}.wav"
            path.write_bytes(wave_bytes(levels.numpy(), event.num_levels, sound.sample_rate))
            what = (
                "real" if name == "real" else f"the first half real, then {name.replace('-', ' ')}"
            )
            shown.append(Shown(file=path.name, caption=f"{_name(number, one)}: {what}"))
    notes = (
        f"{len(rows)} random test sounds, whose halves are scored in whole frames of the model's "
        "condition. The second half alone is scored as a sound of its own. Draws are from the "
        "exact posterior, since the first half comes first in the model's order. Means are over "
        "sounds, whatever their length."
    )
    return Outcome(numbers, shown, notes)


def _name(number: int, one: Continued) -> str:
    return f"sound {number} ({one.title})" if one.title else f"sound {number}"


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
def _bits(subject: Subject, split: SplitData, row: int) -> tuple[float, float]:
    """Return the bits per sample of a sound's second half given the first, and alone."""
    model, length = subject.model, int(sound_batches.lengths(split)[row])
    x = torch.from_numpy(split.x[[row], :length]).to(model.device)
    half = whole_frames(length, model.hop)
    span = torch.tensor([[half, length]])
    given = -model.log_prob(x, sounds.condition_of(subject, split, row, 0, length), span)
    alone = -model.log_prob(x[:, half:], sounds.condition_of(subject, split, row, half, length))
    count = (length - half) * math.log(2)
    return float(given) / count, float(alone) / count


def _continue(
    subject: Subject, split: SplitData, sound: Sound, row: int, settings: Settings
) -> Continued:
    model, length = subject.model, int(sound_batches.lengths(split)[row])
    half, count = length // 2, settings.num_continuations
    real = torch.from_numpy(split.x[row, :length].astype(np.int64))
    observed = torch.arange(length) < half
    condition = sounds.condition_of(subject, split, row, 0, length)
    if condition is not None:
        condition = condition.expand(count, *condition.shape[1:])
    x = real.to(model.device).expand(count, -1)
    generator = subject.generator(settings.seed * 1_000 + row)
    drawn = model.of_length(length).impute(x, observed, condition, generator)
    title = audio_figures.title_of(sound_batches.labels_of(split)[row], sound)
    return Continued(title, half, real, drawn.cpu())


def _figure(continued: Sequence[Continued], levels: int, sound: Sound) -> Figure:
    columns, rate, width = 1 + len(continued[0].drawn), sound.sample_rate, 2.2
    titles = [audio_figures.wrapped(f"real {one.title}".strip(), width) for one in continued]
    lines = sum(1 + title.count("\n") for title in titles)
    size = (width * columns + 0.8, 1.5 * len(continued) + audio_figures.LINE * lines + 0.5)
    figure = Figure(figsize=size, layout="constrained", dpi=pictures.DPI)
    panels = figure.subplots(len(continued), columns, squeeze=False, sharey=True)
    for row, (one, title) in enumerate(zip(continued, titles, strict=True)):
        for column, x in enumerate([one.real, *one.drawn]):
            axes = panels[row, column]
            audio_figures.draw_spectrogram(axes, x.numpy(), levels, rate)
            axes.axvline(one.half / rate, color="white", linewidth=1)
            label = title if column == 0 else f"drawn {column}"
            axes.set_title(label, fontsize=audio_figures.FONT_SIZE, parse_math=False)
        panels[row, 0].set_ylabel("kHz", fontsize=audio_figures.FONT_SIZE)
    for axes in panels[-1]:
        axes.set_xlabel("seconds", fontsize=audio_figures.FONT_SIZE)
    return figure
