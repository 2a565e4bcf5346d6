"""What the rows of shards are: their shape, type, labels and range, and the hash of them all."""

import hashlib
import math
import tempfile
from collections.abc import Iterable

import numpy as np

from arcore.events import Event, Levels, is_table
from pipeline.core.errors import UserError
from pipeline.data.manifest import Manifest
from pipeline.datasets.base import Dataset, Sound, SplitData, level_type
from pipeline.datasets.read_transforms import ReadTransform, num_bins

ROW_GROUP = 2048
LabelLayout = tuple[tuple[int, ...], np.dtype]
LABELS_BYTES = 1 << 26  # in memory, of labels that wait to be hashed


def row_shape(kind: Manifest | Dataset) -> tuple[int, ...]:
    """The shape of a row: the event's, or the longest sound's."""
    if kind.sound is None:
        return kind.event.extents
    return kind.sound.max_length, *kind.event.step_shape


def row_format(
    event: Event, read_transform: ReadTransform | None, shape: tuple[int, ...]
) -> tuple[np.dtype, int]:
    """Element type and bytes of one row of a shape."""
    dtype = np.dtype("<f8" if is_table(event) else "<f4")
    if read_transform or isinstance(event, Levels):
        dtype = level_type(event.num_levels if isinstance(event, Levels) else 2)
    return dtype, math.prod(shape) * dtype.itemsize


def label_layout(kind: Manifest | Dataset) -> LabelLayout | None:
    """Shape and element type of a row's label, None without labels."""
    vector = None if kind.condition_size is None else (kind.condition_size,)
    if (shape := kind.condition_sequence or kind.condition_shape or vector) is not None:
        return shape, np.dtype("<f4")
    if kind.sound is not None:
        return (kind.sound.label_width,), np.dtype("<i8")
    return None if kind.num_classes is None else ((), np.dtype("<i8"))


def check_rows(data: SplitData, kind: Dataset, shape: tuple[int, ...], where: str) -> None:
    """Check shape, type and range of decoded rows and their labels."""
    event = kind.event
    dtype, _ = row_format(event, data.read_transform, shape)
    if data.x.dtype != dtype or data.x.shape[1:] != shape or len(data.x) == 0:
        raise UserError(
            f"{where}: expected rows of shape {shape} and dtype {dtype}, "
            f"got an array of shape {data.x.shape} and dtype {data.x.dtype}"
        )
    is_stored = isinstance(event, Levels) and data.read_transform is None
    if is_stored or data.read_transform == "dequantize":
        levels = event.num_levels if isinstance(event, Levels) else num_bins(event)
        uneven = event.uneven or () if isinstance(event, Levels) else ()
        columns = [(f" in column {c}", data.x[:, c], count) for c, count in enumerate(uneven)]
        for place, values, count in [("", data.x, levels), *columns]:
            if (high := int(values.max())) >= count:
                raise UserError(f"{where}: expected levels in [0, {count}){place}, got {high}")
    elif is_table(event):  # whose missing cells are NaN
        if np.isinf(data.x).any():
            raise UserError(f"{where}: expected finite values, got infinity")
    elif not isinstance(event, Levels) and not np.isfinite(data.x).all():
        raise UserError(f"{where}: expected finite values, got NaN or infinity")
    _check_labels(data, kind, where)


def _check_labels(data: SplitData, kind: Dataset, where: str) -> None:
    labels, layout = data.labels, label_layout(kind)
    if labels is None or layout is None:
        if (labels is None) != (layout is None):
            raise UserError(f"{where}: expected {layout} for a row's label, got {labels!r}")
        return
    shape, dtype = (len(data.x), *layout[0]), layout[1]
    if labels.shape != shape or labels.dtype != dtype:
        raise UserError(
            f"{where}: expected labels of shape {shape} and dtype {dtype}, got shape "
            f"{labels.shape} and dtype {labels.dtype}"
        )
    if kind.sound is not None:
        _check_sound_labels(labels, kind.sound, where)
    elif kind.num_classes is not None:
        _check_range("labels", labels, 0, kind.num_classes - 1, where)
    elif not np.isfinite(labels).all():
        raise UserError(f"{where}: expected finite conditions, got NaN or infinity")


def _check_range(name: str, values: np.ndarray, low: int, high: int, where: str) -> None:
    if values.size and not low <= values.min() <= values.max() <= high:
        raise UserError(
            f"{where}: expected {name} in [{low}, {high}], got values in "
            f"[{values.min()}, {values.max()}]"
        )


def _check_sound_labels(labels: np.ndarray, sound: Sound, where: str) -> None:
    length, speaker, count, symbols = labels[:, 0], labels[:, 1], labels[:, 2], labels[:, 3:]
    for name, values, low, high in (
        ("lengths", length, 1, sound.max_length),
        ("speakers", speaker, 0, len(sound.speakers) - 1),
        ("numbers of symbols", count, min(1, sound.max_symbols), sound.max_symbols),
        ("symbols", symbols, 0, max(len(sound.symbols) - 1, 0)),
    ):
        _check_range(name, values, low, high, where)


def content_sha256(blocks: Iterable[SplitData]) -> str:
    """Hash all rows, then all labels, of blocks that follow each other.

    Labels, which may be wide conditions, wait on disk if they are many.
    """
    digest = hashlib.sha256()
    with tempfile.SpooledTemporaryFile(max_size=LABELS_BYTES) as after:
        for block in blocks:
            digest.update(np.ascontiguousarray(block.x).reshape(-1).data)
            if block.labels is not None:
                little_endian = block.labels.dtype.newbyteorder("<")
                after.write(block.labels.astype(little_endian).tobytes())
        after.seek(0)
        while chunk := after.read(LABELS_BYTES):
            digest.update(chunk)
    return digest.hexdigest()
