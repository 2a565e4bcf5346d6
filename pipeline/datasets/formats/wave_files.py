"""WAV files: reading and writing mono PCM, and rows of sounds from utterances."""

from __future__ import annotations

import io
import wave
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from arcore.primitives.companding import mu_law_decode, mu_law_encode
from pipeline.core.errors import UserError
from pipeline.datasets.base import Sound, SplitData

NUM_LEVELS = 256
PCM = {1: "u1", 2: "<i2", 4: "<i4"}


@dataclass(frozen=True)
class Utterance:
    """One sound: levels (T,) uint8, the number of its speaker, its symbols' numbers."""

    levels: np.ndarray
    speaker: int = 0
    symbols: tuple[int, ...] = ()


def count_samples(source: str | Path | io.BytesIO, sample_rate: int, where: str | Path) -> int:
    """Return the number of samples that a WAV file's header tells.

    Raises:
        UserError: as `read_wave`, but for truncation.
    """
    with _open(source, sample_rate, where) as file:
        return file.getnframes()


def read_wave(source: str | Path | io.BytesIO, sample_rate: int, where: str | Path) -> np.ndarray:
    """Read a mono PCM WAV file of 8, 16 or 32 bits.

    Arguments:
        source: path or content.
        sample_rate: that it must have.
        where: what an error calls it.

    Returns:
        Amplitudes in [-1, 1), (T,) float64, T at least 1.

    Raises:
        UserError: one line that says what is wrong: no WAV file of PCM, another rate, several
            channels, truncated, or no sample at all.
    """
    with _open(source, sample_rate, where) as file:
        width, count = file.getsampwidth(), file.getnframes()
        data = file.readframes(count)
    if len(data) != count * width:
        raise UserError(f"{where}: truncated: expected {count} samples, got {len(data) // width}")
    values = np.frombuffer(data, PCM[width]).astype(np.float64)
    return values / 128 - 1 if width == 1 else values / float(1 << (8 * width - 1))


def _open(source: str | Path | io.BytesIO, sample_rate: int, where: str | Path) -> wave.Wave_read:
    try:
        file = wave.open(str(source) if isinstance(source, Path) else source, "rb")  # noqa: SIM115
    except (wave.Error, EOFError) as error:
        reason = str(error) or "it ends in its header"
        raise UserError(f"{where}: expected a WAV file of PCM: {reason}") from None
    except OSError as error:
        raise UserError(f"{where}: {error.strerror}") from None
    problems = (
        (file.getnchannels() != 1, "one channel", file.getnchannels()),
        (file.getframerate() != sample_rate, f"{sample_rate} Hz", f"{file.getframerate()} Hz"),
        (file.getsampwidth() not in PCM, "8, 16 or 32 bits", f"{8 * file.getsampwidth()} bits"),
        (file.getnframes() < 1, "a sample at least", "none"),
    )
    for holds, expected, got in problems:
        if holds:
            file.close()
            raise UserError(f"{where}: expected {expected}, got {got}")
    return file


def encode(amplitudes: np.ndarray) -> np.ndarray:
    """Compand amplitudes to 256 levels by the mu law, (T,) uint8."""
    return mu_law_encode(torch.from_numpy(amplitudes), NUM_LEVELS).numpy().astype(np.uint8)


def wave_bytes(levels: np.ndarray, num_levels: int, sample_rate: int) -> bytes:
    """Return a WAV file of 16-bit PCM for levels (T,).

    Example:
        >>> data = wave_bytes(np.array([128, 255, 0]), 256, 8000)
        >>> read_wave(io.BytesIO(data), 8000, "example").round(3).tolist()
        [0.0, 1.0, -1.0]
    """
    amplitudes = mu_law_decode(torch.from_numpy(levels.astype(np.int64)), num_levels).numpy()
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(sample_rate)
        file.writeframes((amplitudes * 32767).round().astype("<i2").tobytes())
    return buffer.getvalue()


def rows(utterances: Sequence[Utterance], sound: Sound) -> SplitData:
    """Pad utterances to rows and their labels, see `Sound`.

    Example:
        >>> sound = Sound(8000, 3, 2, ("ann", "bob"), tuple("ab"))
        >>> data = rows([Utterance(np.array([7, 9], np.uint8), 1, (0, 1))], sound)
        >>> data.x.tolist(), data.labels.tolist()
        ([[7, 9, 0]], [[2, 1, 2, 0, 1]])
    """
    x = np.zeros((len(utterances), sound.max_length), np.uint8)
    labels = np.zeros((len(utterances), sound.label_width), np.int64)
    for row, one in enumerate(utterances):
        x[row, : len(one.levels)] = one.levels
        labels[row, :3] = len(one.levels), one.speaker, len(one.symbols)
        labels[row, 3 : 3 + len(one.symbols)] = one.symbols
    return SplitData(x, labels)
