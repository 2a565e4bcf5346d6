"""Numbers below the smallest normal float, taken as zero while a training runs.

Moments of weights whose gradients are zero, as those of pixels that are hardly ever on, fall until
they stay in that range for good, where an Intel processor takes a hundred cycles for each: a step
of Adam took seven times as long after a thousand steps as at first.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def flushed_denormals() -> Iterator[None]:
    """Take denormal floats as zero within a block, in this thread and those it starts.

    Does nothing on a processor that cannot.

    Example:
        >>> with flushed_denormals():
        ...     flushes()
        True
        >>> flushes()
        False
    """
    before = flushes()
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(before)


def flushes() -> bool:
    """Tell whether this thread takes denormal floats as zero."""
    smallest = torch.tensor(torch.finfo(torch.float32).tiny)
    return float(smallest / 2) == 0
