"""Sounds as people have them, WAV, FLAC and Ogg, by soundfile; rows of sounds from utterances."""

import io
import math
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
import torch

from arcore.primitives.companding import mu_law_decode, mu_law_encode
from pipeline.core.errors import UserError, require
from pipeline.datasets.base import Sound, SplitData

NUM_LEVELS = 256
SUFFIXES = (".wav", ".flac", ".ogg", ".oga", ".opus")
MAX_SECONDS = 3600
LOUDEST = 1.5  # compressed music swings a little beyond 1; integers saved as reals, thousandfold
# libsndfile reads a truncated WAV file as a shorter one, and says so here alone.
_CUT = re.compile(r"^data : (\d+) \(should be (\d+)\)", re.MULTILINE)
Source = Path | io.BytesIO


@dataclass(frozen=True)
class Hearing:
    """How a file becomes samples.

    Arguments:
        sample_rate: that they have in the end.
        resample: files of another rate are resampled (scipy's polyphase filter); else refused.
        mix: several channels become their mean; else refused.
    """

    sample_rate: int
    resample: bool = False
    mix: bool = False


@dataclass(frozen=True)
class Utterance:
    """One sound: levels (T,) uint8, the number of its speaker, its symbols' numbers."""

    levels: np.ndarray
    speaker: int = 0
    symbols: tuple[int, ...] = ()


def count_samples(source: Source, hearing: Hearing, where: str | Path) -> int:
    """Return the number of samples that a file gives, from its header."""
    frames, rate = _header(source, hearing, where)
    common = math.gcd(rate, hearing.sample_rate)
    return -(-frames * (hearing.sample_rate // common) // (rate // common))


def read_samples(source: Source, hearing: Hearing, where: str | Path) -> np.ndarray:
    """Return amplitudes in [-1, 1], (T,) float64, T at least 1."""
    frames, rate = _header(source, hearing, where)
    with _explained(where):
        channels = soundfile.read(source, dtype="float64", always_2d=True)[0]
    require(len(channels) == frames, str(where), f"{frames} samples", len(channels))
    finite = bool(np.isfinite(channels).all())
    require(finite, str(where), "finite numbers", "NaN or infinity")
    peak = float(np.abs(channels).max())
    wanted = "amplitudes in [-1, 1] (divide them by what full scale is)"
    require(peak <= LOUDEST, str(where), wanted, f"a peak of {peak:g}")
    samples: np.ndarray = channels.mean(1)
    if rate != hearing.sample_rate:
        from scipy.signal import resample_poly  # here: most need it not

        common = math.gcd(rate, hearing.sample_rate)
        samples = resample_poly(samples, hearing.sample_rate // common, rate // common)
    return samples.clip(-1, 1)


def _header(source: Source, hearing: Hearing, where: str | Path) -> tuple[int, int]:
    """Return the samples of a channel and their rate, checked."""
    with _explained(where):
        found = soundfile.info(source, verbose=True)
    if isinstance(source, io.BytesIO):
        source.seek(0)
    cut = _CUT.search(found.extra_info)
    rate, wanted = found.samplerate, hearing.sample_rate
    checks = (
        (cut is None, "samples as many as the header says, whole", "a truncated file"),
        (found.channels == 1 or hearing.mix, "one channel (or option mix)", found.channels),
        (rate == wanted or hearing.resample, f"{wanted} Hz (or option resample)", rate),
        (found.frames > 0, "a sample at least", "none"),
        (found.frames <= MAX_SECONDS * rate, f"at most {MAX_SECONDS} seconds", found.frames / rate),
    )
    for holds, expected, got in checks:
        require(holds, str(where), expected, got)
    return found.frames, rate


@contextmanager
def _explained(where: str | Path) -> Iterator[None]:
    """Turn what soundfile raises for a damaged file into one line."""
    try:
        yield
    except (soundfile.SoundFileError, RuntimeError, OSError) as error:
        reason = " ".join(str(error).split()).rpartition(": ")[2]
        raise UserError(f"{where}: expected a WAV, FLAC or Ogg file, whole: {reason}") from None


def encode(amplitudes: np.ndarray) -> np.ndarray:
    """Compand amplitudes to 256 levels by the mu law, (T,) uint8."""
    return mu_law_encode(torch.from_numpy(amplitudes), NUM_LEVELS).numpy().astype(np.uint8)


def wave_bytes(levels: np.ndarray, num_levels: int, sample_rate: int) -> bytes:
    """Return a WAV file of 16-bit PCM for levels (T,).

    Example:
        >>> data = wave_bytes(np.array([128, 255, 0]), 256, 8000)
        >>> read_samples(io.BytesIO(data), Hearing(8000), "example").round(3).tolist()
        [0.0, 1.0, -1.0]
    """
    amplitudes = mu_law_decode(torch.from_numpy(levels.astype(np.int64)), num_levels).numpy()
    samples, buffer = (amplitudes * 32767).round().astype("<i2"), io.BytesIO()
    soundfile.write(buffer, samples, sample_rate, "PCM_16", format="WAV")
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
