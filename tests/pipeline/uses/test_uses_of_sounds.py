"""Uses of models of sounds: what is given stays, and what is scored is what is said."""

import dataclasses
import math
import wave
from pathlib import Path

import numpy as np
import pytest
import torch

from arcore.events import Levels
from pipeline.core.errors import UserError
from pipeline.datasets.base import SplitData
from pipeline.datasets.embedded import tones
from pipeline.datasets.formats.sound_files import wave_bytes
from pipeline.evaluation import audio_figures, scoring
from pipeline.evaluation.scoring import ChosenRows
from pipeline.uses import comparisons, sound_uses, use_context
from pipeline.uses.sound_uses import Continuation, SoundRows
from tests.support import titles
from tests.support.few_rows import train_on_few

SMALL = {"width": 4, "gate_width": 4, "skip_width": 8, "num_blocks": 1, "cycle": 3}
BOTH = {"num_classes": 2, "local_classes": 2, "local_strides": [5], "upsampling": "repeat"}
EXPERIMENTS = {
    f"tones-{name}": {
        "dataset": "tones",
        "model": "wavenet",
        "model_overrides": SMALL | more,
        "trainer": {"max_epochs": 1, "batch_size": 16, "window": 250},
    }
    for name, more in (("plain", {}), ("both", BOTH))
}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, migrated: Path) -> Path:
    folder = tmp_path_factory.mktemp("project")
    train_on_few(folder, migrated, EXPERIMENTS, 40)
    return folder


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_the_first_half_stays_and_the_second_is_drawn(project: Path, name: str) -> None:
    loaded = use_context.load(name)
    outcome = Continuation(num_sounds=2, num_rows=4).run(loaded, project)
    assert [shown.file for shown in outcome.shown if shown.file.endswith(".wav")] == [
        f"{number}-{what}.wav"
        for number in (1, 2)
        for what in ("real", "drawn-1", "drawn-2", "drawn-3")
    ]
    for number in (1, 2):
        heard = []
        for what in ("real", "drawn-1", "drawn-2"):
            with wave.open(str(project / f"{number}-{what}.wav")) as sound:
                heard.append(sound.readframes(sound.getnframes()))
        half = len(heard[0]) // 2 // 2 * 2  # bytes, two a sample
        assert half > 0 and len({one[:half] for one in heard}) == 1
        assert len({one[half:] for one in heard}) == 3
    split = loaded.stored("test").whole()
    assert heard[0] in [
        wave_bytes(x[: row[0]], 16, loaded.manifest.sound.sample_rate)[44:]
        for x, row in zip(split.x, split.labels, strict=True)
    ]


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_both_halves_together_are_the_whole(project: Path, name: str) -> None:
    loaded = use_context.load(name)
    sounds, model = SoundRows.of(loaded), loaded.model
    split = sounds.split
    length = int(split.labels[3, 0])
    half = sound_uses.whole_frames(length, model.hop)
    assert half % model.hop == 0 and abs(half - length / 2) <= model.hop / 2
    given, alone = sound_uses.bits_of_half(sounds, 3)
    x = torch.from_numpy(split.x[[3], :length])
    condition = sounds.read(3).condition
    first = torch.tensor([[0, half]])
    with torch.no_grad():
        whole = float(model.log_prob(x, condition) - model.log_prob(x, condition, first))
    assert given == pytest.approx(-whole / (length - half) / math.log(2), rel=1e-4)
    assert alone != given
    found = Continuation(num_sounds=1, num_rows=10_000).run(loaded, project).numbers
    pairs = np.array([sound_uses.bits_of_half(sounds, row) for row in range(len(split))])
    assert [number.value for number in found] == pytest.approx(
        [*pairs.mean(0), float(pairs[:, 1].mean() - pairs[:, 0].mean())]
    )


def test_speakers_are_swapped_at_the_same_text(project: Path) -> None:
    loaded = use_context.load("tones-both")
    sounds, model = SoundRows.of(loaded), loaded.model
    split = sounds.split
    length = int(split.labels[5, 0])
    own = sounds.read(5).condition
    voices = sound_uses.conditions_by_speaker(sounds, 5)
    assert voices[:, 0].tolist() == [0, 1]
    assert torch.equal(voices[:, 1:], own[:, 1:].expand(2, -1)), "the same text"
    x = torch.from_numpy(split.x[[5], :length])
    with torch.no_grad():
        expected = [float(model.log_prob(x, voice[None])) for voice in voices]
    assert sound_uses.log_likelihoods(sounds, 5)[0].tolist() == pytest.approx(expected)
    outcome = sound_uses.SpeakerSwap(num_texts=1, num_rows=10).run(loaded, project)
    files = [shown.file for shown in outcome.shown[1:]]
    assert files == ["1-speaker-1.wav", "1-speaker-2.wav"]
    heard = [(project / shown.file).read_bytes() for shown in outcome.shown[1:]]
    assert len({len(one) for one in heard}) == 1 and len(set(heard)) == 2
    rows = range(len(split))
    right = [
        int(sound_uses.log_likelihoods(sounds, row).argmax()) == split.labels[row, 1]
        for row in rows
    ]
    every = sound_uses.SpeakerSwap(num_texts=1, num_rows=10_000).run(loaded, project)
    assert every.numbers[0].value == pytest.approx(np.mean(right))


def test_what_a_condition_gains_is_of_the_same_sounds(project: Path) -> None:
    told, alone = (use_context.load(f"tones-{name}") for name in ("both", "plain"))
    test = told.stored("test").whole()
    nats = [scoring.scores(one.model, ChosenRows.of(test, 7)) for one in (alone, told)]
    apart, lengths = nats[0] - nats[1], torch.from_numpy(test.labels[:, 0]).double()
    outcome = comparisons.PairedDifferences(others=["tones-plain"]).run(told, project)
    gain, ahead = outcome.numbers
    mean = float(apart.sum() / lengths.sum())
    assert (gain.name, gain.unit) == ("over tones-plain: gain", "bits/sample")
    assert gain.value == pytest.approx(mean / math.log(2), rel=1e-4)
    assert ahead.value == pytest.approx(float((apart > 0).double().mean()))
    assert outcome.others == {"tones-plain": alone.trained.weights_sha256}


def test_a_gain_of_every_sample_alike_is_certain() -> None:
    labels = np.array([[100], [300], [800]])
    rows = ChosenRows.of(SplitData(np.zeros((3, 800), np.uint8), labels), 3)
    score = rows.score(torch.from_numpy(0.1 * labels[:, 0]), Levels(256, (None,)), difference=True)
    assert score.bits_per_dim == pytest.approx(0.1 / math.log(2))
    assert score.bits_per_dim_stderr == pytest.approx(0, abs=1e-9) and score.nats_stderr > 10


def test_titles_can_be_read() -> None:
    """Long ones, and such as look like mathematics."""
    text = "the conference is now muted and you are $ the only one $^$ in it"
    voices = tuple(f"en_US_f_Allison{number}" for number in range(5))
    sound = dataclasses.replace(tones.SOUND, speakers=voices)
    x = torch.full((5, 4000), 128)
    waves = x.numpy()
    rows = [[(f"{voice} {text}", wave) for voice, wave in zip(voices, waves, strict=True)]] * 2
    figures = [audio_figures.spectrograms(rows, 256, sound.sample_rate)]
    named = [f"real {voices[0]} {text}", *(f"drawn {number}" for number in (1, 2, 3))]
    panels = [[(title, waves[0]) for title in named]] * 2
    figures.append(audio_figures.spectrograms(panels, 256, sound.sample_rate, [0.25, 0.25]))
    for figure in figures:
        assert list(titles.overlapping(figure)) == []


def test_models_without_speakers_are_refused(project: Path) -> None:
    with pytest.raises(UserError, match="tones-plain: expected a model of speakers, got"):
        sound_uses.SpeakerSwap().run(use_context.load("tones-plain"), project)
