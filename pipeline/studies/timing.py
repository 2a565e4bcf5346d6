"""The time that something takes."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch


def seconds_of(action: Callable[[], object], device: torch.device, least: float = 1.0) -> float:
    """Return the shortest of three or more runs, after one that is not counted.

    Arguments:
        action: what is timed.
        device: that it computes on, and that is waited for.
        least: seconds that the runs take together.
    """
    runs: list[float] = []
    _timed(action, device)
    while len(runs) < 3 or sum(runs) < least:
        runs.append(_timed(action, device))
    return min(runs)


def _timed(action: Callable[[], object], device: torch.device) -> float:
    start = time.perf_counter()
    action()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - start
