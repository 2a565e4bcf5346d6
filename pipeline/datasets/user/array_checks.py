"""Values of arrays, looked at part by part; the first flawed one is named by row and column."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np

from pipeline.core.errors import UserError

PART_BYTES = 1 << 25


def cut_rows(rows: np.ndarray, *arrays: np.ndarray | None) -> Iterator[np.ndarray]:
    """Cut rows into parts that take so much memory in all of some arrays."""
    width = sum(math.prod(array.shape[1:]) for array in arrays if array is not None)
    count = max(1, PART_BYTES // max(1, 8 * width))
    for first in range(0, len(rows), count):
        yield rows[first : first + count]


def refuse(
    flawed: np.ndarray, values: np.ndarray, rows: np.ndarray, where: str, expected: str
) -> None:
    """Refuse the first flawed value, naming its row and its place in the row."""
    if not flawed.any():
        return
    row, *place = place_of(int(flawed.argmax()), flawed.shape)
    where += f": row {int(rows[row])}" + (f", {at(place)}" if place else "")
    raise UserError(f"{where}: expected {expected}, got {values[(row, *place)]}")


def at(place: Sequence[int]) -> str:
    """Say where in a row a value is."""
    return f"column {place[0]}" if len(place) == 1 else f"place {tuple(place)}"


def place_of(flat: int, shape: tuple[int, ...]) -> tuple[int, ...]:
    """Turn the number of a value into its indices."""
    return tuple(int(i) for i in np.unravel_index(flat, shape))


def refuse_wide(x: np.ndarray, path: str) -> None:
    """Refuse integers that are no levels, naming the first.

    Raises:
        UserError: for one that is not in [0, 256).
    """
    for rows in cut_rows(np.arange(len(x)), x):
        part = x[rows]
        wanted = "an integer from 0 to 255 (or reals: save them as float32)"
        refuse((part < 0) | (part > 255), part, rows, f"{path}: x", wanted)
