"""Tones: an embedded source of sounds whose entropy is known exactly.

Each sample is one of 16 levels, drawn from a discretised bell around an echo of the past,

    P(v | past) ~ exp(-(v - m)^2 / (2 s^2)),    m = 7.5 + a (x[t-1] - 7.5) + b (x[t-p] - 7.5),

levels before the first being 7.5. The speaker chooses the period p (4 or 7), the symbol the width s
(1.0 or 1.6). A row's -ln p under its own source is exact, so that no model does better on average
but by chance, and one that learned the source comes as near as its error.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from arcore.events import Levels
from pipeline.datasets.base import SPLITS, Dataset, Sound, SplitData
from pipeline.datasets.formats import sound_files
from pipeline.datasets.options import Options, parse_options

NUM_LEVELS = 16
PERIODS, WIDTHS = (4, 7), (1.0, 1.6)
NEAR, ECHO = 0.25, -0.7
ROWS = {"train": 960, "valid": 40, "test": 80}
LENGTHS = (150, 450)
SOUND = Sound(8000, LENGTHS[1], 1, ("short", "long"), ("clear", "rough"))
_MIDDLE = (NUM_LEVELS - 1) / 2
_PAD = max(PERIODS)


def log_probabilities(near: np.ndarray, echo: np.ndarray, width: np.ndarray) -> np.ndarray:
    """Return ln P(v | past) in nats, (..., 16).

    Arguments:
        near: x[t - 1] - 7.5, zero before the first sample.
        echo: x[t - p] - 7.5, likewise.
        width: s.
    """
    mean = _MIDDLE + NEAR * near + ECHO * echo
    distance = np.arange(NUM_LEVELS) - mean[..., None]
    scores = -(distance**2) / (2 * width[..., None] ** 2)
    return np.asarray(scores - np.logaddexp.reduce(scores, -1)[..., None])


def _past(padded: np.ndarray, speakers: np.ndarray, t: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return near and echo at times t (T,) of rows that have _PAD zeros before them, (N, T)."""
    periods = np.array(PERIODS)[speakers][:, None]
    return padded[:, _PAD + t - 1], np.take_along_axis(padded, _PAD + t[None] - periods, 1)


@dataclass(frozen=True, kw_only=True)
class Tones(Dataset):
    """Draws of the source, the same on every machine."""

    def decode(self, raw_dir: Path) -> dict[str, SplitData]:
        """Draw all splits; `raw_dir` is not read."""
        return {split: self._draw(split) for split in SPLITS}

    def _draw(self, split: str) -> SplitData:
        generator = np.random.Generator(np.random.PCG64(SPLITS.index(split)))
        count, longest = ROWS[split], LENGTHS[1]
        speakers, symbols = np.arange(count) % 2, np.arange(count) // 2 % 2
        lengths = generator.integers(*LENGTHS, size=count, endpoint=True)
        uniform = generator.random((count, longest))
        padded = np.zeros((count, _PAD + longest))
        for t in range(longest):
            near, echo = _past(padded, speakers, np.array([t]))
            p = np.exp(log_probabilities(near, echo, np.array(WIDTHS)[symbols][:, None]))[:, 0]
            drawn = (uniform[:, t, None] >= p.cumsum(-1)).sum(-1).clip(max=NUM_LEVELS - 1)
            padded[:, _PAD + t] = drawn - _MIDDLE
        levels = (padded[:, _PAD:] + _MIDDLE).astype(np.uint8)
        utterances = [
            sound_files.Utterance(x[:length], int(speaker), (int(symbol),))
            for x, length, speaker, symbol in zip(levels, lengths, speakers, symbols, strict=True)
        ]
        return sound_files.rows(utterances, SOUND)

    def source_nats(self, data: SplitData) -> np.ndarray:
        """Return the exact -ln p of rows under their own source, (N,)."""
        assert data.labels is not None
        length, speakers, _, symbols = data.labels.T
        padded = np.pad(data.x - _MIDDLE, ((0, 0), (_PAD, 0)))
        times = np.arange(data.x.shape[1])
        near, echo = _past(padded, speakers, times)
        scores = log_probabilities(near, echo, np.array(WIDTHS)[symbols][:, None])
        nats = -np.take_along_axis(scores, data.x[..., None].astype(np.int64), -1)[..., 0]
        return np.asarray(np.where(times < length[:, None], nats, 0).sum(1))


def _build(settings: Mapping[str, object]) -> Dataset:
    return Tones(
        name="tones",
        event=Levels(NUM_LEVELS, (None,)),
        unit="bits_per_dim",
        provenance="drawn from a source of known entropy, see the module tones",
        options=parse_options(Options, "tones", settings),
        sound=SOUND,
    )


DATASETS = {"tones": _build}
