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

from __future__ import annotations

import functools
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from arcore.events import Event
from pipeline.core import paths, storage
from pipeline.core.errors import SiteError
from pipeline.core.redaction import redacted
from pipeline.data.manifest import MANIFEST, Manifest, Shard, SplitInfo, read_manifest
from pipeline.data.parquet_rows import ShardFile
from pipeline.data.shard_layout import (
    ROW_GROUP,
    as_rows,
    check_rows,
    content_sha256,
    label_layout,
    row_format,
    row_shape,
)
from pipeline.datasets.base import SplitData, joined
from pipeline.datasets.read_transforms import ReadTransform, draw

KEPT_BLOCKS = 2  # since a batch may begin in one block and end in the next
_SHARED_PARTS = 4  # that readers of one process (trials of a search) have in common
# Splits whose content this process has compared: place, split, sums of the shards.
_same_content: set[tuple[str, ...]] = set()


class ShardReader:
    """Rows of a split by their positions: `reader[rows]`.

    Training, validation, evaluation, uses and codecs read rows here. Rows are read by row group
    when they are asked for, and the last two groups are kept; `hold` keeps rows in memory.

    Arguments:
        location: folder of the shards, or a URI as in `pipeline.core.storage`.
        split: train, valid, test or a further test.

    Raises:
        SiteError: for a manifest that is missing or malformed.
        ValueError: for an unknown split.

    Example:
        >>> import tempfile
        >>> from pipeline.data import preprocessing
        >>> from pipeline.datasets import catalog
        >>> digits, raw = catalog.get_dataset({"name": "digits"}), Path(tempfile.mkdtemp())
        >>> folder = preprocessing.write(digits, digits.decode(raw), raw / "shards")
        >>> test = ShardReader(folder, "test")
        >>> len(test), test[np.array([7, 3])].x.shape
        (360, (2, 1, 8, 8))
    """

    def __init__(self, location: str | Path, split: str) -> None:
        self.manifest = read_manifest(location)
        if split not in self.manifest.splits:
            expected = ", ".join(self.manifest.splits)
            raise ValueError(f"split: expected one of {expected}, got {split!r}")
        self.info = self.manifest.splits[split]
        self.split, self.location = split, location
        self.blocks = list_blocks(self.info)
        self._starts = np.array([start for start, _ in self.blocks])
        self._filesystem, self._folder = storage.filesystem(location)
        self._recent = OrderedDict[int, SplitData]()
        self._held: SplitData | None = None
        self._begin = 0

    @property
    def read_transform(self) -> ReadTransform | None:
        """What is done to rows each time that they are read; see `SplitData`."""
        return self.info.read_transform

    def __len__(self) -> int:
        """Return the number of rows."""
        return self.info.rows

    def __getitem__(self, rows: np.ndarray) -> SplitData:
        """Return rows by their positions, in any order; quick where they are ascending.

        Raises:
            SiteError: naming the shard that is missing or corrupt.
        """
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
            self._held, self._begin = _read_whole(self), 0
        return self._held

    def hold(self, begin: int, end: int) -> SplitData:
        """Keep rows [begin, end) in memory, the only ones that are read after.

        Readers of one process share them, so that they are read-only.
        """
        place, sha256 = str(self.location), self.manifest.sha256
        self._held, self._begin = _shared_rows(place, sha256, self.split, begin, end), begin
        return self._held

    def read(self, ranges: Sequence[tuple[int, int]]) -> SplitData:
        """Read the rows of some ranges, one after the other; threads may do so at a time.

        Fast when ranges are ascending and begin and end where blocks do: a shard is opened once
        for ranges that follow each other.

        Arguments:
            ranges: pairs (first row, the one after the last) of positions in the split.

        Returns:
            Rows (N, *event shape) and labels (N,), or None without labels, that nobody else holds.

        Raises:
            SiteError: naming the shard that is missing, corrupt, of another size, or out of range.
        """
        manifest, transform = self.manifest, self.read_transform
        shape = self.info.row_shape or row_shape(manifest)
        dtype, width = row_format(manifest.event, transform, shape)
        total = sum(stop - start for start, stop in ranges)
        x = np.empty((total, width), np.uint8)
        layout = label_layout(manifest)
        labels = None if layout is None else np.empty((total, *layout[0]), layout[1])
        whole, filled = SplitData(as_rows(x, shape, dtype), labels, transform), 0
        for shard, spans in _by_shard(self.info, ranges):
            file = ShardFile(
                shard, self._filesystem, self._folder, str(self.location), width, layout
            )
            for rows, numbers in file.read(spans):
                out = slice(filled, filled + len(rows))
                x[out] = rows
                if labels is not None:
                    labels[out] = numbers
                check_rows(whole[out], manifest, shape, file.where)
                filled = out.stop
        return whole

    def _block(self, number: int) -> SplitData:
        if number not in self._recent:
            while len(self._recent) >= KEPT_BLOCKS:
                self._recent.popitem(last=False)
            self._recent[number] = self.read([self.blocks[number]])
        self._recent.move_to_end(number)
        return self._recent[number]


Split = SplitData | ShardReader


def draw_events(
    split: Split,
    stored: SplitData,
    rows: np.ndarray,
    event: Event,
    epoch: int = 0,
    seed: int = 0,
) -> np.ndarray:
    """Turn stored rows of a split into events, (len(rows), *event.shape).

    Arguments:
        split: that has the rows.
        stored: the rows, as `split[rows]` gives them.
        rows: their positions.
        event: what a row becomes.
        epoch: of what is drawn when read, 0 for validation and test.
        seed: the same.
    """
    pool = split.whole().x if split.read_transform == "moving" else None
    return draw(split.read_transform, stored.x, event, rows, epoch, seed, pool)


def shards_folder(name: str) -> Path:
    """The folder of a dataset's shards, `data/shards/<dataset>`."""
    return paths.shortened(paths.shards(name))


@functools.lru_cache(maxsize=_SHARED_PARTS)
def _shared_rows(location: str, sha256: str, split: str, begin: int, end: int) -> SplitData:
    reader = ShardReader(location, split)
    whole = (begin, end) == (0, len(reader))
    found = _read_whole(reader) if whole else reader.read([(begin, end)])
    for array in (found.x, found.labels):
        if array is not None:
            array.flags.writeable = False
    return found


def read_split(folder: str | Path, split: str) -> SplitData:
    """Read a split into memory; the hash of its content is checked once a process.

    Raises:
        SiteError: naming the shard that is missing, corrupt, of another size, or out of range.
        ValueError: for an unknown split.
    """
    return _read_whole(ShardReader(folder, split))


def _read_whole(reader: ShardReader) -> SplitData:
    data = reader.read([(0, len(reader))])
    key = (str(reader.location), reader.split, *(shard.sha256 for shard in reader.info.shards))
    if key not in _same_content:
        _check_content(reader, content_sha256([data]))
        _same_content.add(key)
    return data


def verify(folder: str | Path) -> Manifest:
    """Check everything: files, sums, rows, ranges, the content hash.

    Returns:
        The manifest.

    Raises:
        SiteError: naming the file at fault.
    """
    manifest = read_manifest(folder)
    for split in manifest.splits:
        reader = ShardReader(folder, split)
        blocks = (reader.read([block]) for block in reader.blocks)
        _check_content(reader, content_sha256(blocks))
    return manifest


def _check_content(reader: ShardReader, got: str) -> None:
    """Check the rows of a whole split, which the dataset's own hash covers."""
    if got != reader.info.sha256:
        raise SiteError(
            f"{redacted(storage.join(reader.location, MANIFEST))}: content of split "
            f"{reader.split}: expected sha256 {reader.info.sha256}, got {got}"
        )


def list_blocks(info: SplitInfo) -> list[tuple[int, int]]:
    """List the row groups of a split in row order, without opening a shard.

    Example:
        >>> shard = Shard("train-00000-of-00001.parquet", 5000, "0" * 64)
        >>> list_blocks(SplitInfo(5000, "0" * 64, None, (shard,)))
        [(0, 2048), (2048, 4096), (4096, 5000)]
    """
    blocks, position = [], 0
    for shard in info.shards:
        end = position + shard.rows
        blocks += [(low, min(low + ROW_GROUP, end)) for low in range(position, end, ROW_GROUP)]
        position = end
    return blocks


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
