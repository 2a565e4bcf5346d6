"""Generated and real sounds: WAV files and spectrograms; of piano rolls MIDI files and rolls."""

import textwrap
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from arcore.events import Levels
from arcore.primitives.companding import mu_law_decode
from pipeline.datasets.base import Sound
from pipeline.datasets.formats import piano_rolls
from pipeline.datasets.formats.sound_files import wave_bytes
from pipeline.evaluation import image_figures

MAX_PAIRS = 6
HEARD_SECONDS = 24  # of a piano roll, at most
WINDOW_SECONDS = 0.032
FLOOR_DB = -70.0
KINDS = ("sample", "real")
FONT_SIZE = 8  # points
PANEL = 2.2  # inches that a spectrogram is wide
CHARACTERS, LINE = 14, 0.14  # of titles: characters that an inch holds, inches of a line


def title_of(label: np.ndarray, sound: Sound) -> str:
    """Name the speaker and the text of a row's label."""
    return f"{sound.speakers[int(label[1])]} {text_of(label, sound)}".strip()


def text_of(label: np.ndarray, sound: Sound) -> str:
    """Return the text of a row's label, nothing without one."""
    _, _, count, *symbols = label.tolist()
    between = " " if max(map(len, sound.symbols), default=1) > 1 else ""
    return between.join(sound.symbols[symbol] for symbol in symbols[:count])


def write_pairs(
    folder: Path,
    samples: np.ndarray,
    real: np.ndarray,
    labels: np.ndarray,
    event: Levels,
    sound: Sound,
) -> Figure:
    """Write the first rows of samples and of real sounds into a folder, and draw both.

    Both, levels (N, T, ...) and (N, T', ...), have the lengths, speakers and texts that `labels`
    are (see `pipeline.datasets.base.Sound`). Files are `<row>-{sample,real}.wav`, and titles
    `<row>.txt`; of piano rolls also `<row>-{sample,real}.mid`.
    """
    panels: dict[str, list[tuple[str, np.ndarray]]] = {kind: [] for kind in KINDS}
    for row, label in enumerate(labels[:MAX_PAIRS]):
        title = title_of(label, sound)
        (folder / f"{row}.txt").write_text(title + "\n", encoding="utf-8")
        for kind, sounds in zip(KINDS, (samples, real), strict=True):
            levels = sounds[row, : int(label[0])]
            named = f"{title}: {kind}" if title and kind == KINDS[0] else kind
            panels[kind].append((named, levels))
            if sound.is_roll:
                write_roll(folder / f"{row}-{kind}.wav", levels, sound)
                continue
            data = wave_bytes(levels, event.num_levels, sound.sample_rate)
            (folder / f"{row}-{kind}.wav").write_bytes(data)
    if sound.is_roll:
        return rolls(list(panels.values()), sound)
    return spectrograms(list(panels.values()), event.num_levels, sound.sample_rate)


def write_roll(path: Path, roll: np.ndarray, sound: Sound) -> None:
    """Write the first seconds of a piano roll (T, keys) as a WAV file, and all of it as MIDI."""
    heard = roll[: HEARD_SECONDS * sound.sample_rate]
    path.write_bytes(piano_rolls.wave_bytes(heard, sound))
    path.with_suffix(".mid").write_bytes(piano_rolls.midi_bytes(roll, sound))


def rolls(rows: Sequence[Sequence[tuple[str, np.ndarray]]], sound: Sound) -> Figure:
    """Draw rows of piano rolls, a title and bits (T, keys) each, as far as they are heard."""
    assert sound.lowest_pitch is not None
    columns, longest = len(rows[0]), HEARD_SECONDS * sound.sample_rate
    every = np.concatenate([roll for row in rows for _, roll in row])
    sounding = np.flatnonzero(every.any(0))
    low, high = (sounding[0], sounding[-1] + 1) if len(sounding) else (0, every.shape[1])
    figure = image_figures.new_figure(PANEL * columns + 0.8, 1.6 * len(rows) + 0.5)
    panels = figure.subplots(len(rows), columns, squeeze=False, sharey=True)
    for number, row in enumerate(rows):
        for axes, (title, roll) in zip(panels[number], row, strict=True):
            shown = roll[:longest, low:high].T
            pitches = (sound.lowest_pitch + low - 0.5, sound.lowest_pitch + high - 0.5)
            extent = (0, shown.shape[1] / sound.sample_rate, *pitches)
            axes.imshow(
                shown, origin="lower", aspect="auto", extent=extent, cmap="magma",
                interpolation="nearest",
            )  # fmt: skip
            axes.tick_params(labelsize=7)
            axes.set_title(title, fontsize=FONT_SIZE, parse_math=False)
        panels[number, 0].set_ylabel("MIDI number", fontsize=FONT_SIZE)
    for axes in panels[-1]:
        axes.set_xlabel("seconds", fontsize=FONT_SIZE)
    return figure


def spectrograms(
    rows: Sequence[Sequence[tuple[str, np.ndarray]]],
    num_levels: int,
    sample_rate: int,
    marks: Sequence[float] = (),
) -> Figure:
    """Draw rows of sounds, a title and levels (T,) each; `marks` are lines at seconds of a row."""
    wrap = partial(textwrap.fill, width=int(CHARACTERS * PANEL))
    columns, titles = len(rows[0]), [[wrap(title) for title, _ in row] for row in rows]
    lines = sum(1 + max(title.count("\n") for title in row) for row in titles)
    size = (PANEL * columns + 0.8, 1.5 * len(rows) + LINE * lines + 0.5)
    figure = image_figures.new_figure(*size)
    panels = figure.subplots(len(rows), columns, squeeze=False, sharey=True)
    for number, row in enumerate(rows):
        for axes, title, (_, levels) in zip(panels[number], titles[number], row, strict=True):
            _draw_spectrogram(axes, levels, num_levels, sample_rate, title)
            if marks:
                axes.axvline(marks[number], color="white", linewidth=1)
        panels[number, 0].set_ylabel("kHz", fontsize=FONT_SIZE)
    for axes in panels[-1]:
        axes.set_xlabel("seconds", fontsize=FONT_SIZE)
    return figure


def _draw_spectrogram(
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
    """
    size = max(8, int(WINDOW_SECONDS * sample_rate))
    padded = np.pad(amplitudes, size // 2)
    frames = np.lib.stride_tricks.sliding_window_view(padded, size)[:: max(1, size // 4)]
    magnitudes = np.abs(np.fft.rfft(frames * np.hanning(size), axis=1)).T
    loudest = max(float(magnitudes.max()), 1e-12)
    return np.asarray(20 * np.log10(np.maximum(magnitudes / loudest, 10 ** (FLOOR_DB / 20))))
