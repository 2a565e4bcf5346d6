"""Random draws that are pure functions of (seed, epoch, index, dimension).

A counter-based generator (SplitMix64, Steele, Lea and Flood 2014) instead of numpy's: a row's draw
does not depend on the batch it is in, and no release of numpy can change it.
"""

from __future__ import annotations

import math

import numpy as np

_MASK = (1 << 64) - 1
_GOLDEN = 0x9E3779B97F4A7C15
# A gray level g is one with probability g / 255: 31 random bits are compared with g / 255 * 2^31,
# so that level 0 is never one and level 255 always.
_THRESHOLDS = ((np.arange(256, dtype=np.uint64) << np.uint64(31)) // np.uint64(255)).astype("<u4")
_BLOCK = 1 << 17


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


def choose_rows(num_rows: int, num_chosen: int, seed: int) -> np.ndarray:
    """Choose rows without replacement: the first ones of the permutation that `seed` names.

    Example:
        >>> [int(i) for i in choose_rows(10, 3, seed=0)]
        [0, 7, 8]

    Returns:
        (num_chosen,) int64, ascending.
    """
    keys = _row_states(np.arange(num_rows), epoch=0, seed=seed)
    return np.sort(np.argsort(keys, kind="stable")[:num_chosen])


def dynamic_binarize(x: np.ndarray, indices: np.ndarray, epoch: int, seed: int) -> np.ndarray:
    """Draw bits with probabilities x / 255, each a pure function of (seed, epoch, index, dim).

    Args:
        x: (N, *shape) uint8 gray levels.
        indices: (N,) integers >= 0, the rows' positions in their split.
        epoch: integer >= 0.
        seed: integer.

    Example:
        >>> x = np.array([[0, 255, 128]], np.uint8)
        >>> dynamic_binarize(x, np.array([7]), epoch=0, seed=0)[0, :2].tolist()
        [0, 1]

    Returns:
        (N, *shape) uint8 of zeros and ones.

    Raises:
        ValueError: for another dtype, or indices that don't match the rows.
    """
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
    rows = x.reshape(len(x), math.prod(x.shape[1:]))
    bits = np.empty(rows.shape, np.uint8)
    words = (rows.shape[1] + 1) // 2
    steps = np.arange(1, words + 1, dtype=np.uint64) * np.uint64(_GOLDEN)
    states = _row_states(indices, epoch, seed)
    # Blocks of rows keep the intermediate 64-bit words within the processor's cache.
    block = max(1, _BLOCK // max(words, 1))
    for start in range(0, len(rows), block):
        part = slice(start, start + block)
        words64 = _mix(states[part, None] + steps).astype("<u8", copy=False)
        random31 = words64.view("<u4")[:, : rows.shape[1]] >> np.uint32(1)
        np.less(random31, _THRESHOLDS[rows[part]], out=bits[part].view(bool))
    return bits.reshape(x.shape)
