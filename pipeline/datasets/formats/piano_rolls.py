"""Piano rolls, bits (T, keys), as what can be played: a MIDI file, and a sound of plain tones."""

import io
import struct
from collections.abc import Iterator

import numpy as np
import soundfile

from pipeline.datasets.base import Sound

SAMPLE_RATE = 8000  # of what is heard
PARTIALS = (1.0, 0.4, 0.2)  # amplitudes of a tone's harmonics
ATTACK, DECAY, RELEASE = 0.01, 2.5, 0.08  # seconds to full, e-foldings a second, seconds to end
TICKS, VELOCITY = 480, 80  # of a step, of a key
MICROSECONDS = 1_000_000


def notes(roll: np.ndarray) -> Iterator[tuple[int, int, int]]:
    """Yield (key, first step, step after the last) of each run of ones of a key.

    A roll does not tell a key that is held from one that is struck again: both are one note.

    Example:
        >>> list(notes(np.array([[1, 0], [1, 1], [0, 1]])))
        [(0, 0, 2), (1, 1, 3)]
    """
    edges = np.diff(np.pad(roll.astype(np.int8), ((1, 1), (0, 0))), axis=0)
    for key in np.flatnonzero(roll.any(0)).tolist():
        first, end = np.flatnonzero(edges[:, key] > 0), np.flatnonzero(edges[:, key] < 0)
        yield from ((key, *one) for one in zip(first.tolist(), end.tolist(), strict=True))


def midi_bytes(roll: np.ndarray, sound: Sound) -> bytes:
    """Return a MIDI file of one track (format 0) for a roll; a step is a beat.

    Example:
        >>> sound = Sound(2, 4, 0, ("",), (), lowest_pitch=21)
        >>> midi_bytes(np.eye(2, 88), sound)[:4]
        b'MThd'
    """
    assert sound.lowest_pitch is not None
    changes = [
        (step, on, sound.lowest_pitch + key)
        for key, first, end in notes(roll)
        for step, on in ((first, True), (end, False))
    ]
    tempo = struct.pack(">I", MICROSECONDS // sound.sample_rate)[1:]
    track, now = bytearray(b"\x00\xff\x51\x03" + tempo), 0
    for step, on, pitch in sorted(changes):  # at a step, keys go up before others go down
        track += _variable_length((step - now) * TICKS)
        track += bytes([0x90 if on else 0x80, pitch, VELOCITY])
        now = step
    track += _variable_length((len(roll) - now) * TICKS) + b"\xff\x2f\x00"
    header = b"MThd" + struct.pack(">IHHH", 6, 0, 1, TICKS)
    return header + b"MTrk" + struct.pack(">I", len(track)) + bytes(track)


def _variable_length(number: int) -> bytes:
    groups = [number & 0x7F]
    while number := number >> 7:
        groups.append(0x80 | (number & 0x7F))
    return bytes(reversed(groups))


def wave_bytes(roll: np.ndarray, sound: Sound) -> bytes:
    """Return a WAV file of 16-bit PCM: each note a tone with harmonics that fades.

    Example:
        >>> sound = Sound(2, 4, 0, ("",), (), lowest_pitch=21)
        >>> data = wave_bytes(np.eye(4, 88, 40), sound)  # two seconds
        >>> soundfile.info(io.BytesIO(data)).frames
        16640
    """
    assert sound.lowest_pitch is not None
    release = int(RELEASE * SAMPLE_RATE)
    step = SAMPLE_RATE // sound.sample_rate
    heard = np.zeros(len(roll) * step + release)
    for key, first, end in notes(roll):
        time = np.arange((end - first) * step + release) / SAMPLE_RATE
        envelope = np.minimum(time / ATTACK, 1) * np.exp(-DECAY * time)
        envelope *= np.minimum((time[-1] - time) / RELEASE, 1)
        frequency = 440 * 2 ** ((sound.lowest_pitch + key - 69) / 12)
        for number, amplitude in enumerate(PARTIALS, 1):
            if number * frequency < SAMPLE_RATE / 2:
                tone = np.sin(2 * np.pi * number * frequency * time)
                heard[first * step : first * step + len(time)] += amplitude * envelope * tone
    samples = (heard / max(1e-9, np.abs(heard).max()) * 0.9 * 32767).round().astype("<i2")
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, SAMPLE_RATE, "PCM_16", format="WAV")
    return buffer.getvalue()
