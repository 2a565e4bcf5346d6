"""Parquet shards of a dataset and their manifest: write, verify, read by rank.

    data/shards/<dataset>/manifest.json
    data/shards/<dataset>/{train,valid,test}-00000-of-0000N.parquet

A shard has the column `x`, one fixed-size binary per row: the bytes of the C-ordered event, uint8
for discrete events and little-endian float32 for real ones; and `label` (int64) if there are
labels. The folder is written beside its place and renamed when whole. Nothing in it depends on the
time or the machine, so that the same input gives the same bytes.
"""

from __future__ import annotations

import hashlib
import io
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from arcore.events import Event, Levels
from pipeline import fetching, paths
from pipeline.datasets.base import SPLITS, Dataset, SplitData
from pipeline.datasets.draws import dynamic_binarize
from pipeline.errors import UserError
from pipeline.files import replacing
from pipeline.manifest import (
    MANIFEST,
    Binarize,
    Manifest,
    Shard,
    SplitInfo,
    read_manifest,
    write_manifest,
)

__all__ = [
    "Manifest",
    "Shard",
    "Split",
    "SplitInfo",
    "dynamic_binarize",
    "preprocess",
    "read_manifest",
    "read_split",
    "shards_folder",
    "verify",
    "write",
]

ROW_GROUP = 2048

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Split:
    """Rows of a split, or one rank's contiguous part of them.

    Args:
        x: (N, *event shape), uint8 or float32.
        labels: (N,) int64, or None.
        binarize: "bernoulli" when `x` must pass through `dynamic_binarize`.
        start: position of the first row in the whole split.
    """

    x: np.ndarray
    labels: np.ndarray | None
    binarize: Binarize
    start: int = 0

    def __len__(self) -> int:
        return len(self.x)


def shards_folder(name: str) -> Path:
    """The folder of a dataset's shards, `data/shards/<dataset>`."""
    return fetching.shortened(paths.shards(name))


def preprocess(dataset: Dataset) -> Path:
    """Decode `data/raw/<dataset>` into `data/shards/<dataset>`.

    Raises:
        UserError: naming the raw file that is missing, truncated or altered.
    """
    raw = fetching.verify_raw(dataset)
    folder = write(dataset, dataset.decode(raw), shards_folder(dataset.name))
    manifest = read_manifest(folder)
    rows = "/".join(str(manifest.splits[split].rows) for split in SPLITS)
    logger.info("%s: %s rows of train/valid/test in %s", dataset.name, rows, folder)
    return folder


def write(dataset: Dataset, splits: Mapping[str, SplitData], folder: Path) -> Path:
    """Write shards and manifest; `folder` appears, or is replaced, only when they are whole.

    Args:
        dataset: describes the rows.
        splits: train, valid and test.
        folder: where they go; leftovers of killed runs beside it are removed.

    Raises:
        UserError: for rows that don't fit the dataset's event or classes.
    """
    with replacing(folder) as partial:
        infos = {}
        for split in SPLITS:
            data = splits[split]
            where = f"{dataset.name}, split {split}"
            _check_rows(data, dataset.event, dataset.num_classes, where)
            infos[split] = _write_split(partial, split, data, dataset.options.rows_per_shard)
        write_manifest(dataset, infos, partial)
    return folder


def read_split(
    folder: str | Path, split: str, verify: bool = True, rank: int = 0, world_size: int = 1
) -> Split:
    """Read a split, or rank `rank`'s contiguous part: rows [rank N / W, (rank + 1) N / W).

    Only the shards and row groups that hold those rows are read.

    Args:
        folder: of the shards.
        split: train, valid or test.
        verify: check the SHA-256 of each shard that is touched.
        rank: integer in [0, world_size).
        world_size: number of ranks W, at least 1.

    Raises:
        UserError: naming the shard that is missing, corrupt, of another size, or out of range.
        ValueError: for an unknown split or a rank out of range.
    """
    if split not in SPLITS:
        raise ValueError(f"split: expected one of {', '.join(SPLITS)}, got {split!r}")
    if not 0 <= rank < world_size:
        raise ValueError(f"rank: expected 0 <= rank < {world_size} (world_size), got {rank}")
    folder = Path(folder)
    manifest = read_manifest(folder)
    info = manifest.splits[split]
    begin, end = (info.rows * r // world_size for r in (rank, rank + 1))
    dtype, width = _row_format(manifest.event)
    x = np.empty((end - begin, width), np.uint8)
    labels = np.empty(end - begin, np.int64) if manifest.num_classes is not None else None
    position = 0
    for shard in info.shards:
        low, high = max(begin - position, 0), min(end - position, shard.rows)
        if low < high:
            rows = slice(position + low - begin, position + high - begin)
            part = None if labels is None else labels[rows]
            _read_shard(folder / shard.file, shard, verify, low, high, x[rows], part)
            data = SplitData(_as_events(x[rows], manifest.event, dtype), part, info.binarize)
            _check_rows(data, manifest.event, manifest.num_classes, str(folder / shard.file))
        position += shard.rows
    return Split(_as_events(x, manifest.event, dtype), labels, info.binarize, begin)


def verify(folder: str | Path) -> Manifest:
    """Check everything: files, sums, rows, ranges, the content hash.

    Returns:
        The manifest.

    Raises:
        UserError: naming the file at fault.
    """
    manifest = read_manifest(folder)
    for split, info in manifest.splits.items():
        read = read_split(folder, split)
        got = _content_sha256(read.x, read.labels)
        if got != info.sha256:
            raise UserError(
                f"{Path(folder) / MANIFEST}: content of split {split}: expected sha256 "
                f"{info.sha256}, got {got}"
            )
    return manifest


def _row_format(event: Event) -> tuple[np.dtype[Any], int]:
    """Element type and bytes of one row."""
    dtype = np.dtype(np.uint8 if isinstance(event, Levels) else "<f4")
    return dtype, event.size * dtype.itemsize


def _as_events(rows: np.ndarray, event: Event, dtype: np.dtype[Any]) -> np.ndarray:
    shape = [len(rows), *(n for n in event.shape if n is not None)]
    return rows.view(dtype).reshape(shape)


def _check_rows(data: SplitData, event: Event, num_classes: int | None, where: str) -> None:
    """Check shape, type and range of decoded rows and their labels."""
    dtype, _ = _row_format(event)
    if data.x.dtype != dtype or data.x.shape[1:] != event.shape or len(data.x) == 0:
        raise UserError(
            f"{where}: expected rows of shape {event.shape} and dtype {dtype}, "
            f"got an array of shape {data.x.shape} and dtype {data.x.dtype}"
        )
    if not isinstance(event, Levels):
        if not np.isfinite(data.x).all():
            raise UserError(f"{where}: expected finite values, got NaN or infinity")
    elif data.binarize is None and int(data.x.max()) >= event.num_levels:
        raise UserError(
            f"{where}: expected levels in [0, {event.num_levels}), got {int(data.x.max())}"
        )
    if (data.labels is None) != (num_classes is None):
        raise UserError(f"{where}: expected {num_classes} classes, got labels={data.labels!r}")
    if data.labels is not None and num_classes is not None:
        if data.labels.shape != (len(data.x),) or data.labels.dtype != np.int64:
            raise UserError(
                f"{where}: expected {len(data.x)} labels of dtype int64, got shape "
                f"{data.labels.shape} of dtype {data.labels.dtype}"
            )
        low, high = int(data.labels.min()), int(data.labels.max())
        if low < 0 or high >= num_classes:
            raise UserError(
                f"{where}: expected labels in [0, {num_classes}), got values in [{low}, {high}]"
            )


def _content_sha256(x: np.ndarray, labels: np.ndarray | None) -> str:
    digest = hashlib.sha256(np.ascontiguousarray(x).reshape(-1).data)
    if labels is not None:
        digest.update(labels.astype("<i8").tobytes())
    return digest.hexdigest()


def _write_split(folder: Path, split: str, data: SplitData, rows_per_shard: int) -> SplitInfo:
    count = -(-len(data.x) // rows_per_shard)
    shards = []
    for number in range(count):
        rows = slice(number * rows_per_shard, (number + 1) * rows_per_shard)
        content = _to_parquet(data.x[rows], None if data.labels is None else data.labels[rows])
        name = f"{split}-{number:05d}-of-{count:05d}.parquet"
        (folder / name).write_bytes(content)
        shards.append(Shard(name, len(data.x[rows]), hashlib.sha256(content).hexdigest()))
    content_sha256 = _content_sha256(data.x, data.labels)
    return SplitInfo(len(data.x), content_sha256, data.binarize, tuple(shards))


def _to_parquet(x: np.ndarray, labels: np.ndarray | None) -> memoryview:
    """Encode in memory, so that a full disk is an ordinary OSError of one write."""
    rows = np.ascontiguousarray(x).reshape(len(x), -1).view(np.uint8)
    row_type = pa.binary(rows.shape[1])
    columns = [pa.FixedSizeBinaryArray.from_buffers(row_type, len(x), [None, pa.py_buffer(rows)])]
    fields = [pa.field("x", row_type, nullable=False)]
    if labels is not None:
        columns.append(pa.array(labels, pa.int64()))
        fields.append(pa.field("label", pa.int64(), nullable=False))
    sink = pa.BufferOutputStream()
    pq.write_table(
        pa.Table.from_arrays(columns, schema=pa.schema(fields)),
        sink,
        row_group_size=ROW_GROUP,
        compression="zstd",
        use_dictionary=False,
        write_statistics=False,
    )
    return memoryview(sink.getvalue())


def _read_shard(
    path: Path,
    shard: Shard,
    verify: bool,
    low: int,
    high: int,
    x: np.ndarray,
    labels: np.ndarray | None,
) -> None:
    """Fill `x` (rows, bytes) and `labels` with rows [low, high) of a shard."""
    try:
        content = path.read_bytes() if verify else b""
        if verify:
            got = hashlib.sha256(content).hexdigest()
            if got != shard.sha256:
                raise UserError(
                    f"{path}: corrupt shard: expected sha256 {shard.sha256}, got {got}; "
                    f"run python -m stages.preprocess again"
                )
        with pq.ParquetFile(io.BytesIO(content) if verify else path) as parquet:
            _read_rows(path, parquet, shard, low, high, x, labels)
    except FileNotFoundError:
        raise UserError(f"{path}: shard not found; run python -m stages.preprocess again") from None
    except (pa.ArrowException, OSError, KeyError) as error:
        raise UserError(f"{path}: corrupt shard: {str(error).splitlines()[0]}") from None


def _read_rows(
    path: Path,
    parquet: pq.ParquetFile,
    shard: Shard,
    low: int,
    high: int,
    x: np.ndarray,
    labels: np.ndarray | None,
) -> None:
    width = x.shape[1]
    got = parquet.metadata.num_rows
    if got != shard.rows:
        raise UserError(f"{path}: expected {shard.rows} rows, got {got}")
    schema = parquet.schema_arrow
    if schema.field("x").type != pa.binary(width):
        raise UserError(f"{path}: expected rows of {width} bytes, got {schema.field('x').type}")
    position = 0
    for group in range(parquet.num_row_groups):
        rows = parquet.metadata.row_group(group).num_rows
        first, last = max(low - position, 0), min(high - position, rows)
        if first < last:
            out = slice(position + first - low, position + last - low)
            table = parquet.read_row_group(group).combine_chunks()
            column = table.column("x").chunk(0)
            raw = np.frombuffer(column.buffers()[1], np.uint8, rows * width, column.offset * width)
            x[out] = raw.reshape(rows, width)[first:last]
            if labels is not None:
                labels[out] = table.column("label").to_numpy()[first:last]
        position += rows
