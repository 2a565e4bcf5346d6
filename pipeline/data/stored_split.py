"""A split that stays in its shards: rows are read when they are asked for."""

from __future__ import annotations

from collections import OrderedDict
from pathlib import Path

import numpy as np

from pipeline.data import shard_reader
from pipeline.datasets.base import SplitData

KEPT = 2  # blocks in memory, since a batch may begin in one and end in the next


class StoredSplit:
    """Rows of a split that may be larger than memory; SplitData has one that is all in memory.

    Arguments:
        location: folder of the shards, or a URI as in `pipeline.core.storage`.
        split: train, valid or test.

    Attributes:
        read_transform: see `SplitData`.

    Raises:
        UserError: for a manifest that is missing or malformed.
        ValueError: for an unknown split.
    """

    def __init__(self, location: str | Path, split: str) -> None:
        self._reader = shard_reader.SplitReader(location, split)
        self._blocks = shard_reader.list_blocks(self._reader.info)
        self._starts = np.array([block.start for block in self._blocks])
        self._kept = OrderedDict[int, SplitData]()
        self.read_transform = self._reader.info.read_transform

    def __len__(self) -> int:
        """Return the number of rows."""
        return self._reader.info.rows

    def take(self, rows: np.ndarray) -> SplitData:
        """Read rows by their positions, in any order; quick where they are ascending.

        Raises:
            UserError: naming the shard that is missing or corrupt.
        """
        numbers = np.searchsorted(self._starts, rows, side="right") - 1
        x, labels = None, None
        for number in np.unique(numbers):
            here = numbers == number
            block, within = self._block(int(number)), rows[here] - self._starts[number]
            if x is None:
                x = np.empty((len(rows), *block.x.shape[1:]), block.x.dtype)
            x[here] = block.x[within]
            if block.labels is not None:
                if labels is None:
                    labels = np.empty((len(rows), *block.labels.shape[1:]), block.labels.dtype)
                labels[here] = block.labels[within]
        if x is None:
            raise ValueError("rows: expected at least one, got none")
        return SplitData(x, labels, self.read_transform)

    def _block(self, number: int) -> SplitData:
        if number not in self._kept:
            block = self._blocks[number]
            while len(self._kept) >= KEPT:
                self._kept.popitem(last=False)
            self._kept[number] = self._reader.read([(block.start, block.start + block.rows)])
        self._kept.move_to_end(number)
        return self._kept[number]


Split = SplitData | StoredSplit


def open_rows(location: str | Path, split: str) -> Split:
    """Open a split to score rows of it: in memory where a row needs the others, else stored.

    Those are sounds, which are batched by their lengths, and clips that are drawn of all digits.

    Raises:
        UserError: naming the shard that is missing or corrupt.
    """
    stored = StoredSplit(location, split)
    is_sound = shard_reader.read_manifest(location).sound is not None
    if is_sound or stored.read_transform == "moving":
        return shard_reader.read_split(location, split)
    return stored


def take(split: Split, rows: np.ndarray) -> SplitData:
    """Return rows of a split by their positions, as they are stored.

    Example:
        >>> take(SplitData(np.array([5, 6, 7])), np.array([2, 0])).x.tolist()
        [7, 5]
    """
    if isinstance(split, StoredSplit):
        return split.take(rows)
    labels = None if split.labels is None else split.labels[rows]
    return SplitData(split.x[rows], labels, split.read_transform)
