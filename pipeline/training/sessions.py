"""What runs a training: the stage's own process, workers of Ray Train, or trials of a search."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

from pipeline.core import storage
from pipeline.training.checkpoint_store import CheckpointStore
from pipeline.training.training_records import EpochRecord

POLL_SECONDS = 1.0
REMOTE_POLL_SECONDS = 5.0  # of an object store, which takes its time to answer


def never() -> bool:
    """Request no stop, as of what ends a training by itself."""
    return False


def report_nothing(record: EpochRecord, finished: bool) -> None:
    """Do nothing: the checkpoint has all of it."""


@dataclass(frozen=True)
class Session:
    """A worker of a training, and what it runs in.

    Attributes:
        rank: of the worker, of `world` workers: 0 and 1 if alone.
        device: on which it trains.
        stop_requested: tells whether the training should save itself and leave.
        report: takes each finished epoch, and whether it was the last.
    """

    rank: int
    world: int
    device: torch.device
    stop_requested: Callable[[], bool] = never
    report: Callable[[EpochRecord, bool], None] = report_nothing


class StopRequests:
    """Asks the storage of a training now and then whether to stop; a yes stays one."""

    def __init__(self, store: CheckpointStore) -> None:
        self._store = store
        is_local = storage.local_path(store.place) is not None
        self._interval = POLL_SECONDS if is_local else REMOTE_POLL_SECONDS
        self._stop, self._asked = False, time.monotonic()

    def __call__(self) -> bool:
        """Tell whether the training was asked to stop."""
        if not self._stop and time.monotonic() - self._asked >= self._interval:
            self._asked = time.monotonic()
            self._stop = self._store.stop_requested()
        return self._stop
