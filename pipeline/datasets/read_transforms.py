"""Random draws that are pure functions of (seed, epoch, index, dimension).

A counter-based generator (SplitMix64, Steele, Lea and Flood 2014) instead of numpy's: a row's draw
does not depend on the batch it is in, and no release of numpy can change it.
"""

import math
from collections.abc import Iterator
from typing import Literal

import numpy as np

from arcore.events import Event, Real
from pipeline.datasets.moving_generator import NUM_UNIFORMS, render

_MASK = (1 << 64) - 1
_GOLDEN = 0x9E3779B97F4A7C15
# A gray level g is one with probability g / 255: 31 random bits are compared with g / 255 * 2^31,
# so that level 0 is never one and level 255 always.
_THRESHOLDS = ((np.arange(256, dtype=np.uint64) << np.uint64(31)) // np.uint64(255)).astype("<u4")
_BLOCK = 1 << 17

# What is done to stored levels each time that they are read.
ReadTransform = Literal["bernoulli", "dequantize", "moving"]


def _mix(z: np.ndarray) -> np.ndarray:
    """SplitMix64's finaliser, in place on uint64 (arrays wrap around silently)."""
    z ^= z >> np.uint64(30)
    z *= np.uint64(0xBF58476D1CE4E5B9)
    z ^= z >> np.uint64(27)
    z *= np.uint64(0x94D049BB133111EB)
    z ^= z >> np.uint64(31)
    return z


def _row_states(indices: np.ndarray, epoch: int, seed: int) -> np.ndarray:
    """One uint64 state per index, shape (N,), for a pair of seed and epoch."""
    key = np.array([seed & _MASK], np.uint64)
    for word in (epoch, 0):
        key = _mix(key + np.uint64((word + 1) * _GOLDEN & _MASK))
    return _mix(key + (indices.astype(np.uint64) + np.uint64(1)) * np.uint64(_GOLDEN))


def choose_rows(num_rows: int, num_chosen: int | None, seed: int) -> np.ndarray:
    """Choose at most so many rows: the first ones of the permutation that `seed` names.

    Example:
        >>> [int(i) for i in choose_rows(10, 3, seed=0)]
        [0, 7, 8]

    Returns:
        (num_chosen,) int64, ascending; (num_rows,) for None.
    """
    return np.sort(permute_rows(num_rows, seed)[:num_chosen])


def permute_rows(num_rows: int, seed: int) -> np.ndarray:
    """Return the permutation of rows that `seed` names, (num_rows,) int64.

    Example:
        >>> [int(i) for i in permute_rows(5, seed=0)]
        [0, 2, 4, 3, 1]
    """
    keys = _row_states(np.arange(num_rows), epoch=0, seed=seed)
    return np.argsort(keys, kind="stable")


def draw_integers(highs: np.ndarray, indices: np.ndarray, epoch: int, seed: int) -> np.ndarray:
    """Draw an integer in [0, high] for each index, a pure function of (seed, epoch, index).

    Example:
        >>> draw_integers(np.array([0, 9, 9]), np.array([4, 5, 6]), epoch=0, seed=0).tolist()
        [0, 4, 4]

    Returns:
        (N,) int64.
    """
    states = _row_states(indices, epoch, seed) >> np.uint64(16)
    return (states % (highs.astype(np.uint64) + np.uint64(1))).astype(np.int64)


def draw(
    kind: ReadTransform | None,
    x: np.ndarray,
    event: Event,
    indices: np.ndarray,
    epoch: int,
    seed: int,
    pool: np.ndarray | None = None,
) -> np.ndarray:
    """Turn stored rows of a split into events: bits, noisy levels, clips of digits, or as is.

    Arguments:
        kind: `read_transform` of the split.
        x: (N, *shape) as stored.
        event: what rows become; of a dequantised one, the bin width says how many levels there are.
        indices: (N,) integers >= 0, the rows' positions in their split.
        pool: stored rows of the whole split, out of whose digits "moving" draws clips.
    """
    if kind is None:
        return x
    if kind == "moving":
        if pool is None:
            raise ValueError("pool: expected the rows of the whole split, got None")
        digits = pool.reshape(-1, *pool.shape[-2:])
        return render(digits, uniforms(indices, epoch, seed, NUM_UNIFORMS), event.extents)
    if kind == "bernoulli":
        return dynamic_binarize(x, indices, epoch, seed)
    return dequantize(x, indices, epoch, seed, num_bins(event))


def num_bins(event: Event) -> int:
    """Number of levels of a dequantised event, whose values are in [0, 1)."""
    width = event.bin_width if isinstance(event, Real) else None
    if width is None or not math.isclose(round(1 / width) * width, 1, rel_tol=1e-9):
        raise ValueError(f"event: expected Real with a bin_width of 1 / levels, got {event}")
    return round(1 / width)


def uniforms(indices: np.ndarray, epoch: int, seed: int, count: int) -> np.ndarray:
    """Draw numbers in [0, 1), (N, count), each a pure function of (seed, epoch, index, place).

    Example:
        >>> uniforms(np.array([7]), epoch=0, seed=0, count=2).round(3).tolist()
        [[0.46, 0.321]]
    """
    steps = np.arange(1, count + 1, dtype=np.uint64) * np.uint64(_GOLDEN)
    words = _mix(_row_states(np.asarray(indices), epoch, seed)[:, None] + steps)
    return (words >> np.uint64(11)) * 2.0**-53


def dynamic_binarize(x: np.ndarray, indices: np.ndarray, epoch: int, seed: int) -> np.ndarray:
    """Draw bits with probabilities x / 255, each a pure function of (seed, epoch, index, dim).

    Arguments:
        x: (N, *shape) uint8 gray levels; bits have the shape and type.
        indices: (N,) integers >= 0, the rows' positions in their split.

    Example:
        >>> x = np.array([[0, 255, 128]], np.uint8)
        >>> dynamic_binarize(x, np.array([7]), epoch=0, seed=0)[0, :2].tolist()
        [0, 1]

    Raises:
        ValueError: for another dtype, or indices that don't match the rows.
    """
    rows = x.reshape(len(x), math.prod(x.shape[1:]))
    bits = np.empty(rows.shape, np.uint8)
    for part, random31 in _random31(x, indices, epoch, seed):
        np.less(random31, _THRESHOLDS[rows[part]], out=bits[part].view(bool))
    return bits.reshape(x.shape)


def dequantize(
    x: np.ndarray, indices: np.ndarray, epoch: int, seed: int, num_levels: int
) -> np.ndarray:
    """Add uniform noise to levels: (x + u) / num_levels, u a function of (seed, epoch, index, dim).

    u is a multiple of 2^-16 in [0, 1), so that every value, float32, stays in its level's bin.
    Arguments as for `dynamic_binarize`; at most 256 levels.

    Example:
        >>> x = np.array([[0, 1, 3]], np.uint8)
        >>> np.floor(4 * dequantize(x, np.array([7]), 0, 0, num_levels=4)).tolist()
        [[0.0, 1.0, 3.0]]

    Raises:
        ValueError: for another dtype, or indices that don't match the rows.
    """
    rows = x.reshape(len(x), math.prod(x.shape[1:]))
    values = np.empty(rows.shape, np.float32)
    for part, random31 in _random31(x, indices, epoch, seed):
        noise = (random31 >> np.uint32(15)) * 2.0**-16
        values[part] = (rows[part] + noise) / num_levels
    return values.reshape(x.shape)


def _random31(
    x: np.ndarray, indices: np.ndarray, epoch: int, seed: int
) -> Iterator[tuple[slice, np.ndarray]]:
    """Yield 31 random bits for each dimension of blocks of rows, which stay within the cache."""
    if x.dtype != np.uint8:
        raise ValueError(f"x: expected gray levels of dtype uint8, got {x.dtype}")
    indices = np.asarray(indices)
    if indices.shape != x.shape[:1] or indices.dtype.kind not in "iu":
        raise ValueError(
            f"indices: expected {x.shape[0]} integers, got shape {indices.shape} "
            f"of dtype {indices.dtype}"
        )
    if epoch < 0 or (len(indices) and indices.min() < 0):
        raise ValueError("epoch and indices: expected integers >= 0, got a negative one")
    size = math.prod(x.shape[1:])
    words = (size + 1) // 2
    steps = np.arange(1, words + 1, dtype=np.uint64) * np.uint64(_GOLDEN)
    states = _row_states(indices, epoch, seed)
    block = max(1, _BLOCK // max(words, 1))
    for start in range(0, len(x), block):
        part = slice(start, start + block)
        words64 = _mix(states[part, None] + steps).astype("<u8", copy=False)
        yield part, words64.view("<u4")[:, :size] >> np.uint32(1)
