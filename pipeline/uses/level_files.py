"""Files as levels of one event, and back: PNG pictures and WAV sounds.

What is kept is what a model models: pixels with a picture's mode, samples with a sound's rate.
Other things in a file (text chunks, colour profiles, how it was packed) are not.
"""

import io
import wave
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from arcore.coded_batches import LONGEST
from arcore.events import Levels
from arcore.primitives.companding import mu_law_encode
from pipeline.core.errors import UserError, explained, require, require_no_pipe
from pipeline.datasets.formats import image_files, sound_files
from pipeline.datasets.formats.sound_files import Hearing
from pipeline.uses.coded_archive import FileEntry

MODES = {1: ("1", "L"), 3: ("RGB",)}
KINDS = {".png": "png", ".wav": "wav"}


def read(path: Path, name: str, event: Levels, quantize: bool) -> tuple[FileEntry, np.ndarray]:
    """Read a file as the levels of an event, to be kept under a name."""
    kind = KINDS.get(path.suffix.lower())
    require(kind is not None, str(path), f"one of {', '.join(KINDS)}", path.suffix)
    check_kind(str(kind), event, str(path))
    require_no_pipe(path)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from None
    if kind == "png":
        return _read_png(data, path, name, event)
    return _read_wav(data, path, name, event, quantize)


def write(entry: FileEntry, levels: np.ndarray, event: Levels, path: Path) -> None:
    """Write levels as the file that they were read from."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if entry.kind == "wav":
        path.write_bytes(sound_files.wave_bytes(levels, event.num_levels, entry.rate))
        return
    pixels = _picture_values(event)[levels]
    if pixels.ndim == 3:
        pixels = pixels[0] if len(pixels) == 1 else pixels.transpose(1, 2, 0)
    picture = Image.fromarray(np.ascontiguousarray(pixels))
    if entry.mode == "1":
        picture = picture.point(lambda value: value, "1")
    picture.save(path, "PNG", optimize=True)


def check_kind(kind: str, event: Levels, where: str) -> None:
    """Refuse a model of other events than files of a kind hold."""
    shape = event.shape
    if kind == "png":
        colours = shape[0] if len(shape) == 3 else 1
        fits = len(shape) in (2, 3) and colours in MODES and event.num_levels <= 256
        fits = fits and not event.is_open
        expected = "one of gray or RGB pictures of at most 256 levels"
    else:
        fits, expected = len(shape) == 1, "one of sounds (T,)"
    require(fits, f"{where}: model", expected, event)


def _picture_values(event: Levels) -> np.ndarray:
    """Spread k levels evenly over [0, 255], as pixel values."""
    return np.rint(np.linspace(0, 255, event.num_levels)).astype(np.uint8)


def _read_png(data: bytes, path: Path, name: str, event: Levels) -> tuple[FileEntry, np.ndarray]:
    extents = event.extents
    channels, *size = extents if len(extents) == 3 else (1, *extents)
    flaws = (OSError, SyntaxError, ValueError, Image.DecompressionBombError)
    with explained(f"{path}: not a readable PNG:", *flaws):
        with Image.open(io.BytesIO(data)) as picture:
            _check_picture(picture, MODES[channels], tuple(size), path)
            mode = picture.mode
            pixels = np.array(picture.convert("L") if mode == "1" else picture)
    values = _picture_values(event)
    levels = np.searchsorted(values, pixels).clip(max=event.num_levels - 1)
    expected = f"pixels of the {event.num_levels} levels {values[:3].tolist()}..., over [0, 255]"
    require(bool((values[levels] == pixels).all()), str(path), expected, "others")
    image = levels[None] if channels == 1 else levels.transpose(2, 0, 1)
    return FileEntry(name=name, kind="png", extents=extents, mode=mode), image.reshape(extents)


def _check_picture(
    picture: Image.Image, modes: tuple[str, ...], size: tuple[int, ...], path: Path
) -> None:
    frames, is_clear = getattr(picture, "n_frames", 1), "transparency" not in picture.info
    fits = picture.format == "PNG" and frames == 1 and picture.mode in modes and is_clear
    got = f"{picture.format} of mode {picture.mode}"
    got += f", {frames} frames" if frames > 1 else "" if is_clear else ", a colour transparent"
    require(fits, str(path), f"an opaque PNG of mode {' or '.join(modes)}", got)
    require(not image_files.is_of_16_bits(picture), str(path), "8 bits a channel", "16")
    found = (picture.height, picture.width)
    require(found == size, str(path), f"{size[0]} x {size[1]} pixels", found)


def _read_wav(
    data: bytes, path: Path, name: str, event: Levels, quantize: bool
) -> tuple[FileEntry, np.ndarray]:
    rate, width = _header_of(data, path)
    amplitudes = sound_files.read_samples(io.BytesIO(data), Hearing(rate), path)
    count, length = len(amplitudes), event.shape[0]
    require(length in (None, count), str(path), f"{length} samples", count)
    require(count <= LONGEST, str(path), f"{LONGEST:,} samples at most", count)
    levels = mu_law_encode(torch.from_numpy(amplitudes), event.num_levels).numpy()
    again = sound_files.wave_bytes(levels, event.num_levels, rate)
    is_exact = width == 2 and np.array_equal(
        sound_files.read_samples(io.BytesIO(again), Hearing(rate), path), amplitudes
    )
    if not is_exact and not quantize:
        expected = f"16-bit samples on the model's {event.num_levels} mu-law levels"
        raise UserError(f"{path}: expected {expected} (--quantize takes the nearest), got others")
    return FileEntry(name=name, kind="wav", extents=(count,), rate=rate), levels


def _header_of(data: bytes, path: Path) -> tuple[int, int]:
    """Return the rate of a WAV file and the bytes of a sample."""
    try:
        with wave.open(io.BytesIO(data), "rb") as file:
            rate, width = file.getframerate(), file.getsampwidth()
    except (wave.Error, EOFError) as error:
        reason = str(error) or "it ends in its header"
        raise UserError(f"{path}: expected a WAV file of PCM: {reason}") from None
    require(0 < rate < 1 << 31, str(path), "a rate in [1, 2^31) Hz", rate)
    return rate, width
