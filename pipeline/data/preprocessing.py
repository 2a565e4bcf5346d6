"""Preprocessing: a dataset's raw files into Parquet shards, written whole or not at all."""

import dataclasses
import hashlib
import math
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline import stage
from pipeline.artifacts import artifact
from pipeline.artifacts.writer import Work
from pipeline.core import paths
from pipeline.core.errors import UserError
from pipeline.data import fetching
from pipeline.data.manifest import Shard, SplitInfo, write_manifest
from pipeline.data.scalings import write_scalings
from pipeline.data.shard_layout import ROW_GROUP, check_rows, content_sha256, row_shape
from pipeline.datasets.base import Dataset, SplitData, SplitStream, joined
from pipeline.stage import Made


def preprocess(dataset: Dataset) -> Path:
    """Decode `data/raw/<dataset>` into `data/shards/<dataset>`."""
    folder = paths.shortened(paths.shards(dataset.name))

    def make(work: Work) -> Made[Path]:
        infos = _write(dataset, dataset.decode(fetching.verify_raw(dataset)), work.folder)
        rows = "/".join(str(info.rows) for info in infos.values())
        said = f"{dataset.name}: {rows} rows of {'/'.join(infos)} in {folder}"
        return Made(folder, said=[said])

    return stage.run(dataclasses.replace(artifact.shards(dataset.name), folder=folder), make)


def write(dataset: Dataset, splits: Mapping[str, SplitData | SplitStream], folder: Path) -> Path:
    """Write shards and manifest; `folder` appears, or is replaced, only when they are whole.

    Of a stream, the rows of a shard are in memory at a time. Leftovers of killed runs next to
    `folder` are removed.
    """

    def make(work: Work) -> Made[Path]:
        _write(dataset, splits, work.folder)
        return Made(folder)

    return stage.run(dataclasses.replace(artifact.shards(dataset.name), folder=folder), make)


def _write(
    dataset: Dataset, splits: Mapping[str, SplitData | SplitStream], folder: Path
) -> dict[str, SplitInfo]:
    infos = {split: write_split(folder, split, splits[split], dataset) for split in dataset.splits}
    write_manifest(dataset, infos, folder)
    write_scalings(splits["train"].scalings, folder)
    return infos


def write_split(
    folder: Path, split: str, data: SplitData | SplitStream, dataset: Dataset
) -> SplitInfo:
    """Write a split's shards into a folder; return what the manifest says of it."""
    stream = data if isinstance(data, SplitStream) else SplitStream(len(data), [data])
    rows_per_shard = dataset.options.rows_per_shard
    count = -(-stream.rows // rows_per_shard)
    where = f"{dataset.name}, split {split}"
    shards: list[Shard] = []

    def written() -> Iterator[SplitData]:
        parts = _checked(stream.parts, dataset, where)
        for number, data in enumerate(_cut(parts, rows_per_shard)):
            content = _to_parquet(data)
            name = f"{split}-{number:05d}-of-{count:05d}.parquet"
            (folder / name).write_bytes(content)
            shards.append(Shard(name, len(data), hashlib.sha256(content).hexdigest()))
            yield data

    digest = content_sha256(written())
    rows = sum(shard.rows for shard in shards)
    if rows != stream.rows:
        raise UserError(f"{where}: expected {stream.rows} rows, got {rows}")
    read_transform, stored = None, None
    if isinstance(data, SplitData):
        read_transform = data.read_transform
        stored = data.x.shape[1:] if read_transform == "moving" else None
    return SplitInfo(rows, digest, read_transform, tuple(shards), stored)


def _checked(parts: Iterable[SplitData], dataset: Dataset, where: str) -> Iterator[SplitData]:
    for data in parts:
        # digits that will move have a shape of their own
        is_moving = data.read_transform == "moving"
        check_rows(data, dataset, data.x.shape[1:] if is_moving else row_shape(dataset), where)
        yield data


def _cut(parts: Iterable[SplitData], rows: int) -> Iterator[SplitData]:
    """Cut parts that follow each other into pieces of `rows` rows, the last one excepted."""
    waiting: list[SplitData] = []
    filled = 0
    for data in parts:
        start = 0
        while start < len(data):
            piece = data[start : start + rows - filled]
            waiting.append(piece)
            start, filled = start + len(piece), filled + len(piece)
            if filled == rows:
                yield joined(waiting)
                waiting, filled = [], 0
    if waiting:
        yield joined(waiting)


def _to_parquet(data: SplitData) -> memoryview:
    """Encode in memory, so that a full disk is an ordinary OSError of one write."""
    count, labels = len(data), data.labels
    rows = np.ascontiguousarray(data.x).reshape(count, -1).view(np.uint8)
    row_type = pa.binary(rows.shape[1])
    columns = [pa.FixedSizeBinaryArray.from_buffers(row_type, count, [None, pa.py_buffer(rows)])]
    fields = [pa.field("x", row_type, nullable=False)]
    if labels is not None:
        column = pa.array(labels.reshape(-1))
        if labels.ndim > 1:
            column = pa.FixedSizeListArray.from_arrays(column, math.prod(labels.shape[1:]))
        columns.append(column)
        fields.append(pa.field("label", column.type, nullable=False))
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
