"""Speakers: the same text drawn in every voice, and the speaker of test sounds by Bayes' rule."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from matplotlib.figure import Figure
from torch import Tensor

from arcore.inference import classification
from pipeline.core.errors import require
from pipeline.data import sound_batches
from pipeline.datasets.base import Sound, SplitData
from pipeline.datasets.formats.wave_files import wave_bytes
from pipeline.datasets.read_transforms import choose_rows
from pipeline.evaluation import audio_figures
from pipeline.uses import pictures, sounds
from pipeline.uses.outcome import Outcome, mean_of, share_of
from pipeline.uses.records import Number, Shown
from pipeline.uses.subject import Subject


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Settings of speakers.

    Arguments:
        num_texts: random test sounds, whose text and length each speaker gets.
        num_rows: random test sounds whose speaker is told.
        seed: of rows and draws.
    """

    num_texts: int = 2
    num_rows: int = 50
    seed: int = 0

    def __post_init__(self) -> None:
        require(self.num_texts >= 1, "num_texts", "an integer >= 1", self.num_texts)
        require(self.num_rows >= 2, "num_rows", "an integer >= 2", self.num_rows)


def run(subject: Subject, settings: Settings, folder: Path) -> Outcome:
    """Swap speakers, and tell them."""
    event, sound = sounds.of(subject)
    model, split = subject.model, subject.split("test")
    if model.num_classes is None:
        raise subject.unfit("a model of speakers")
    rows = choose_rows(len(split), min(settings.num_rows, len(split)), settings.seed)
    scored = torch.cat([log_likelihoods(subject, split, int(row)) for row in rows])
    labels = torch.from_numpy(sound_batches.labels_of(split)[rows, 1])
    chosen = choose_rows(len(split), min(settings.num_texts, len(split)), settings.seed)
    drawn = [_in_all_voices(subject, split, int(row), settings) for row in chosen]
    spoken = sound_batches.labels_of(split)[chosen]
    texts = [audio_figures.text_of(label, sound) for label in spoken]
    figure = _figure(drawn, texts, event.num_levels, sound)
    pictures.save(figure, folder / "spectrograms.png")
    caption = "Sounds drawn of the same text and length, a column a speaker"
    shown = [Shown(file="spectrograms.png", caption=caption)]
    for number, (voices, text) in enumerate(zip(drawn, texts, strict=True), 1):
        for speaker, (name, levels) in enumerate(zip(sound.speakers, voices, strict=True), 1):
            path = folder / f"{number}-speaker-{speaker}.wav"
            path.write_bytes(wave_bytes(levels.numpy(), event.num_levels, sound.sample_rate))
            shown.append(Shown(file=path.name, caption=f"{name} {text}".strip()))
    told = "speaker and text" if model.num_symbols is not None else "speaker"
    notes = (
        f"The model is told the {told}. p(speaker | sound) of {len(rows)} random test sounds is by "
        "Bayes' rule with equal shares of the speakers; what the speaker tells of a sound is "
        "ln p(x | speaker) - ln mean p(x | speaker)."
    )
    return Outcome(_numbers(scored, labels), shown, notes)


@torch.no_grad()
def log_likelihoods(subject: Subject, split: SplitData, row: int) -> Tensor:
    """Return ln p(x | speaker, text) of a row under every speaker, (1, speakers) float64."""
    model, length = subject.model, int(sound_batches.lengths(split)[row])
    condition = _voices(subject, split, row, length)
    x = torch.from_numpy(split.x[[row], :length]).to(model.device)
    return model.log_prob(x.expand(len(condition), -1), condition).double().cpu()[None]


def _voices(subject: Subject, split: SplitData, row: int, length: int) -> Tensor:
    """Return a row's condition once for each speaker, in the place of its own."""
    condition = sounds.condition_of(subject, split, row, 0, length)
    speakers = subject.model.num_classes
    assert condition is not None and speakers is not None
    everybody = condition.repeat(speakers, *[1] * (condition.dim() - 1))
    of_speaker = everybody if everybody.dim() == 1 else everybody[:, 0]
    of_speaker[:] = torch.arange(speakers, device=everybody.device)
    return everybody


def _in_all_voices(subject: Subject, split: SplitData, row: int, settings: Settings) -> Tensor:
    """Draw a row's text in its length by each speaker, (speakers, length) levels."""
    length = int(sound_batches.lengths(split)[row])
    condition = _voices(subject, split, row, length)
    generator = subject.generator(settings.seed * 1_000 + row)
    twin = subject.model.of_length(length)
    return twin.sample(len(condition), condition, generator, progress=subject.progress).cpu()


def _numbers(scored: Tensor, labels: Tensor) -> Sequence[Number]:
    posterior = classification.class_posterior(scored)
    told = classification.class_information(scored, labels)
    return [
        share_of("accuracy of the most probable speaker", posterior.argmax(1) == labels),
        mean_of("what the speaker tells of a sound", told, "nats"),
    ]


def _figure(drawn: Sequence[Tensor], texts: Sequence[str], levels: int, sound: Sound) -> Figure:
    columns, width = len(sound.speakers), 2.0
    titles = [audio_figures.wrapped(text, width * columns) for text in texts]
    lines = sum(1 + title.count("\n") for title in titles)
    size = (width * columns + 0.8, 1.7 * len(drawn) + audio_figures.LINE * lines + 0.3)
    figure = Figure(figsize=size, layout="constrained", dpi=pictures.DPI)
    parts = figure.subfigures(len(drawn), 1, squeeze=False)[:, 0]
    for part, voices, title in zip(parts, drawn, titles, strict=True):
        if title:
            part.suptitle(title, fontsize=audio_figures.FONT_SIZE, parse_math=False)
        panels = part.subplots(1, columns, squeeze=False, sharey=True)[0]
        for axes, name, x in zip(panels, sound.speakers, voices, strict=True):
            audio_figures.draw_spectrogram(axes, x.numpy(), levels, sound.sample_rate)
            axes.set_title(name, fontsize=audio_figures.FONT_SIZE, parse_math=False)
            axes.set_xlabel("seconds", fontsize=audio_figures.FONT_SIZE)
        panels[0].set_ylabel("kHz", fontsize=audio_figures.FONT_SIZE)
    return figure
