"""Numbers below the smallest normal float, taken as zero while a training runs.

Moments of weights whose gradients are zero, as those of pixels that are hardly ever on, fall until
they stay in that range for good, where an Intel processor takes a hundred cycles for each: a step
of Adam took seven times as long after a thousand steps as at first.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager

import torch

_HARD = 2  # of OpenMP's `omp_pause_resource_t`: end the threads


@contextmanager
def flushed_denormals() -> Iterator[None]:
    """Take denormal floats as zero within a block, in this thread and those of its tensors.

    Does nothing on a processor that cannot, or where torch has no OpenMP of version 5.

    Example:
        >>> with flushed_denormals():
        ...     flushes()
        True
        >>> flushes()
        False
    """
    end_threads = getattr(ctypes.CDLL(None), "omp_pause_resource_all", None)
    if end_threads is None:
        yield
        return
    before = flushes()
    torch.set_flush_denormal(True)
    end_threads(_HARD)  # those that start again have the mode of this one
    try:
        yield
    finally:
        torch.set_flush_denormal(before)
        end_threads(_HARD)


def flushes() -> bool:
    """Tell whether this thread takes denormal floats as zero."""
    smallest = torch.tensor(torch.finfo(torch.float32).tiny)
    return float(smallest / 2) == 0
