"""The one reader of a split: its rows by their positions, from Parquet shards.

    data/shards/<dataset>/manifest.json
    data/shards/<dataset>/{train,valid,test}-00000-of-0000N.parquet

A shard has the column `x`, one fixed-size binary per row: the bytes of the C-ordered event, uint8
for discrete events, and for levels that become reals when read, else little-endian float32; and
`label` (int64; of sounds a list of them; where each frame of a clip comes with a vector, all their
numbers as a list of float32) if there are labels. Each shard is cut into row groups of `ROW_GROUP`
rows, the blocks that are read at a time. Nothing in a shard depends on the time or the machine, so
that the same input gives the same bytes.
"""

import hashlib
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from arcore.events import Event
from pipeline.core import storage
from pipeline.core.errors import SiteError
from pipeline.core.redaction import redacted
from pipeline.data.manifest import AGAIN, Shard, SplitInfo, read_manifest
from pipeline.data.shard_layout import ROW_GROUP, label_layout, row_format, row_shape
from pipeline.datasets.base import SplitData, joined
from pipeline.datasets.read_transforms import ReadTransform, draw

KEPT_BLOCKS = 2  # since a batch may begin in one block and end in the next
# Shards whose sum this process has checked: place, sum, size, time of change.
_verified: set[tuple[str, str, int | None, int | None]] = set()


class Block(NamedTuple):
    """A row group of a shard: rows [start, stop) of the split."""

    start: int
    stop: int
    shard: Shard
    group: int


class ShardReader:
    """Rows of a split by their positions: `reader[rows]`.

    Rows are read by row group when they are asked for, and the last two groups are kept; `hold`
    keeps rows in memory.

    Raises:
        ValueError: for an unknown split.
    """

    def __init__(self, location: str | Path, split: str) -> None:
        self.manifest = read_manifest(location)
        if split not in self.manifest.splits:
            expected = ", ".join(self.manifest.splits)
            raise ValueError(f"split: expected one of {expected}, got {split!r}")
        self.info = self.manifest.splits[split]
        self.split, self.location = split, location
        self.blocks = list_blocks(self.info)
        self._starts = np.array([block.start for block in self.blocks])
        self._filesystem, self._folder = storage.filesystem(location)
        self._recent = OrderedDict[int, SplitData]()
        self._held: SplitData | None = None
        self._begin = 0

    @property
    def read_transform(self) -> ReadTransform | None:
        """What is done to rows each time that they are read; see `SplitData`."""
        return self.info.read_transform

    def __len__(self) -> int:
        return self.info.rows

    def __getitem__(self, rows: np.ndarray) -> SplitData:
        """Return rows by their positions, in any order; quick where they are ascending."""
        if self._held is not None:
            return self._held[rows - self._begin]
        if len(rows) == 0:
            raise ValueError("rows: expected at least one, got none")
        numbers = np.searchsorted(self._starts, rows, side="right") - 1
        parts, places = [], []
        for number in np.unique(numbers):
            (here,) = np.nonzero(numbers == number)
            parts.append(self._block(int(number))[rows[here] - self._starts[number]])
            places.append(here)
        found = joined(parts)
        return found if len(parts) == 1 else found[np.concatenate(places).argsort()]

    def whole(self) -> SplitData:
        """Read all rows, and keep them."""
        if self._held is None or len(self._held) < len(self):
            return self.hold(0, len(self))
        return self._held

    def hold(self, begin: int, end: int) -> SplitData:
        """Keep rows [begin, end) in memory, the only ones that are read after."""
        self._held, self._begin = self.read([(begin, end)]), begin
        return self._held

    def read(self, ranges: Sequence[tuple[int, int]]) -> SplitData:
        """Read the rows of some ranges, one after the other; threads may do so at a time.

        Fast when ranges begin and end where blocks do.
        """
        shape = self.info.row_shape or row_shape(self.manifest)
        dtype, width = row_format(self.manifest.event, self.read_transform, shape)
        total = sum(stop - start for start, stop in ranges)
        x = np.empty((total, width), np.uint8)
        layout = label_layout(self.manifest)
        labels = None if layout is None else np.empty((total, *layout[0]), layout[1])
        filled = 0
        for block, first, last in self._pieces(ranges):
            rows, found = self._read_block(block)
            out = slice(filled, filled + last - first)
            x[out] = rows[first:last]
            if labels is not None:
                labels[out] = found[first:last].reshape(labels[out].shape)
            filled = out.stop
        return SplitData(x.view(dtype).reshape(total, *shape), labels, self.read_transform)

    def _pieces(self, ranges: Sequence[tuple[int, int]]) -> Iterator[tuple[Block, int, int]]:
        """Cut ranges where blocks end; the first row in each block, and the one after its last."""
        for start, stop in ranges:
            number = int(np.searchsorted(self._starts, start, side="right")) - 1
            while start < stop:
                block = self.blocks[number]
                end = min(stop, block.stop)
                yield block, start - block.start, end - block.start
                start, number = end, number + 1

    def _read_block(self, block: Block) -> tuple[np.ndarray, np.ndarray]:
        """Read the rows (n, width) of a block and their labels."""
        shard = block.shard
        path = f"{self._folder}/{shard.file}"
        where = redacted(storage.join(str(self.location), shard.file))
        try:
            with self._filesystem.open_input_file(path) as file:
                found = self._filesystem.get_file_info(path)
                _verify_sum(file, shard, where, (found.size, found.mtime_ns))
                with pq.ParquetFile(file) as parquet:
                    if parquet.metadata.num_rows != shard.rows:
                        raise pa.ArrowInvalid(
                            f"expected {shard.rows} rows, got {parquet.metadata.num_rows}"
                        )
                    return _row_group(parquet, block)
        except FileNotFoundError:
            raise SiteError(f"{where}: shard not found; {AGAIN}") from None
        except pa.ArrowMemoryError:
            raise
        except (pa.ArrowException, OSError, KeyError) as error:
            raise SiteError(f"{where}: corrupt shard: {str(error).splitlines()[0]}") from None

    def _block(self, number: int) -> SplitData:
        if number not in self._recent:
            while len(self._recent) >= KEPT_BLOCKS:
                self._recent.popitem(last=False)
            self._recent[number] = self.read([self.blocks[number][:2]])
        self._recent.move_to_end(number)
        return self._recent[number]


Split = SplitData | ShardReader


def draw_events(split: Split, stored: SplitData, rows: np.ndarray, event: Event) -> np.ndarray:
    """Turn rows of a split, stored as `split[rows]`, into events, (len(rows), *event.shape).

    What is drawn when read is the one fixed draw of validation and test, of epoch and seed 0.
    """
    pool = split.whole().x if split.read_transform == "moving" else None
    return draw(split.read_transform, stored.x, event, rows, 0, 0, pool)


def read_split(folder: str | Path, split: str) -> SplitData:
    """Read a split into memory."""
    return ShardReader(folder, split).whole()


def _verify_sum(
    file: pa.NativeFile, shard: Shard, where: str, stat: tuple[int | None, int | None]
) -> None:
    """Check the SHA-256 of an open file, unless this process did."""
    key = (where, shard.sha256, *stat)
    if key in _verified:
        return
    digest = hashlib.sha256()
    while len(chunk := file.read_buffer(storage.CHUNK)):
        digest.update(chunk)
    if digest.hexdigest() != shard.sha256:
        raise SiteError(
            f"{where}: corrupt shard: expected sha256 {shard.sha256}, got {digest.hexdigest()}; "
            f"{AGAIN}, or, if it is the copy in a shared storage, remove it"
        )
    file.seek(0)
    _verified.add(key)


def _row_group(parquet: pq.ParquetFile, block: Block) -> tuple[np.ndarray, np.ndarray]:
    """Return views of the rows of a block and of their labels."""
    rows = block.stop - block.start
    table = parquet.read_row_group(block.group, use_threads=False).combine_chunks()
    if table.num_rows != rows:
        raise pa.ArrowInvalid(f"expected a row group of {rows} rows, got {table.num_rows}")
    x = table.column("x").chunk(0)
    raw = np.frombuffer(x.buffers()[1], np.uint8).reshape(-1, x.type.byte_width)[x.offset :]
    labels = np.empty((rows, 0))
    if "label" in table.column_names:
        column = table.column("label").chunk(0)
        numbers = column.flatten() if pa.types.is_nested(column.type) else column
        labels = numbers.to_numpy().reshape(rows, -1)
    return raw, labels


def list_blocks(info: SplitInfo) -> list[Block]:
    """List the row groups of a split in row order, without opening a shard.

    Example:
        >>> shard = Shard("train-00000-of-00001.parquet", 5000, "0" * 64)
        >>> [block[:2] for block in list_blocks(SplitInfo(5000, "0" * 64, None, (shard,)))]
        [(0, 2048), (2048, 4096), (4096, 5000)]
    """
    blocks, position = list[Block](), 0
    for shard in info.shards:
        end = position + shard.rows
        blocks += [
            Block(low, min(low + ROW_GROUP, end), shard, group)
            for group, low in enumerate(range(position, end, ROW_GROUP))
        ]
        position = end
    return blocks
