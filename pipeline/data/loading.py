"""What a worker trains on: its rows of a split, shuffled by (seed, epoch), in batches.

A split of at most `shuffle_rows` rows is held in memory by every worker and shuffled whole, so that
the batches do not depend on the number of workers. Of a larger split each worker reads its own part
alone. A part of at most `shuffle_rows` rows is held and shuffled whole; a larger one is streamed:
its blocks (row groups) are permuted and read window by window, of `shuffle_rows` rows at most; rows
are permuted within a window, and while one window is consumed the next is read.
"""

import contextlib
import logging
from collections.abc import Generator, Iterator
from pathlib import Path

import numpy as np
import torch

from arcore.model import AutoregressiveModel
from pipeline.core.errors import UserError
from pipeline.data.batches import Batch
from pipeline.data.shard_reader import ShardReader
from pipeline.data.shuffling import (
    BatchPlan,
    Window,
    cut_windows,
    part,
    permutation,
    read_ahead,
)
from pipeline.data.sound_batches import SoundLoader
from pipeline.datasets.base import SplitData
from pipeline.datasets.read_transforms import draw

log = logging.getLogger(__name__)

Ranges = list[tuple[int, int]]


class Loader:
    """Batches of one rank's part of a split.

    All ranks take the same number of steps. Of a split of at most `shuffle_rows` rows, rank r of W
    takes every W-th row from the r-th of each batch of the shuffled split. Of a larger one it reads
    the rows [r N / W, (r + 1) N / W) of the split's N, its part, and no others; of its n shuffled
    rows it takes those from min(s B, N) n / N to min((s + 1) B, N) n / N at step s, for batches of
    B rows over all ranks. `sequential` reads the part in either case.

    With `use_labels`, batches have the labels as their condition, if the split has any.

    Attributes:
        rows: what an epoch counts over all ranks: rows of the split, or windows of sounds.
        events_per_row: events (rows of the split) for each of these.
        mean_size: mean dimensions of an event, None where the event's shape says it.
        partitioned_by_rank: each rank goes through a part of its own, so that an epoch's order
            depends on the number of ranks.
        steps_per_epoch: batches of an epoch, the same on all ranks; 0 without a batch size.

    Raises:
        ValueError: for an unknown split or a rank out of range.
    """

    events_per_row = 1.0
    mean_size: float | None = None

    def __init__(
        self,
        location: str | Path,
        split: str,
        plan: BatchPlan = BatchPlan(),  # noqa: B008, frozen
        *,
        use_labels: bool = False,
    ) -> None:
        if plan.shuffle_rows < 1:
            raise UserError(f"shuffle_rows: expected an integer >= 1, got {plan.shuffle_rows}")
        self._plan, self._use_labels = plan, use_labels
        self.reader = ShardReader(location, split)
        self.rows = all_rows = len(self.reader)
        if plan.first_rows is not None:
            self.rows = _checked_first_rows(plan, all_rows)
        self._begin, self._end = part(self.rows, plan.rank, plan.world_size)
        fits = all_rows <= plan.shuffle_rows
        is_moving = self.reader.read_transform == "moving"  # clips are made of digits of any row
        if is_moving and not fits:
            raise UserError(
                f"trainer.shuffle_rows: expected >= {all_rows}, the rows of the split, for clips "
                f"that are drawn out of all of them, got {plan.shuffle_rows}"
            )
        whole = (plan.batch_size is not None and fits) or is_moving
        self.partitioned_by_rank = not whole
        self.steps_per_epoch = plan.steps(self.rows, whole)
        self._pool: np.ndarray | None = None
        self._is_held = whole or self._end - self._begin <= plan.shuffle_rows
        if whole:
            held = self.reader.hold(0, all_rows)
            self._pool = held.x[: self.rows]
            if plan.rank == 0 and self.reader.manifest.num_classes is not None:
                _warn_of_classes(held.labels, self.rows)
        elif self._is_held:
            self.reader.hold(self._begin, self._end)

    def epoch(self, epoch: int, first_step: int = 0) -> Iterator[Batch]:
        """Iterate over this rank's rows of the batches of an epoch, from a step on.

        Windows before `first_step` are not read. Close the iterator, or use it up, to end the
        thread that reads ahead.
        """
        size = self._plan.batch_size
        if size is None or not 0 <= first_step <= self.steps_per_epoch:
            raise ValueError(
                f"first_step: expected 0 <= first_step <= {self.steps_per_epoch} (steps of batches "
                f"of {size}), got {first_step}"
            )
        batches = self._part_batches if self.partitioned_by_rank else self._whole_batches
        return batches(epoch, first_step)

    def sequential(self, batch_size: int) -> Iterator[Batch]:
        """Iterate over this rank's rows in order, as validation does.

        What is drawn when read is drawn as of seed 0 and epoch 0. A part that is not held in memory
        is read block by block.
        """
        if batch_size < 1:
            raise ValueError(f"batch_size: expected an integer >= 1, got {batch_size}")
        for first in range(self._begin, self._end, batch_size):
            rows = np.arange(first, min(first + batch_size, self._end))
            yield self._batch(self.reader[rows], rows, 0, 0, len(rows))

    def _whole_batches(self, epoch: int, first_step: int) -> Iterator[Batch]:
        # motions of epoch 0 and seed 0 are those that validation and test have for good
        drawn = epoch + 1 if self.reader.read_transform == "moving" else epoch
        for rows, all_rows in self._plan.whole_batches(self.rows, epoch, first_step):
            yield self._batch(self.reader[rows], rows, self._plan.seed, drawn, all_rows)

    def _part_batches(self, epoch: int, first_step: int) -> Iterator[Batch]:
        start, _ = self._plan.span(self.rows, first_step)
        done = start * (self._end - self._begin) // self.rows
        steps = range(first_step, self.steps_per_epoch)
        counts = [self._plan.part_counts(self.rows, step) for step in steps]
        with contextlib.closing(self._windows(epoch, done)) as windows:
            taken = cut_windows(windows, [by_rank[self._plan.rank] for by_rank in counts])
            for by_rank, (stored, rows) in zip(counts, taken, strict=True):
                yield self._batch(stored, rows, self._plan.seed, epoch, sum(by_rank))

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

    def _windows(self, epoch: int, done: int) -> Generator[Window, None, None]:
        """Yield the windows of an epoch without their first `done` rows."""
        words = (self._plan.seed, epoch, self._plan.rank)
        if self._is_held:
            order = (self._begin + permutation(words, self._end - self._begin))[done:]
            yield Window(self.reader, order, order)
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
            places = permutation((*words, number), len(rows))[skipped:]
            return Window(self.reader.read(blocks), places, rows[places])

        yield from read_ahead(read, plans)

    def _permuted_windows(self, words: tuple[int, ...]) -> Iterator[Ranges]:
        """Permute blocks and yield them in windows of at most `shuffle_rows` rows, or one block.

        Blocks at the ends of this rank's part are cut.
        """
        cut = [
            (max(block.start, self._begin), min(block.stop, self._end))
            for block in self.reader.blocks
        ]
        blocks = [(start, stop) for start, stop in cut if start < stop]
        window, rows = Ranges(), 0
        for number in permutation(words, len(blocks)):
            start, stop = blocks[number]
            if window and rows + stop - start > self._plan.shuffle_rows:
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


def _checked_first_rows(plan: BatchPlan, rows: int) -> int:
    """Return how many of a split's rows are read, unless there are fewer, or too many to hold."""
    first_rows = plan.first_rows
    if first_rows is None or not 1 <= first_rows <= rows:
        raise UserError(
            f"trainer.train_rows: expected an integer in 1..{rows}, rows of the split, or null, "
            f"got {first_rows}"
        )
    if plan.batch_size is None or rows > plan.shuffle_rows:
        raise UserError(
            f"trainer.train_rows: expected null for a split of {rows} rows that is not shuffled "
            f"whole, got {first_rows}"
        )
    return first_rows


def open_split(
    location: str | Path, split: str, model: AutoregressiveModel, plan: BatchPlan
) -> Loader | SoundLoader:
    """Open one rank's part of a split, for a model."""
    if model.event.is_open:
        if plan.first_rows is not None:
            raise UserError(f"trainer.train_rows: expected null for sounds, got {plan.first_rows}")
        return SoundLoader(location, split, model, plan)
    return Loader(location, split, plan, use_labels=model.condition_kind is not None)
