"""Files as rows of levels, and back: PNG pictures, WAV sounds, Parquet rows.

What is kept is what a model models: pixels, samples and rows, with a picture's mode, a sound's rate
and rows' labels. Other things in a file (text chunks, colour profiles, how it was packed) are not.
"""

from __future__ import annotations

import io
import wave
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from pydantic import ValidationError

from arcore.coded_batches import LONGEST
from arcore.events import Levels
from arcore.primitives.companding import mu_law_encode
from pipeline.core.errors import UserError, one_line, require
from pipeline.datasets.formats import image_files, sound_files
from pipeline.datasets.formats.sound_files import Hearing
from pipeline.uses.coded_archive import RATES, FileEntry

MODES = {1: ("1", "L"), 3: ("RGB",)}
KINDS = {".png": "png", ".wav": "wav", ".parquet": "parquet"}


def read(path: Path, name: str, event: Levels, quantize: bool) -> tuple[FileEntry, np.ndarray]:
    """Read a file as rows of an event's levels, (rows, *extents).

    Arguments:
        path: of the file, whose suffix says its kind.
        name: that it is kept under.
        event: of the model.
        quantize: take a sound's nearest levels where its samples lie between levels.

    Raises:
        UserError: one line naming the file, what was expected and what came.
    """
    kind = KINDS.get(path.suffix.lower())
    require(kind is not None, str(path), f"one of {', '.join(KINDS)}", path.suffix)
    try:
        path.open("rb").close()
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from None
    check_kind(str(kind), event, str(path))
    try:
        if kind == "png":
            return _read_png(path, name, event)
        if kind == "wav":
            return _read_wav(path, name, event, quantize)
        return _read_parquet(path, name, event)
    except ValidationError as error:  # more than an archive can describe
        raise UserError(f"{path}: {one_line(error)}") from None


def write(entry: FileEntry, levels: np.ndarray, event: Levels, path: Path) -> None:
    """Write rows of levels as the file that they were read from."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if entry.kind == "png":
        _write_png(entry, levels[0], event, path)
    elif entry.kind == "wav":
        path.write_bytes(sound_files.wave_bytes(levels[0], event.num_levels, entry.rate))
    else:
        _write_parquet(entry, levels, path)


def check_kind(kind: str, event: Levels, where: str) -> None:
    """Check that files of a kind have rows of an event.

    Raises:
        UserError: naming `where`, if a model of other events is expected.
    """
    shape, few = event.shape, event.num_levels <= 256
    if kind == "png":
        colours = shape[0] if len(shape) == 3 else 1
        fits = len(shape) in (2, 3) and colours in MODES and not event.is_open and few
        expected = "one of gray or RGB pictures of at most 256 levels"
    elif kind == "wav":
        fits, expected = len(shape) == 1, "one of sounds (T,)"
    else:
        fits = not event.is_open and few
        expected = "one of events of one shape and at most 256 levels"
    require(fits, f"{where}: model", expected, event)


def _picture_values(event: Levels) -> np.ndarray:
    """The pixel values of k levels: themselves of 256, else spread evenly over [0, 255]."""
    spread = np.linspace(0, 255, event.num_levels)
    return np.rint(spread).astype(np.uint8)


def _read_png(path: Path, name: str, event: Levels) -> tuple[FileEntry, np.ndarray]:
    extents = event.extents
    channels, *size = extents if len(extents) == 3 else (1, *extents)
    try:
        with Image.open(path) as picture:
            frames, mode = getattr(picture, "n_frames", 1), picture.mode
            clear = "transparency" not in picture.info
            found, kind = (picture.height, picture.width), picture.format
            fits = kind == "PNG" and frames == 1 and mode in MODES[channels] and clear
            expected = f"an opaque PNG of mode {' or '.join(MODES[channels])}"
            more = f", {frames} frames" if frames > 1 else "" if clear else ", a colour transparent"
            require(fits, str(path), expected, f"{kind} of mode {mode}{more}")
            deep = image_files.is_of_16_bits(picture)
            require(not deep, str(path), "8 bits a channel", "16")
            require(found == tuple(size), str(path), f"{size[0]} x {size[1]} pixels", found)
            pixels = np.array(picture.convert("L") if mode == "1" else picture)
    except (
        UnidentifiedImageError,
        OSError,
        SyntaxError,
        ValueError,
        Image.DecompressionBombError,
    ) as error:
        raise UserError(f"{path}: not a readable PNG: {one_line(error)}") from None
    values = _picture_values(event)
    levels = np.searchsorted(values, pixels).clip(max=event.num_levels - 1)
    require(
        bool((values[levels] == pixels).all()),
        str(path),
        f"pixels of the {event.num_levels} levels {values[:3].tolist()}..., spread over [0, 255]",
        "others",
    )
    image = levels[None] if channels == 1 else levels.transpose(2, 0, 1)
    entry = FileEntry(name=name, kind="png", rows=1, extents=extents, mode=mode)
    return entry, image.reshape(1, *extents)


def _write_png(entry: FileEntry, levels: np.ndarray, event: Levels, path: Path) -> None:
    pixels = _picture_values(event)[levels]
    if pixels.ndim == 3:
        pixels = pixels[0] if len(pixels) == 1 else pixels.transpose(1, 2, 0)
    picture = Image.fromarray(np.ascontiguousarray(pixels))
    if entry.mode == "1":
        picture = picture.point(lambda value: value, "1")
    picture.save(path, "PNG", optimize=True)


def _read_wav(path: Path, name: str, event: Levels, quantize: bool) -> tuple[FileEntry, np.ndarray]:
    data = path.read_bytes()
    try:
        with wave.open(io.BytesIO(data), "rb") as file:
            rate, width = file.getframerate(), file.getsampwidth()
            samples = file.readframes(file.getnframes())
    except (wave.Error, EOFError) as error:
        reason = str(error) or "it ends in its header"
        raise UserError(f"{path}: expected a WAV file of PCM: {reason}") from None
    require(rate in RATES, str(path), "a rate in [1, 2^31) Hz", rate)
    amplitudes = sound_files.read_samples(io.BytesIO(data), Hearing(rate), path)
    count, length = len(amplitudes), event.shape[0]
    require(length in (None, count), str(path), f"{length} samples", count)
    require(count <= LONGEST, str(path), f"{LONGEST:,} samples at most", count)
    levels = mu_law_encode(torch.from_numpy(amplitudes), event.num_levels).numpy()
    again = sound_files.wave_bytes(levels, event.num_levels, rate)
    with wave.open(io.BytesIO(again), "rb") as file:
        exact = width == 2 and file.readframes(file.getnframes()) == samples
    expected = f"16-bit samples on the model's {event.num_levels} mu-law levels"
    if not exact and not quantize:
        raise UserError(f"{path}: expected {expected} (--quantize takes the nearest), got others")
    entry = FileEntry(name=name, kind="wav", rows=1, extents=(len(levels),), rate=rate)
    return entry, levels[None]


def _read_parquet(path: Path, name: str, event: Levels) -> tuple[FileEntry, np.ndarray]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(path)
    except (pa.ArrowException, OSError) as error:
        raise UserError(f"{path}: not a readable Parquet file: {one_line(error)}") from None
    known = {"x": pa.binary(event.size), "label": pa.int64()}
    found = {field.name: field.type for field in table.schema}
    fits = "x" in found and all(known.get(column) == kind for column, kind in found.items())
    expected = f"columns x of {event.size} bytes per row, and label of int64 or none"
    require(fits and table.num_rows > 0, str(path), f"rows with {expected}", str(found))
    nulls = sum(table[column].null_count for column in found)
    require(nulls == 0, str(path), "no missing values", nulls)
    levels = np.frombuffer(b"".join(table["x"].to_pylist()), np.uint8)
    high = int(levels.max())
    require(high < event.num_levels, str(path), f"levels in [0, {event.num_levels})", high)
    labels = tuple(table["label"].to_pylist()) if "label" in found else None
    entry = FileEntry(
        name=name, kind="parquet", rows=table.num_rows, extents=event.extents, labels=labels
    )
    return entry, levels.reshape(-1, *event.extents)


def _write_parquet(entry: FileEntry, levels: np.ndarray, path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = levels.astype(np.uint8).reshape(len(levels), -1)
    columns: dict[str, Any] = {
        "x": pa.array([row.tobytes() for row in rows], pa.binary(rows.shape[1]))
    }
    if entry.labels is not None:
        columns["label"] = pa.array(entry.labels, pa.int64())
    pq.write_table(pa.table(columns), path)
