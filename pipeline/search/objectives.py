"""What a search may lower next to the validation nats: the seconds of drawing samples."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence

import torch

import arcore
from arcore.conditions import Classes
from pipeline.core.errors import UserError
from pipeline.search.trials import TrialRecord

NATS, SECONDS = "valid_nats", "sampling_seconds"
OBJECTIVES = (NATS, SECONDS)
DRAWN = 16  # samples
LENGTH = 256  # of events of any length
REPEATS = 3


def check(model: arcore.AutoregressiveModel, where: str) -> None:
    """Check that samples can be drawn without a dataset.

    Raises:
        UserError: naming `where`, if they need more than a class.
    """
    kind = model.condition_kind
    if kind is not None and not isinstance(kind, Classes):
        raise UserError(
            f"{where}: expected a model of no condition but a class to time its samples, got "
            f"{type(kind).__name__}"
        )


def seconds_to_sample(model: arcore.AutoregressiveModel) -> float:
    """Return the processor's seconds of drawing 16 events, 256 long where they have any length.

    The least of three times, by the threads that training had; classes come in turn.
    """
    twin = model.of_length(LENGTH) if model.event.is_open else model
    condition = None
    if model.num_classes is not None:
        condition = torch.arange(DRAWN, device=model.device) % model.num_classes
    generator = torch.Generator(model.device).manual_seed(0)
    was_training = twin.training
    twin.eval()
    times = []
    for _ in range(REPEATS):
        began = time.process_time() if model.device.type == "cpu" else time.perf_counter()
        twin.sample(DRAWN, condition, generator).cpu()
        ended = time.process_time() if model.device.type == "cpu" else time.perf_counter()
        times.append(ended - began)
    twin.train(was_training)
    return min(times)


def front(table: Sequence[TrialRecord]) -> tuple[int, ...]:
    """Return the numbers of the trials that none beats in both objectives, by rising nats.

    Example:
        >>> from pipeline.training.training_records import EpochRecord
        >>> def trial(number, nats, seconds):
        ...     epoch = EpochRecord(epoch=1, step=1, seconds=1.0, learning_rate=0.1,
        ...                         train_nats=nats, best_valid_nats=nats)
        ...     return TrialRecord(number=number, status="finished", values={},
        ...                        history=(epoch,), sampling_seconds=seconds)
        >>> front([trial(1, 90.0, 1.0), trial(2, 80.0, 2.0), trial(3, 85.0, 3.0)])
        (2, 1)
    """
    timed = [row for row in table if row.sampling_seconds is not None and math.isfinite(row.value)]
    timed.sort(key=lambda row: (row.value, row.sampling_seconds))
    kept: list[TrialRecord] = []
    for row in timed:
        if not kept or (row.sampling_seconds or 0) < (kept[-1].sampling_seconds or 0):
            kept.append(row)
    return tuple(row.number for row in kept)
