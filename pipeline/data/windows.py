"""Rows of a split in memory, and how batches are cut from them: windows, cursors, reading ahead."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from pipeline.datasets.base import SplitData

Plan = TypeVar("Plan")


@dataclass(frozen=True)
class Piece:
    """Rows of a batch out of one window: x (n, ...), labels (n,) or None, positions (n,)."""

    x: np.ndarray
    labels: np.ndarray | None
    rows: np.ndarray


@dataclass(frozen=True)
class Window:
    """Rows in memory, their positions in the split, and the order in which they are taken."""

    data: SplitData
    rows: np.ndarray
    order: np.ndarray

    def take(self, places: slice) -> Piece:
        """Copy some rows of the order."""
        chosen = self.order[places]
        labels = None if self.data.labels is None else self.data.labels[chosen]
        return Piece(self.data.x.take(chosen, axis=0), labels, self.rows[chosen])


class Cursor:
    """Takes rows from windows in turn; lets go of one before it asks for the next."""

    def __init__(self, windows: Iterator[Window]) -> None:
        self._windows, self._position = windows, 0
        self._window: Window | None = None

    def take(self, size: int) -> list[Piece]:
        """Copy the next `size` rows, which may lie in several windows."""
        pieces = []
        while size > 0:
            if self._window is None or self._position == len(self._window.order):
                self._window = None
                self._window, self._position = next(self._windows), 0
            piece = self._window.take(slice(self._position, self._position + size))
            pieces.append(piece)
            self._position += len(piece.rows)
            size -= len(piece.rows)
        return pieces


def permutation(words: tuple[int, ...], size: int) -> np.ndarray:
    """Permute 0 to size - 1, a function of the words alone."""
    generator = np.random.Generator(np.random.PCG64(np.random.SeedSequence(words)))
    return generator.permutation(size)


def concatenate(arrays: list[np.ndarray]) -> np.ndarray:
    """Join arrays along their first dimension; one array alone is not copied."""
    return arrays[0] if len(arrays) == 1 else np.concatenate(arrays)


def read_ahead(
    read: Callable[[Plan], Window], plans: Sequence[Plan]
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
