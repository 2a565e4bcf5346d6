"""Generated and real sounds: WAV files and spectrograms."""

from __future__ import annotations

import textwrap
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from arcore.events import Levels
from arcore.primitives.companding import mu_law_decode
from pipeline.datasets.base import Sound
from pipeline.datasets.formats.sound_files import wave_bytes

MAX_PAIRS = 6
WINDOW_SECONDS = 0.032
FLOOR_DB = -70.0
KINDS = ("sample", "real")
FONT_SIZE = 8  # points
CHARACTERS, LINE = 14, 0.14  # of titles: characters that an inch holds, inches of a line


def title_of(label: np.ndarray, sound: Sound) -> str:
    """Name the speaker and the text of a row's label."""
    return f"{sound.speakers[int(label[1])]} {text_of(label, sound)}".strip()


def text_of(label: np.ndarray, sound: Sound) -> str:
    """Return the text of a row's label, nothing without one.

    Example:
        >>> sound = Sound(8000, 10, 2, ("ann",), ("AH", "N"))
        >>> text_of(np.array([10, 0, 2, 0, 1]), sound)
        'AH N'
    """
    _, _, count, *symbols = label.tolist()
    between = " " if max(map(len, sound.symbols), default=1) > 1 else ""
    return between.join(sound.symbols[symbol] for symbol in symbols[:count])


@dataclass(frozen=True)
class Pairs:
    """Samples (N, T) and real rows (N, T') of the same lengths, speakers and texts.

    Arguments:
        samples, real: levels.
        labels: of the real rows, see `pipeline.datasets.base.Sound`.
        event: what is modelled.
        sound: of the dataset.
    """

    samples: np.ndarray
    real: np.ndarray
    labels: np.ndarray
    event: Levels
    sound: Sound

    @property
    def num_levels(self) -> int:
        """Levels of a sample."""
        return self.event.num_levels

    def title(self, row: int) -> str:
        """Name a row's speaker and text."""
        return title_of(self.labels[row], self.sound)

    def pair(self, row: int) -> tuple[np.ndarray, np.ndarray]:
        """Return a row's sample and the real sound, (length,) levels each."""
        length = int(self.labels[row, 0])
        return self.samples[row, :length], self.real[row, :length]

    def write(self, folder: Path) -> None:
        """Write `<row>-{sample,real}.wav` of the first rows, and `<row>.txt` with their titles."""
        for row in range(min(len(self.labels), MAX_PAIRS)):
            (folder / f"{row}.txt").write_text(self.title(row) + "\n", encoding="utf-8")
            for kind, levels in zip(KINDS, self.pair(row), strict=True):
                data = wave_bytes(levels, self.num_levels, self.sound.sample_rate)
                (folder / f"{row}-{kind}.wav").write_bytes(data)

    def spectrograms(self) -> Figure:
        """Draw the spectrograms of samples (above) and of real sounds (below), in decibels."""
        count, width = min(len(self.labels), MAX_PAIRS), 2.2
        titles = [wrapped(self.title(row), width) for row in range(count)]
        lines = 1 + max(title.count("\n") for title in titles)
        figure = Figure(figsize=(1 + width * count, 4.2 + LINE * lines), layout="constrained")
        panels = figure.subplots(2, count, squeeze=False, sharey=True)
        for row, title in enumerate(titles):
            for axes, kind, levels in zip(panels[:, row], KINDS, self.pair(row), strict=True):
                label = f"{title}\n{kind}" if kind == KINDS[0] else kind
                draw_spectrogram(axes, levels, self.num_levels, self.sound.sample_rate, label)
        panels[0, 0].set_ylabel("kHz")
        panels[1, 0].set(xlabel="seconds", ylabel="kHz")
        return figure


def wrapped(title: str, inches: float) -> str:
    r"""Break a title into lines that are as wide as its panel.

    Example:
        >>> wrapped("ann a text of many words", 1.0)
        'ann a text of\nmany words'
    """
    return textwrap.fill(title, max(1, int(CHARACTERS * inches)))


def draw_spectrogram(
    axes: Axes, levels: np.ndarray, num_levels: int, sample_rate: int, title: str
) -> None:
    """Draw the spectrogram of mu-law levels (T,) over seconds and kHz, below its title."""
    amplitudes = mu_law_decode(torch.from_numpy(levels.astype(np.int64)), num_levels)
    axes.imshow(
        spectrogram(amplitudes.numpy(), sample_rate),
        origin="lower",
        aspect="auto",
        extent=(0, len(levels) / sample_rate, 0, sample_rate / 2000),
        vmin=FLOOR_DB,
        vmax=0,
        cmap="magma",
    )
    axes.tick_params(labelsize=7)
    axes.set_title(title, fontsize=FONT_SIZE, parse_math=False)


def spectrogram(amplitudes: np.ndarray, sample_rate: int) -> np.ndarray:
    """Return a magnitude spectrogram in decibels below the loudest, (frequencies, frames).

    Frames are of 32 ms, three quarters overlapping, under a Hann window.

    Example:
        >>> tone = np.sin(2 * np.pi * 1000 / 8000 * np.arange(8000))
        >>> int(spectrogram(tone, 8000).mean(1).argmax() * 8000 / 256)
        1000
    """
    size = max(8, int(WINDOW_SECONDS * sample_rate))
    padded = np.pad(amplitudes, size // 2)
    frames = np.lib.stride_tricks.sliding_window_view(padded, size)[:: max(1, size // 4)]
    magnitudes = np.abs(np.fft.rfft(frames * np.hanning(size), axis=1)).T
    loudest = max(float(magnitudes.max()), 1e-12)
    return np.asarray(20 * np.log10(np.maximum(magnitudes / loudest, 10 ** (FLOOR_DB / 20))))
