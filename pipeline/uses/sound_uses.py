"""Sounds continued, drawn in every voice, scored and played."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from arcore.events import Levels
from arcore.inference import classification
from pipeline.core.errors import require
from pipeline.data import sound_batches
from pipeline.data.batches import Batch
from pipeline.datasets.base import Sound, SplitData
from pipeline.datasets.formats.sound_files import wave_bytes
from pipeline.datasets.read_transforms import choose_rows
from pipeline.evaluation import audio_figures
from pipeline.uses import pictures
from pipeline.uses.use_base import Use, mean_of, setting, share_of
from pipeline.uses.use_context import UseContext
from pipeline.uses.use_records import Shown, UseOutcome

Panels = list[tuple[str, Tensor]]  # titles and levels (length,) of sounds


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
        if sound is None or sound.is_text or sound.is_roll:
            raise context.unfit_event("sounds")
        return cls(context, event, sound, context.stored("test").whole())

    def choose(self, count: int, seed: int) -> list[int]:
        """Choose at most `count` random rows, ascending."""
        return list(choose_rows(len(self.split), count, seed).tolist())

    def labels(self, rows: Sequence[int]) -> np.ndarray:
        """Return the labels of rows, see `pipeline.datasets.base.Sound`."""
        return np.asarray(sound_batches.labels_of(self.split)[list(rows)])

    def length(self, row: int) -> int:
        """Return how many samples a row has."""
        return int(self.labels([row])[0, 0])

    def read(self, row: int, begin: int = 0) -> Batch:
        """Read a row from a sample on, a multiple of hop, to its end, on the model's device."""
        model, rows, length = self.context.model, np.array([row]), self.length(row)
        scored = np.array([[0, length - begin]])
        batch = sound_batches.gather_batch(model, self.split, rows, np.array([begin]), scored)
        return batch.to(model.device)

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
        rows: Sequence[Panels],
        path: Path,
        caption: str,
        marks: Sequence[float] = (),
    ) -> Shown:
        """Draw the spectrograms of rows of sounds, a title and levels each."""
        panels = [[(title, levels.numpy()) for title, levels in row] for row in rows]
        rate, num_levels = self.sound.sample_rate, self.event.num_levels
        figure = audio_figures.spectrograms(panels, num_levels, rate, marks)
        return pictures.show(figure, path, caption)


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
        panels = [self._continue(sounds, row) for row in chosen]
        caption = (
            "Spectrograms, real and drawn; left of the line is given. Brighter is louder, over "
            "70 dB"
        )
        marks = [len(row[0][1]) // 2 / sounds.sound.sample_rate for row in panels]
        shown = [sounds.draw(panels, folder / "spectrograms.png", caption, marks)]
        for number, row in enumerate(panels, 1):
            shown += _play(sounds, number, row, folder)
        notes = (
            f"{len(rows)} random test sounds, halved at a whole frame of the model's condition. "
            "The second half alone is scored as a sound of its own. Draws are from the exact "
            "posterior. Means are over sounds, whatever their length."
        )
        return UseOutcome(numbers, shown, notes)

    def _continue(self, sounds: SoundRows, row: int) -> Panels:
        """Return a sound and its continuations, which share its first half, with their titles."""
        batch, count = sounds.read(row), self.num_continuations
        real, condition, length = batch.x.long(), batch.condition, sounds.length(row)
        if condition is not None:
            condition = condition.expand(count, *condition.shape[1:])
        observed, generator = torch.arange(length) < length // 2, sounds.generator(row, self.seed)
        twin = sounds.context.model.of_length(length)
        drawn = twin.impute(real.expand(count, -1), observed, condition, generator)
        title = audio_figures.title_of(sounds.labels([row])[0], sounds.sound)
        titles = [f"real {title}".strip(), *(f"drawn {n}" for n in range(1, count + 1))]
        return list(zip(titles, [real[0].cpu(), *drawn.cpu()], strict=True))


def whole_frames(length: int, hop: int) -> int:
    """Return the samples of the first half, rounded to whole frames of a condition."""
    half = max(1, round(length / 2 / hop)) * hop
    require(half < length, "sounds", f"more than a frame of {hop} samples", length)
    return half


@torch.no_grad()
def bits_of_half(sounds: SoundRows, row: int) -> tuple[float, float]:
    """Return the bits per sample of a sound's second half given the first, and alone."""
    model, length = sounds.context.model, sounds.length(row)
    half = whole_frames(length, model.hop)
    whole, second = sounds.read(row), sounds.read(row, half)
    given = -model.log_prob(whole.x, whole.condition, torch.tensor([[half, length]]))
    alone = -model.log_prob(second.x, second.condition)
    count = (length - half) * math.log(2)
    return float(given) / count, float(alone) / count


def _play(sounds: SoundRows, number: int, panels: Panels, folder: Path) -> Iterator[Shown]:
    """Write a sound and its continuations as WAV files."""
    (real, levels), *drawn = panels
    title = real.removeprefix("real").strip()
    name = f"sound {number} ({title})" if title else f"sound {number}"
    yield sounds.play(levels, folder / f"{number}-real.wav", f"{name}: real")
    for draw, (_, levels) in enumerate(drawn, 1):
        path = folder / f"{number}-drawn-{draw}.wav"
        yield sounds.play(levels, path, f"{name}: the first half real, then drawn {draw}")


@dataclass(frozen=True, kw_only=True)
class SpeakerSwap(Use):
    """Draw texts in the voice of each speaker, and infer the speaker of sounds."""

    num_texts: int = setting(2, "test sounds whose text and length each speaker gets", least=1)
    num_rows: int = setting(50, "test sounds whose speaker is inferred", least=2)

    def _run(self, context: UseContext, folder: Path) -> UseOutcome:
        sounds, model = SoundRows.of(context), context.model
        if model.num_classes is None:
            raise context.unfit("a model of speakers")
        rows = sounds.choose(self.num_rows, self.seed)
        scored = torch.cat([log_likelihoods(sounds, row) for row in rows])
        labels = torch.from_numpy(sounds.labels(rows)[:, 1])
        posterior = classification.class_posterior(scored)
        information = classification.class_information(scored, labels)
        numbers = [
            share_of("accuracy of the most probable speaker", posterior.argmax(1) == labels),
            mean_of("what the speaker tells of a sound", information, "nats"),
        ]
        chosen = sounds.choose(self.num_texts, self.seed)
        voices = [self._in_all_voices(sounds, row) for row in chosen]
        caption = "Sounds drawn of the same text and length, a column a speaker"
        shown = [sounds.draw(voices, folder / "spectrograms.png", caption)]
        for number, named in enumerate(voices, 1):
            for speaker, (title, levels) in enumerate(named, 1):
                path = folder / f"{number}-speaker-{speaker}.wav"
                shown.append(sounds.play(levels, path, title))
        condition = "speaker and text" if model.num_symbols is not None else "speaker"
        notes = (
            f"The model is conditioned on the {condition}. p(speaker | sound) of {len(rows)} "
            "random test sounds is by Bayes' rule with a uniform prior. What the speaker tells of "
            "a sound is ln p(x | speaker) - ln mean p(x | speaker)."
        )
        return UseOutcome(numbers, shown, notes)

    def _in_all_voices(self, sounds: SoundRows, row: int) -> Panels:
        """Draw a row's text in its length by each speaker, (length,) levels with their titles."""
        condition = conditions_by_speaker(sounds, row)
        twin = sounds.context.model.of_length(sounds.length(row))
        generator, progress = sounds.generator(row, self.seed), sounds.context.progress
        drawn = twin.sample(len(condition), condition, generator, progress=progress).cpu()
        text = audio_figures.text_of(sounds.labels([row])[0], sounds.sound)
        names = sounds.sound.speakers
        return [(f"{name} {text}".strip(), x) for name, x in zip(names, drawn, strict=True)]


@torch.no_grad()
def log_likelihoods(sounds: SoundRows, row: int) -> Tensor:
    """Return ln p(x | speaker, text) of a row under every speaker, (1, speakers) float64."""
    condition, x = conditions_by_speaker(sounds, row), sounds.read(row).x
    scored = sounds.context.model.log_prob(x.expand(len(condition), -1), condition)
    return scored.double().cpu()[None]


def conditions_by_speaker(sounds: SoundRows, row: int) -> Tensor:
    """Return a row's condition once for each speaker, in the place of its own."""
    condition = sounds.read(row).condition
    speakers = sounds.context.model.num_classes
    assert condition is not None and speakers is not None
    everybody = condition.repeat(speakers, *[1] * (condition.dim() - 1))
    of_speaker = everybody if everybody.dim() == 1 else everybody[:, 0]
    of_speaker[:] = torch.arange(speakers, device=everybody.device)
    return everybody
