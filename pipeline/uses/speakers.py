"""Speakers: the same text drawn in every voice, and the speaker of test sounds by Bayes' rule."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from arcore.inference import classification
from pipeline.evaluation import audio_figures
from pipeline.uses.sound_rows import SoundRows
from pipeline.uses.use_base import Use, UseOutcome, mean_of, setting, share_of
from pipeline.uses.use_context import UseContext


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

    def _in_all_voices(self, sounds: SoundRows, row: int) -> list[tuple[str, Tensor]]:
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
    condition, x = conditions_by_speaker(sounds, row), sounds.levels(row)
    scored = sounds.context.model.log_prob(x.expand(len(condition), -1), condition)
    return scored.double().cpu()[None]


def conditions_by_speaker(sounds: SoundRows, row: int) -> Tensor:
    """Return a row's condition once for each speaker, in the place of its own."""
    condition = sounds.condition(row, 0, sounds.length(row))
    speakers = sounds.context.model.num_classes
    assert condition is not None and speakers is not None
    everybody = condition.repeat(speakers, *[1] * (condition.dim() - 1))
    of_speaker = everybody if everybody.dim() == 1 else everybody[:, 0]
    of_speaker[:] = torch.arange(speakers, device=everybody.device)
    return everybody
