"""Parquet shards of a dataset and their manifest: verify, read by rank or by row group.

    data/shards/<dataset>/manifest.json
    data/shards/<dataset>/{train,valid,test}-00000-of-0000N.parquet

A shard has the column `x`, one fixed-size binary per row: the bytes of the C-ordered event, uint8
for discrete events, and for levels that become reals when read, else little-endian float32; and
`label` (int64; of sounds a list of them; where each frame of a clip comes with a vector, all their
numbers as a list of float32) if there are labels. Each shard is cut into row groups of `ROW_GROUP`
rows, the blocks that streaming reads. The folder is written beside its place and renamed when
whole. Nothing in it depends on the time or the machine, so that the same input gives the same
bytes.
"""

from __future__ import annotations

import hashlib
import logging
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow.fs import FileSystem

from pipeline.core import paths, storage
from pipeline.core.errors import SiteError
from pipeline.core.redaction import redacted
from pipeline.data import fetching
from pipeline.data.manifest import (
    MANIFEST,
    Manifest,
    Shard,
    SplitInfo,
    read_manifest,
)
from pipeline.data.row_format import (
    ROW_GROUP,
    as_rows,
    check_rows,
    content_sha256,
    label_layout,
    row_format,
    row_shape,
)
from pipeline.datasets.base import SplitData
from pipeline.datasets.read_transforms import draw, dynamic_binarize

__all__ = [
    "Block",
    "Manifest",
    "Shard",
    "SplitInfo",
    "SplitReader",
    "draw",
    "dynamic_binarize",
    "list_blocks",
    "part",
    "read_manifest",
    "read_split",
    "shards_folder",
    "verify",
]

logger = logging.getLogger(__name__)
# Shards whose sum this process has checked: place, path, sum, size, time of change.
_verified: set[tuple[str, str, str, int | None, int | None]] = set()
# Splits whose content it has compared: place, split, sums of the shards.
_same_content: set[tuple[str, ...]] = set()


@dataclass(frozen=True)
class Block:
    """A row group of a shard, the least that can be read.

    Arguments:
        shard: where it is.
        group: its number in the shard.
        start: position of its first row in the whole split.
        rows: number of its rows.
    """

    shard: Shard
    group: int
    start: int
    rows: int


def shards_folder(name: str) -> Path:
    """The folder of a dataset's shards, `data/shards/<dataset>`."""
    return fetching.shortened(paths.shards(name))


def read_split(folder: str | Path, split: str, rank: int = 0, world_size: int = 1) -> SplitData:
    """Read a split, or rank `rank`'s contiguous part: rows [rank N / W, (rank + 1) N / W).

    Only the shards and row groups that hold those rows are read. The SHA-256 of each shard that is
    touched is checked once a process, and that of the content where all of it is read.

    Arguments:
        folder: of the shards, or a URI as in `pipeline.core.storage`.
        split: train, valid, test or a further test.
        rank: integer in [0, world_size).
        world_size: number of ranks W, at least 1.

    Raises:
        SiteError: naming the shard that is missing, corrupt, of another size, or out of range.
        ValueError: for an unknown split or a rank out of range.
    """
    reader = SplitReader(folder, split)
    begin, end = part(reader.info.rows, rank, world_size)
    data = reader.read([(begin, end)])
    if world_size == 1:
        key = (str(folder), split, *(shard.sha256 for shard in reader.info.shards))
        if key not in _same_content:
            _check_content(reader.info, content_sha256([(data.x, data.labels)]), folder, split)
            _same_content.add(key)
    return data


def _check_content(info: SplitInfo, got: str, folder: str | Path, split: str) -> None:
    """Check the rows of a whole split, which the dataset's own hash covers."""
    if got != info.sha256:
        raise SiteError(
            f"{redacted(storage.join(folder, MANIFEST))}: content of split {split}: "
            f"expected sha256 {info.sha256}, got {got}"
        )


def part(rows: int, rank: int, world_size: int) -> tuple[int, int]:
    """Return the first row of a rank's contiguous part, and the one after its last.

    Example:
        >>> [part(10, rank, 3) for rank in range(3)]
        [(0, 3), (3, 6), (6, 10)]

    Raises:
        ValueError: for a rank out of range.
    """
    if not 0 <= rank < world_size:
        raise ValueError(f"rank: expected 0 <= rank < {world_size} (world_size), got {rank}")
    return rows * rank // world_size, rows * (rank + 1) // world_size


def list_blocks(info: SplitInfo) -> list[Block]:
    """List the row groups of a split in row order, without opening a shard.

    Example:
        >>> shard = Shard("train-00000-of-00001.parquet", 5000, "0" * 64)
        >>> [(b.start, b.rows) for b in list_blocks(SplitInfo(5000, "0" * 64, None, (shard,)))]
        [(0, 2048), (2048, 2048), (4096, 904)]
    """
    blocks, position = [], 0
    for shard in info.shards:
        for low in range(0, shard.rows, ROW_GROUP):
            rows = min(ROW_GROUP, shard.rows - low)
            blocks.append(Block(shard, low // ROW_GROUP, position + low, rows))
        position += shard.rows
    return blocks


class SplitReader:
    """Reads any rows of a split, row group by row group; it has no state, so threads may share it.

    Arguments:
        location: folder of the shards, or a URI as in `pipeline.core.storage`.
        split: train, valid, test or a further test.

    Raises:
        SiteError: for a manifest that is missing or malformed.
        ValueError: for an unknown split.
    """

    def __init__(self, location: str | Path, split: str) -> None:
        self.manifest = read_manifest(location)
        if split not in self.manifest.splits:
            expected = ", ".join(self.manifest.splits)
            raise ValueError(f"split: expected one of {expected}, got {split!r}")
        self.info = self.manifest.splits[split]
        self._location = location
        self._filesystem, self._path = storage.filesystem(location)

    def read(self, ranges: Sequence[tuple[int, int]]) -> SplitData:
        """Read the rows of some ranges, one after the other.

        Fast when ranges are ascending and begin and end where blocks do: a shard is opened once
        for ranges that follow each other.

        Arguments:
            ranges: pairs (first row, the one after the last) of positions in the split.

        Returns:
            Rows (N, *event shape) and labels (N,), or None without labels, that nobody else holds.

        Raises:
            SiteError: naming the shard that is missing, corrupt, of another size, or out of range.
        """
        manifest, info = self.manifest, self.info
        shape = info.row_shape or row_shape(manifest)
        dtype, width = row_format(manifest.event, info.read_transform, shape)
        total = sum(stop - start for start, stop in ranges)
        x = np.empty((total, width), np.uint8)
        layout = label_layout(manifest)
        labels = None if layout is None else np.empty((total, *layout[0]), layout[1])
        filled = 0
        for shard, spans in _by_shard(info, ranges):
            where = redacted(storage.join(self._location, shard.file))
            for rows, numbers in self._read_shard(shard, spans, width, where):
                out = slice(filled, filled + len(rows))
                x[out] = rows
                if labels is not None and numbers is not None:
                    labels[out] = numbers
                seen = SplitData(
                    as_rows(x[out], shape, dtype),
                    None if labels is None else labels[out],
                    info.read_transform,
                )
                check_rows(seen, manifest, shape, where)
                filled = out.stop
        return SplitData(as_rows(x, shape, dtype), labels, info.read_transform)

    def _read_shard(
        self, shard: Shard, spans: list[tuple[int, int]], width: int, where: str
    ) -> Iterator[tuple[np.ndarray, np.ndarray | None]]:
        """Yield pieces of a shard's rows (n, width) and labels that make up some spans of it."""
        layout = label_layout(self.manifest)
        path = f"{self._path}/{shard.file}"
        try:
            with self._filesystem.open_input_file(path) as file:
                _verify_sum(self._filesystem, path, file, shard, where)
                with pq.ParquetFile(file) as parquet:
                    _check_layout(parquet, shard, width, layout, where)
                    for low, high in spans:
                        yield from _read_rows(parquet, low, high, width, layout, where)
        except FileNotFoundError:
            raise SiteError(
                f"{where}: shard not found; run python -m stages.preprocess again"
            ) from None
        except (pa.ArrowException, OSError, KeyError) as error:
            raise SiteError(f"{where}: corrupt shard: {str(error).splitlines()[0]}") from None


def verify(folder: str | Path) -> Manifest:
    """Check everything: files, sums, rows, ranges, the content hash.

    Returns:
        The manifest.

    Raises:
        SiteError: naming the file at fault.
    """
    manifest = read_manifest(folder)
    for split, info in manifest.splits.items():
        reader = SplitReader(folder, split)
        blocks = (reader.read([(b.start, b.start + b.rows)]) for b in list_blocks(info))
        got = content_sha256((block.x, block.labels) for block in blocks)
        _check_content(info, got, folder, split)
    return manifest


def _by_shard(
    info: SplitInfo, ranges: Sequence[tuple[int, int]]
) -> Iterator[tuple[Shard, list[tuple[int, int]]]]:
    """Cut ranges of a split into spans of its shards; spans of one shard in a row go together."""
    starts = np.cumsum([0, *(shard.rows for shard in info.shards)])
    current, spans = -1, list[tuple[int, int]]()
    for start, stop in ranges:
        while start < stop:
            number = int(np.searchsorted(starts, start, side="right")) - 1
            if number != current and spans:
                yield info.shards[current], spans
                spans = []
            current = number
            first, end = int(starts[number]), min(stop, int(starts[number + 1]))
            spans.append((start - first, end - first))
            start = end
    if spans:
        yield info.shards[current], spans


def _verify_sum(
    filesystem: FileSystem, path: str, file: pa.NativeFile, shard: Shard, where: str
) -> None:
    """Check the SHA-256 of an open file in chunks, unless this process did."""
    found = filesystem.get_file_info(path)
    key = (where, path, shard.sha256, found.size, found.mtime_ns)
    if key in _verified:
        return
    digest = hashlib.sha256()
    while len(chunk := file.read_buffer(storage.CHUNK)):
        digest.update(chunk)
    if digest.hexdigest() != shard.sha256:
        raise SiteError(
            f"{where}: corrupt shard: expected sha256 {shard.sha256}, got {digest.hexdigest()}; "
            "run python -m stages.preprocess again, or, if it is the copy in a shared storage, "
            "remove it"
        )
    file.seek(0)
    _verified.add(key)


def _check_layout(
    parquet: pq.ParquetFile,
    shard: Shard,
    width: int,
    layout: tuple[tuple[int, ...], np.dtype] | None,
    where: str,
) -> None:
    got = parquet.metadata.num_rows
    if got != shard.rows:
        raise SiteError(f"{where}: expected {shard.rows} rows, got {got}")
    schema = parquet.schema_arrow
    if schema.field("x").type != pa.binary(width):
        raise SiteError(f"{where}: expected rows of {width} bytes, got {schema.field('x').type}")
    if layout is not None:
        shape, dtype = layout
        wanted = pa.from_numpy_dtype(dtype)
        if shape:
            wanted = pa.list_(wanted, math.prod(shape))
        got_type = schema.field("label").type if "label" in schema.names else "none"
        if got_type != wanted:
            raise SiteError(f"{where}: expected labels of type {wanted}, got {got_type}")


def _read_rows(
    parquet: pq.ParquetFile,
    low: int,
    high: int,
    width: int,
    layout: tuple[tuple[int, ...], np.dtype] | None,
    where: str,
) -> Iterator[tuple[np.ndarray, np.ndarray | None]]:
    """Yield views of rows [low, high) of a shard and of their labels, by row group."""
    position = 0
    for group in range(parquet.num_row_groups):
        rows = parquet.metadata.row_group(group).num_rows
        first, last = max(low - position, 0), min(high - position, rows)
        if first < last:
            table = parquet.read_row_group(group, use_threads=False).combine_chunks()
            for name in ("x", "label") if layout is not None else ("x",):
                if table.column(name).null_count:
                    raise SiteError(f"{where}: expected no nulls in column {name}, got some")
            column = table.column("x").chunk(0)
            raw = np.frombuffer(column.buffers()[1], np.uint8, rows * width, column.offset * width)
            labels = None
            if layout is not None:
                column_of_labels = table.column("label")
                if layout[0]:
                    column_of_labels = column_of_labels.chunk(0).flatten()
                    if column_of_labels.null_count:
                        raise SiteError(f"{where}: expected no nulls in column label, got some")
                labels = column_of_labels.to_numpy().reshape(rows, *layout[0])[first:last]
            yield raw.reshape(rows, width)[first:last], labels
        position += rows
