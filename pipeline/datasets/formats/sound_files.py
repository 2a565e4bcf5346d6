"""Sounds as people have them: WAV, FLAC and Ogg files, of any rate and several channels."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pipeline.core.errors import UserError

SUFFIXES = (".wav", ".flac", ".ogg", ".oga", ".opus")
RATES = range(1000, 384_001)
LOUDEST = 1.5  # compressed music swings a little beyond 1; integers saved as reals, thousandfold
# libsndfile reads a truncated WAV file as a shorter one, and says so here alone.
_CUT = re.compile(r"^data : (\d+) \(should be (\d+)\)", re.MULTILINE)


@dataclass(frozen=True)
class Hearing:
    """How a file becomes samples.

    Arguments:
        sample_rate: that they have in the end.
        resample: files of another rate are resampled (scipy's polyphase filter); else refused.
        mix: several channels become their mean; else refused.
        max_seconds: of a file; longer ones are refused unread.
    """

    sample_rate: int
    resample: bool = False
    mix: bool = False
    max_seconds: int = 3600


def count_samples(path: Path, hearing: Hearing) -> int:
    """Return the number of samples that a file gives, from its header.

    Raises:
        UserError: for a file that is no such sound, of another rate, too long, or empty.
    """
    return _resampled_length(*_header(path, hearing), hearing.sample_rate)


def read_samples(path: Path, hearing: Hearing) -> np.ndarray:
    """Return amplitudes in [-1, 1], (T,) float64, T at least 1.

    Raises:
        UserError: as `count_samples`, if the file is truncated or damaged, or for reals that are
            no amplitudes.
    """
    import soundfile

    frames, rate = _header(path, hearing)
    try:
        channels = soundfile.read(path, dtype="float64", always_2d=True)[0]
    except (soundfile.SoundFileError, RuntimeError, OSError) as error:
        raise UserError(f"{path}: expected a sound, whole: {_reason(error)}") from None
    if len(channels) != frames:
        raise UserError(f"{path}: truncated: expected {frames} samples, got {len(channels)}")
    if not np.isfinite(channels).all():
        place, channel = np.argwhere(~np.isfinite(channels))[0]
        raise UserError(
            f"{path}: sample {place}: expected a finite number, got {channels[place, channel]}"
        )
    peak = float(np.abs(channels).max())
    if peak > LOUDEST:
        raise UserError(
            f"{path}: expected amplitudes in [-1, 1], got a peak of {peak:g}; divide them by what "
            "full scale is"
        )
    samples: np.ndarray = channels.mean(1)
    if rate != hearing.sample_rate:
        from scipy.signal import resample_poly  # here: most need it not

        common = math.gcd(rate, hearing.sample_rate)
        samples = resample_poly(samples, hearing.sample_rate // common, rate // common)
    return samples.clip(-1, 1)


def _header(path: Path, hearing: Hearing) -> tuple[int, int]:
    """Return the samples of a channel and their rate, checked."""
    import soundfile

    try:
        found = soundfile.info(path, verbose=True)
    except (soundfile.SoundFileError, RuntimeError, OSError) as error:
        raise UserError(f"{path}: expected a WAV, FLAC or Ogg file: {_reason(error)}") from None
    cut = _CUT.search(found.extra_info)
    if cut:
        raise UserError(f"{path}: truncated: expected {cut[1]} bytes of samples, got {cut[2]}")
    rate, wanted = found.samplerate, hearing.sample_rate
    wanted_rate = f"{wanted} Hz (or option resample)"
    problems = (
        (rate not in RATES, f"{RATES.start} to {RATES.stop - 1} Hz", f"{rate} Hz"),
        (found.channels > 1 and not hearing.mix, "one channel (or option mix)", found.channels),
        (rate != wanted and not hearing.resample, wanted_rate, f"{rate} Hz"),
        (found.frames < 1, "a sample at least", "none"),
    )
    for holds, expected, got in problems:
        if holds:
            raise UserError(f"{path}: expected {expected}, got {got}")
    if found.frames > hearing.max_seconds * rate:
        seconds = f"{found.frames / rate:.0f}"
        raise UserError(f"{path}: expected at most {hearing.max_seconds} seconds, got {seconds}")
    return found.frames, rate


def _resampled_length(frames: int, rate: int, wanted: int) -> int:
    """Samples that resampling gives.

    Example:
        >>> _resampled_length(11, 16000, 8000)
        6
    """
    common = math.gcd(rate, wanted)
    return -(-frames * (wanted // common) // (rate // common))


def _reason(error: BaseException) -> str:
    return " ".join(str(error).split()).rpartition(": ")[2] or type(error).__name__
