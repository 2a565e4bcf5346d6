"""Test sounds that uses score, draw from and play."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from arcore.events import Levels
from pipeline.data import sound_batches
from pipeline.datasets.base import Sound, SplitData
from pipeline.datasets.formats.sound_files import wave_bytes
from pipeline.evaluation import audio_figures
from pipeline.uses import pictures
from pipeline.uses.use_context import UseContext, choose
from pipeline.uses.use_records import Shown


@dataclass(frozen=True)
class SoundRows:
    """The test sounds of a model of sounds; `sound` is what the dataset's sounds are."""

    context: UseContext
    event: Levels
    sound: Sound
    split: SplitData

    @classmethod
    def of(cls, context: UseContext) -> SoundRows:
        """Read the test sounds of a model; a UserError for a model of other things."""
        event, sound = context.levels, context.manifest.sound
        if sound is None or not event.is_open:
            raise context.unfit_event("sounds")
        return cls(context, event, sound, context.split("test"))

    def choose(self, count: int, seed: int) -> list[int]:
        """Choose at most `count` random rows, ascending."""
        return list(choose(len(self.split), count, seed).tolist())

    def labels(self, rows: Sequence[int]) -> np.ndarray:
        """Return the labels of rows, see `pipeline.datasets.base.Sound`."""
        return np.asarray(sound_batches.labels_of(self.split)[list(rows)])

    def length(self, row: int) -> int:
        """Return how many samples a row has."""
        return int(self.labels([row])[0, 0])

    def levels(self, row: int) -> Tensor:
        """Return a row without its padding, (1, length) on the model's device."""
        x = torch.from_numpy(self.split.x[[row], : self.length(row)])
        return x.to(self.context.model.device)

    def condition(self, row: int, begin: int, end: int) -> Tensor | None:
        """Return the condition of a part of a row, one row of it; `begin` is a multiple of hop."""
        model = self.context.model
        labels, first = self.labels([row]), np.array([begin])
        condition = sound_batches.condition_for(model, labels, first, end - begin)
        return None if condition is None else condition.to(model.device)

    def generator(self, row: int, seed: int) -> torch.Generator:
        """Return the source of randomness of what is drawn for a row."""
        return self.context.generator(seed * 1_000 + row)

    def play(self, levels: Tensor, path: Path, caption: str) -> Shown:
        """Write levels (length,) as a WAV file, and return it with its caption."""
        rate = self.sound.sample_rate
        path.write_bytes(wave_bytes(levels.numpy(), self.event.num_levels, rate))
        return Shown(file=path.name, caption=caption)

    def draw(
        self,
        rows: Sequence[Sequence[tuple[str, Tensor]]],
        path: Path,
        caption: str,
        marks: Sequence[float] = (),
    ) -> Shown:
        """Draw the spectrograms of rows of sounds, a title and levels each."""
        panels = [[(title, levels.numpy()) for title, levels in row] for row in rows]
        rate, num_levels = self.sound.sample_rate, self.event.num_levels
        figure = audio_figures.spectrograms(panels, num_levels, rate, marks)
        return pictures.show(figure, path, caption)
