"""Which rows each rank takes at each step of an epoch, in which order: functions of the seed."""

from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from pipeline.core.errors import UserError
from pipeline.data.shard_reader import Split
from pipeline.datasets.base import SplitData, joined

SHUFFLE_ROWS = 1 << 18  # rows in memory, as an experiment's default has it
Task = TypeVar("Task")


@dataclass(frozen=True)
class Window:
    """Rows that are shuffled together.

    Arguments:
        rows: where they are read.
        places: in `rows`, in the order in which rows are taken.
        order: their positions in the split, in the same order.
    """

    rows: Split
    places: np.ndarray
    order: np.ndarray


@dataclass(frozen=True, kw_only=True)
class BatchPlan:
    """Which rows of a split one rank takes, and in which batches.

    Arguments:
        batch_size: rows (windows of sounds) of a training batch over all ranks; None for a split
            that is read in order alone.
        seed: of the shuffle and of what is drawn when read.
        window: samples of a training window of sounds; without effect on other events.
        transpose: keys by which a training window of a piano roll is moved at most.
        shuffle_rows: rows that are held in memory.
        first_rows: only the first rows of the split, this many; None for all.
    """

    rank: int = 0
    world_size: int = 1
    batch_size: int | None = None
    seed: int = 0
    window: int | None = None
    transpose: int = 0
    shuffle_rows: int = SHUFFLE_ROWS
    first_rows: int | None = None

    def steps(self, rows: int, is_whole: bool) -> int:
        """Count an epoch's batches, 0 without a batch size; `is_whole` if ranks hold all rows."""
        if self.batch_size is None:
            return 0
        workers, smallest_part = self.world_size, rows // self.world_size
        least = workers if is_whole or not smallest_part else -(-rows // smallest_part)
        if smallest_part == 0 or self.batch_size < least:
            raise UserError(
                f"trainer.batch_size: expected >= {least} (workers) and rows for a batch, "
                f"got {self.batch_size} with {rows} rows"
            )
        full, rest = divmod(rows, self.batch_size)
        return full + (rest >= workers if is_whole else min(self.part_counts(rows, full)) > 0)

    def span(self, rows: int, step: int) -> tuple[int, int]:
        """Return the first row of an epoch's order at a step, and the one after its last."""
        assert self.batch_size is not None
        low, high = (min(s * self.batch_size, rows) for s in (step, step + 1))
        return low, high

    def whole_batches(
        self, rows: int, epoch: int, first_step: int
    ) -> Iterator[tuple[np.ndarray, int]]:
        """Yield this rank's rows of each batch of a shuffled split, and the rows of all ranks."""
        order = permutation((self.seed, epoch), rows)
        for step in range(first_step, self.steps(rows, is_whole=True)):
            low, high = self.span(rows, step)
            yield order[low + self.rank : high : self.world_size], high - low

    def part_counts(self, rows: int, step: int) -> list[int]:
        """Return how many rows each rank takes of its own part at a step.

        Example:
            >>> plan = BatchPlan(world_size=3, batch_size=4)
            >>> [plan.part_counts(10, step) for step in range(3)]
            [[1, 1, 1], [1, 1, 2], [1, 1, 1]]
        """
        low, high = self.span(rows, step)
        parts = (part(rows, rank, self.world_size) for rank in range(self.world_size))
        return [high * n // rows - low * n // rows for n in (end - begin for begin, end in parts)]


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


def permutation(words: tuple[int, ...], size: int) -> np.ndarray:
    """Permute 0 to size - 1, a function of the words alone."""
    generator = np.random.Generator(np.random.PCG64(np.random.SeedSequence(words)))
    return generator.permutation(size)


def cut_windows(
    windows: Iterator[Window], counts: Iterable[int]
) -> Iterator[tuple[SplitData, np.ndarray]]:
    """Read rows from windows in turn, some at a time, with their positions.

    A window is let go of before the next is asked for.
    """
    window: Window | None = None
    taken = 0
    for count in counts:
        pieces, positions = [], []
        while count > 0:
            if window is None or taken == len(window.order):
                window = None
                window, taken = next(windows), 0
            span = slice(taken, taken + count)
            pieces.append(window.rows[window.places[span]])
            positions.append(window.order[span])
            taken += len(positions[-1])
            count -= len(positions[-1])
        yield joined(pieces), np.concatenate(positions)


def read_ahead(
    read: Callable[[Task], Window], plans: Sequence[Task]
) -> Generator[Window, None, None]:
    """Yield what `read` makes of each plan; a thread makes the next one meanwhile.

    Two windows exist at most, if the consumer lets go of one before it asks for the next.
    """
    pool = ThreadPoolExecutor(1, thread_name_prefix="loading")
    try:
        ahead = [pool.submit(read, plan) for plan in plans[:1]]
        for plan in [*plans[1:], None]:
            window = ahead.pop().result()
            if plan is not None:
                ahead.append(pool.submit(read, plan))
            yield window
            del window
    finally:
        pool.shutdown(cancel_futures=True)
