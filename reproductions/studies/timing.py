"""The time that something takes, and what a study of it is asked to time."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch

from arcore import zoo
from pipeline.core.errors import require, unknown_name


def check_models(models: list[str]) -> None:
    """Refuse names of no model, and none.

    Raises:
        UserError: naming the model.
    """
    require(len(models) >= 1, "models", "one name or more", models)
    for name in models:
        if name not in zoo.list_models():
            raise unknown_name("model", name, zoo.list_models())


def check_sizes(sizes: list[int]) -> None:
    """Refuse sizes that are none, and none.

    Raises:
        UserError: naming them.
    """
    fits = len(sizes) >= 1 and all(side >= 1 for side in sizes)
    require(fits, "sizes", "one integer >= 1 or more", sizes)


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
