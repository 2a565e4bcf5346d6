"""What a worker trains on: its rows of a split, shuffled by (seed, epoch), in batches.

A split of at most `shuffle_rows` rows is held in memory by every worker and shuffled whole, so that
the batches do not depend on the number of workers. Of a larger split each worker reads its own part
alone. A part of at most `shuffle_rows` rows is held and shuffled whole; a larger one is streamed:
its blocks (row groups) are permuted and read window by window, of `shuffle_rows` rows at most; rows
are permuted within a window, and while one window is consumed the next is read.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Generator, Iterator
from pathlib import Path

import numpy as np
import torch

from arcore.model import AutoregressiveModel
from pipeline.core.errors import UserError
from pipeline.data.batches import Batch, BatchLoader
from pipeline.data.shard_reader import ShardReader
from pipeline.data.shuffling import (
    SHUFFLE_ROWS,
    HeldRows,
    Share,
    Window,
    cut_windows,
    part,
    permutation,
    read_ahead,
)
from pipeline.data.sound_loading import SoundLoader
from pipeline.datasets.base import SplitData
from pipeline.datasets.read_transforms import draw

log = logging.getLogger(__name__)

Ranges = list[tuple[int, int]]


def open_split(
    location: str | Path,
    split: str,
    model: AutoregressiveModel,
    *,
    rank: int = 0,
    world_size: int = 1,
    batch_size: int | None = None,
    seed: int = 0,
    window: int | None = None,
    shuffle_rows: int = SHUFFLE_ROWS,
    first_rows: int | None = None,
) -> BatchLoader:
    """Open one rank's part of a split, for a model.

    A row on its way from shard to batch: its row group is read and checked against the manifest
    (`shard_reader.ShardReader`), it waits in memory, is taken in the order that (seed, epoch)
    permutes (`shuffling`), becomes an event by the split's read transform (bits of gray levels,
    noisy reals, clips of digits), drawn by (seed, epoch, row), and is put into a `Batch` with what
    the model is conditioned on.

    Arguments:
        location: folder of the shards, or a URI as in `pipeline.core.storage`.
        split: train, valid or test.
        model: whose event says how rows are cut, and whose condition what goes with them.
        rank: of this worker, in [0, world_size).
        world_size: number of workers.
        batch_size: rows (windows of sounds) of a training batch over all ranks; None for a split
            that is read in order alone.
        seed: of the shuffle and of what is drawn when read.
        window: samples of a training window of sounds; without effect on other events.
        shuffle_rows: rows that are held in memory.
        first_rows: how many of the split's rows to use, the first ones; None for all.

    Raises:
        UserError: see `Loader` and `SoundLoader`; for `first_rows` of sounds.
    """
    if model.event.is_open:
        if first_rows is not None:
            raise UserError(f"trainer.train_rows: expected null for sounds, got {first_rows}")
        return SoundLoader(
            location, split, model=model, rank=rank, world_size=world_size, batch_size=batch_size,
            seed=seed, window=window, shuffle_rows=shuffle_rows,
        )  # fmt: skip
    return Loader(
        location, split, use_labels=model.condition_kind is not None, rank=rank,
        world_size=world_size, batch_size=batch_size, seed=seed, shuffle_rows=shuffle_rows,
        first_rows=first_rows,
    )  # fmt: skip


class Loader:
    """Batches of one rank's part of a split.

    All ranks take the same number of steps. Of a split of at most `shuffle_rows` rows, rank r of W
    takes every W-th row from the r-th of each batch of the shuffled split. Of a larger one it reads
    the rows [r N / W, (r + 1) N / W) of the split's N, its part, and no others; of its n shuffled
    rows it takes those from min(s B, N) n / N to min((s + 1) B, N) n / N at step s, for batches of
    B rows over all ranks. `sequential` reads the part in either case.

    Arguments:
        location, split, rank, world_size, batch_size, seed, shuffle_rows: as for `open_split`. Two
            windows of `shuffle_rows` rows are in memory at a time.
        use_labels: batches have the labels as their condition, if the split has any.
        first_rows: how many of the split's rows to use, the first ones as they are stored, which is
            for a split that is held in memory; None for all. A warning says so where these have
            not all its classes, since rows may be stored class by class.

    Attributes: see `pipeline.data.batches.BatchLoader`.

    Raises:
        UserError: naming what is wrong with the shards, or if a rank would have no row in a batch.
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
        self.reader = ShardReader(location, split)
        self.rows = all_rows = len(self.reader)
        if first_rows is not None:
            _check_first_rows(first_rows, all_rows, batch_size, shuffle_rows)
            self.rows = first_rows
        self._begin, self._end = part(self.rows, rank, world_size)
        fits = all_rows <= shuffle_rows
        is_moving = self.reader.read_transform == "moving"  # clips are made of digits of any row
        if is_moving and not fits:
            raise UserError(
                f"trainer.shuffle_rows: expected >= {all_rows}, the rows of the split, for clips "
                f"that are drawn out of all of them, got {shuffle_rows}"
            )
        whole = (batch_size is not None and fits) or is_moving
        self.partitioned_by_rank = not whole
        self._use_labels, self._shuffle_rows = use_labels, shuffle_rows
        self._share, self.steps_per_epoch = None, 0
        if batch_size is not None:
            self._share = Share(rank, world_size, batch_size, seed)
            count = self._share.whole_steps if whole else self._share.part_steps
            self.steps_per_epoch = count(self.rows)
        self._pool: np.ndarray | None = None
        self._is_held = whole or self._end - self._begin <= shuffle_rows
        if whole:
            held = self.reader.hold(0, all_rows)
            self._pool = held.x[: self.rows]
            if rank == 0 and self.reader.manifest.num_classes is not None:
                _warn_of_classes(held.labels, self.rows)
        elif self._is_held:
            self.reader.hold(self._begin, self._end)

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
        if self._share is None or not 0 <= first_step <= self.steps_per_epoch:
            size = None if self._share is None else self._share.batch_size
            raise ValueError(
                f"first_step: expected 0 <= first_step <= {self.steps_per_epoch} (steps of batches "
                f"of {size}), got {first_step}"
            )
        batches = self._part_batches if self.partitioned_by_rank else self._whole_batches
        return batches(self._share, epoch, first_step)

    def sequential(self, batch_size: int) -> Iterator[Batch]:
        """Iterate over this rank's rows in order, as validation does.

        What is drawn when read is drawn as of seed 0 and epoch 0. A part that is not held in memory
        is read block by block.

        Arguments:
            batch_size: rows of each batch but the last, of this rank alone.
        """
        if batch_size < 1:
            raise ValueError(f"batch_size: expected an integer >= 1, got {batch_size}")
        for first in range(self._begin, self._end, batch_size):
            rows = np.arange(first, min(first + batch_size, self._end))
            yield self._batch(self.reader[rows], rows, 0, 0, len(rows))

    def _whole_batches(self, share: Share, epoch: int, first_step: int) -> Iterator[Batch]:
        # motions of epoch 0 and seed 0 are those that validation and test have for good
        drawn = epoch + 1 if self.reader.read_transform == "moving" else epoch
        for rows, all_rows in share.whole_batches(self.rows, epoch, first_step):
            yield self._batch(self.reader[rows], rows, share.seed, drawn, all_rows)

    def _part_batches(self, share: Share, epoch: int, first_step: int) -> Iterator[Batch]:
        start = min(first_step * share.batch_size, self.rows)
        done = start * (self._end - self._begin) // self.rows
        steps = range(first_step, self.steps_per_epoch)
        counts = [share.part_counts(self.rows, step) for step in steps]
        with contextlib.closing(self._windows(share, epoch, done)) as windows:
            taken = cut_windows(windows, [by_rank[share.rank] for by_rank in counts])
            for by_rank, (stored, rows) in zip(counts, taken, strict=True):
                yield self._batch(stored, rows, share.seed, epoch, sum(by_rank))

    def _batch(
        self, stored: SplitData, rows: np.ndarray, seed: int, epoch: int, all_rows: int
    ) -> Batch:
        """Draw events from stored rows, which depends on each row alone."""
        event = self.reader.manifest.event
        x = draw(stored.read_transform, stored.x, event, rows, epoch, seed, self._pool)
        condition = None
        if self._use_labels and stored.labels is not None:
            condition = torch.from_numpy(stored.labels)
        return Batch(torch.from_numpy(x), condition, None, all_rows)

    def _windows(self, share: Share, epoch: int, done: int) -> Generator[Window, None, None]:
        """Yield the windows of an epoch without their first `done` rows."""
        words = (share.seed, epoch, share.rank)
        if self._is_held:
            order = self._begin + permutation(words, self._end - self._begin)
            yield Window(self.reader, order[done:])
            return
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
            order = rows[permutation((*words, number), len(rows))]
            return Window(HeldRows(self.reader.read(blocks), rows), order[skipped:])

        yield from read_ahead(read, plans)

    def _blocks(self) -> Ranges:
        """List this rank's rows by block; blocks at the part's ends are cut."""
        cut = [
            (max(start, self._begin), min(stop, self._end)) for start, stop in self.reader.blocks
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
