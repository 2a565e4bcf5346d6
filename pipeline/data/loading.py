"""What a worker trains on: its rows of a split, shuffled by (seed, epoch), in batches.

A split of at most `shuffle_rows` rows is held in memory by every worker and shuffled whole, so that
the batches do not depend on the number of workers. Of a larger split each worker reads its own part
alone. A part of at most `shuffle_rows` rows is held and shuffled whole; a larger one is streamed:
its blocks (row groups) are permuted and read window by window, of `shuffle_rows` rows at most; rows
are permuted within a window, and while one window is consumed the next is read.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import logging
from collections.abc import Generator, Iterator
from pathlib import Path

import numpy as np
import torch

from pipeline.core.errors import UserError
from pipeline.data import shard_reader
from pipeline.data.batches import Batch
from pipeline.data.windows import Cursor, Piece, Window, concatenate, permutation, read_ahead
from pipeline.datasets.base import SplitData

log = logging.getLogger(__name__)
SHUFFLE_ROWS = 1 << 18  # as an experiment's default has it
_CACHED_PARTS = 4

Ranges = list[tuple[int, int]]


class Loader:
    """Batches of one rank's part of a split.

    All ranks take the same number of steps. Of a split of at most `shuffle_rows` rows, rank r of W
    takes every W-th row from the r-th of each batch of the shuffled split. Of a larger one it reads
    the rows [r N / W, (r + 1) N / W) of the split's N, its part, and no others; of its n shuffled
    rows it takes those from min(s B, N) n / N to min((s + 1) B, N) n / N at step s, for batches of
    B rows over all ranks. `sequential` reads the part in either case.

    Arguments:
        location: folder of the shards, or a URI as in `pipeline.core.storage`.
        split: train, valid or test.
        rank: integer in [0, world_size).
        world_size: number of ranks W.
        batch_size: rows B of a batch of `epoch` over all ranks; None for a loader that is read by
            `sequential` alone.
        seed: of the shuffle and of what is drawn when read.
        shuffle_rows: rows of a split, or part, that is held in memory, and of a window of a larger
            part. Two windows are in memory at a time.
        use_labels: batches have the labels as their condition, if the split has any.
        first_rows: only so many of the split's rows, the first ones as they are stored, which is
            for a split that is held in memory; None for all. A warning says so where these have
            not all its classes, since rows may be stored class by class.

    Attributes:
        rows: rows of the split, or those of `first_rows`, over all ranks.
        events_per_row, mean_size: 1 and None, see `pipeline.data.sound_loading.SoundLoader`.
        shared_out: each rank goes through a part of its own, so that an epoch's order depends on
            their number.
        steps_per_epoch: batches of an epoch; the last may be short, and is left out if a rank
            would have no row of it. 0 without a batch size.

    Raises:
        UserError: naming what is amiss with the shards, or if a rank would have no row in a batch.
        ValueError: for an unknown split or a rank out of range.

    Example:
        >>> import tempfile
        >>> from pipeline.datasets import catalog
        >>> digits = catalog.get_dataset({"name": "digits"})
        >>> raw = Path(tempfile.mkdtemp())
        >>> from pipeline.data import preprocess
        >>> folder = preprocess.write(digits, digits.decode(raw), raw / "shards")
        >>> loader = Loader(folder, "train", batch_size=100)
        >>> loader.rows, loader.steps_per_epoch
        (1257, 13)
        >>> batch = next(loader.epoch(0))
        >>> batch.x.shape, batch.x.dtype, batch.condition, batch.rows
        (torch.Size([100, 1, 8, 8]), torch.uint8, None, 100)
    """

    events_per_row = 1.0
    mean_size: float | None = None

    def __init__(
        self,
        location: str | Path,
        split: str,
        *,
        rank: int = 0,
        world_size: int = 1,
        batch_size: int | None = None,
        seed: int = 0,
        shuffle_rows: int = SHUFFLE_ROWS,
        use_labels: bool = False,
        first_rows: int | None = None,
    ) -> None:
        if shuffle_rows < 1:
            raise UserError(f"shuffle_rows: expected an integer >= 1, got {shuffle_rows}")
        self._reader = shard_reader.SplitReader(location, split)
        self._read_transform = self._reader.info.read_transform
        self.rows = all_rows = self._reader.info.rows
        if first_rows is not None:
            _check_first_rows(first_rows, all_rows, batch_size, shuffle_rows)
            self.rows = first_rows
        self._begin, self._end = shard_reader.part(self.rows, rank, world_size)
        self._rank, self._world, self._seed = rank, world_size, seed
        self._batch_size, self._use_labels = batch_size, use_labels
        self._shuffle_rows = shuffle_rows
        fits = all_rows <= shuffle_rows
        pooled = self._read_transform == "moving"  # clips are made of digits of any row
        if pooled and not fits:
            raise UserError(
                f"trainer.shuffle_rows: expected >= {all_rows}, the rows of the split, for clips "
                f"that are drawn out of all of them, got {shuffle_rows}"
            )
        self._whole = (batch_size is not None and fits) or pooled
        self.shared_out = not self._whole
        self.steps_per_epoch = 0
        if batch_size is not None:
            count = count_steps_whole if self._whole else _count_steps
            self.steps_per_epoch = count(self.rows, batch_size, world_size)
        self._held: SplitData | None = None
        sha256 = self._reader.manifest.sha256
        if self._whole:
            whole = cached_part(str(location), sha256, split, 0, 1)
            self._held = _first(whole, self.rows)
            if rank == 0 and self._reader.manifest.num_classes is not None:
                _warn_of_classes(whole.labels, self.rows)
        elif self._end - self._begin <= shuffle_rows:
            self._held = cached_part(str(location), sha256, split, rank, world_size)

    def epoch(self, epoch: int, first_step: int = 0) -> Iterator[Batch]:
        """Iterate over the batches of an epoch, from a step on.

        Windows before `first_step` are not read. Close the iterator, or use it up, to end the
        thread that reads ahead.

        Arguments:
            epoch: integer >= 0.
            first_step: integer in [0, steps_per_epoch].

        Yields:
            This rank's rows of each batch.

        Raises:
            UserError: naming the shard that is missing or corrupt.
            ValueError: without a batch size, or for a step out of range.
        """
        if self._batch_size is None or not 0 <= first_step <= self.steps_per_epoch:
            raise ValueError(
                f"first_step: expected 0 <= first_step <= {self.steps_per_epoch} (steps of batches "
                f"of {self._batch_size}), got {first_step}"
            )
        batches = self._batches_whole if self._whole else self._batches
        return batches(epoch, first_step, self._batch_size)

    def sequential(self, batch_size: int) -> Iterator[Batch]:
        """Iterate over this rank's rows in order, as validation does.

        What is drawn when read is drawn as of seed 0 and epoch 0. A part that is not held in memory
        is read block by block.

        Arguments:
            batch_size: rows of each batch but the last, of this rank alone.

        """
        if batch_size < 1:
            raise ValueError(f"batch_size: expected an integer >= 1, got {batch_size}")
        total = self._end - self._begin
        with contextlib.closing(self._in_order()) as windows:
            cursor = Cursor(windows)
            for first in range(0, total, batch_size):
                rows = min(batch_size, total - first)
                yield self._batch(cursor.take(rows), 0, 0, rows)

    def _batches_whole(self, epoch: int, first_step: int, batch_size: int) -> Iterator[Batch]:
        order = permutation((self._seed, epoch), self.rows)
        assert self._held is not None, "a split that is shuffled whole is held"
        window = Window(self._held, np.arange(self.rows), order)
        # motions of epoch 0 and seed 0 are those that validation and test have for good
        drawn = epoch + 1 if self._read_transform == "moving" else epoch
        for step in range(first_step, self.steps_per_epoch):
            low, high = (min(s * batch_size, self.rows) for s in (step, step + 1))
            piece = window.take(slice(low + self._rank, high, self._world))
            yield self._batch([piece], self._seed, drawn, high - low)

    def _batches(self, epoch: int, first_step: int, batch_size: int) -> Iterator[Batch]:
        done = min(first_step * batch_size, self.rows) * (self._end - self._begin) // self.rows
        with contextlib.closing(self._shuffled(epoch, done)) as windows:
            cursor = Cursor(windows)
            for step in range(first_step, self.steps_per_epoch):
                counts = _rows_by_rank(self.rows, batch_size, self._world, step)
                pieces = cursor.take(counts[self._rank])
                yield self._batch(pieces, self._seed, epoch, sum(counts))

    def _batch(self, pieces: list[Piece], seed: int, epoch: int, all_rows: int) -> Batch:
        """Put pieces of windows together; draw from levels, which depends on the row alone."""
        x = concatenate([piece.x for piece in pieces])
        if self._read_transform:
            rows = concatenate([piece.rows for piece in pieces])
            pool = self._held.x if self._whole and self._held is not None else None
            event = self._reader.manifest.event
            x = shard_reader.draw(self._read_transform, x, event, rows, epoch, seed, pool)
        labels = [piece.labels for piece in pieces if piece.labels is not None]
        if not self._use_labels or not labels:
            return Batch(torch.from_numpy(x), None, None, all_rows)
        condition = torch.from_numpy(concatenate(labels))
        return Batch(torch.from_numpy(x), condition, None, all_rows)

    def _shuffled(self, epoch: int, done: int) -> Generator[Window, None, None]:
        """Yield the windows of an epoch without their first `done` rows."""
        if self._held is not None:
            rows = np.arange(self._begin, self._end)
            order = permutation((self._seed, epoch, self._rank), len(rows))
            yield Window(self._held, rows, order[done:])
            return
        words = (self._seed, epoch, self._rank)
        plans = []
        # Windows count from 1: to numpy, words that end in 0 are the words without it.
        for number, blocks in enumerate(self._permuted_windows(words), start=1):
            total = sum(stop - start for start, stop in blocks)
            if done < total:
                plans.append((number, sorted(blocks), done))
            done = max(done - total, 0)

        def read(plan: tuple[int, Ranges, int]) -> Window:
            number, blocks, skipped = plan
            rows = np.concatenate([np.arange(*block) for block in blocks])
            order = permutation((*words, number), len(rows))[skipped:]
            return Window(self._reader.read(blocks), rows, order)

        yield from read_ahead(read, plans)

    def _in_order(self) -> Generator[Window, None, None]:
        """Yield this rank's rows in order: at once if they are held, else block by block."""
        if self._held is not None:
            first = 0 if self._whole else self._begin
            rows = np.arange(self._begin, self._end)
            yield Window(self._held, np.arange(first, self._end), rows - first)
            return

        def read(block: tuple[int, int]) -> Window:
            rows = np.arange(*block)
            return Window(self._reader.read([block]), rows, rows - block[0])

        yield from read_ahead(read, self._blocks())

    def _blocks(self) -> Ranges:
        """List this rank's rows by block; blocks at the part's ends are cut."""
        blocks = shard_reader.list_blocks(self._reader.info)
        cut = [
            (max(block.start, self._begin), min(block.start + block.rows, self._end))
            for block in blocks
        ]
        return [(start, stop) for start, stop in cut if start < stop]

    def _permuted_windows(self, words: tuple[int, ...]) -> Iterator[Ranges]:
        """Permute blocks and yield them in windows of at most `shuffle_rows` rows, or one block."""
        blocks = self._blocks()
        window, rows = Ranges(), 0
        for number in permutation(words, len(blocks)):
            start, stop = blocks[number]
            if window and rows + stop - start > self._shuffle_rows:
                yield window
                window, rows = Ranges(), 0
            window.append((start, stop))
            rows += stop - start
        yield window


@functools.lru_cache(maxsize=_CACHED_PARTS)
def cached_part(location: str, sha256: str, split: str, rank: int, world_size: int) -> SplitData:
    """Read a part; loaders of one process (trials of a search) share it, so it is read-only."""
    read = shard_reader.read_split(location, split, rank=rank, world_size=world_size)
    for array in (read.x, read.labels):
        if array is not None:
            array.flags.writeable = False
    return read


def _rows_by_rank(rows: int, batch_size: int, world_size: int, step: int) -> list[int]:
    """Return how many rows each rank takes at a step.

    Example:
        >>> [_rows_by_rank(10, 4, 3, step) for step in range(3)]
        [[1, 1, 1], [1, 1, 2], [1, 1, 1]]
    """
    low, high = (min(s * batch_size, rows) for s in (step, step + 1))
    parts = (shard_reader.part(rows, rank, world_size) for rank in range(world_size))
    return [high * n // rows - low * n // rows for n in (end - begin for begin, end in parts)]


def count_steps_whole(rows: int, batch_size: int, world_size: int) -> int:
    """Batches of an epoch of a split that all ranks hold."""
    if batch_size < world_size or rows < world_size:
        raise _too_small(world_size, batch_size, rows)
    full, rest = divmod(rows, batch_size)
    return full + (rest >= world_size)


def _first(held: SplitData, rows: int) -> SplitData:
    if rows == len(held.x):
        return held
    labels = None if held.labels is None else held.labels[:rows]
    return dataclasses.replace(held, x=held.x[:rows], labels=labels)


def _warn_of_classes(labels: np.ndarray | None, rows: int) -> None:
    """Say how many classes of a split its first rows have none of, if any."""
    if labels is None or rows == len(labels):
        return
    every = np.unique(labels)
    absent = len(every) - len(np.unique(labels[:rows]))
    if absent:
        log.warning(
            "warning: trainer.train_rows: the first %s rows have none of %s of the %s classes",
            rows, absent, len(every),
        )  # fmt: skip


def _check_first_rows(
    first_rows: int, rows: int, batch_size: int | None, shuffle_rows: int
) -> None:
    if not 1 <= first_rows <= rows:
        raise UserError(
            f"trainer.train_rows: expected an integer in 1..{rows}, rows of the split, or null, "
            f"got {first_rows}"
        )
    if batch_size is None or rows > shuffle_rows:
        raise UserError(
            f"trainer.train_rows: expected null for a split of {rows} rows that is not shuffled "
            f"whole, got {first_rows}"
        )


def _too_small(least: int, batch_size: int, rows: int) -> UserError:
    return UserError(
        f"trainer.batch_size: expected >= {least} (workers) and rows for a batch, "
        f"got {batch_size} with {rows} rows"
    )


def _count_steps(rows: int, batch_size: int, world_size: int) -> int:
    """Batches of an epoch; the last may be short, but all have a row for each rank."""
    smallest_part = rows // world_size
    least = -(-rows // smallest_part) if smallest_part else world_size
    if smallest_part == 0 or batch_size < least:
        raise _too_small(least, batch_size, rows)
    full = rows // batch_size
    return full + (min(_rows_by_rank(rows, batch_size, world_size, full)) > 0)
