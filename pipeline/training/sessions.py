"""What runs a training: the stage's own process, or workers of Ray Train.

A session says who this worker is, where to report to, and whether to stop. A trial of a search is
a third one (`pipeline.search.trial_workers`). Checkpoints are not a session's
(`pipeline.training.checkpoint_store`).
"""

from __future__ import annotations

import threading
import time
from typing import Protocol

import torch

from pipeline.core import storage
from pipeline.training.checkpoint_store import CheckpointStore
from pipeline.training.training_records import TrainingReport

POLL_SECONDS = 1.0
REMOTE_POLL_SECONDS = 5.0  # of an object store, which takes its time to answer


class Session(Protocol):
    """Attributes: rank and world of this worker (0 and 1 if alone), its device."""

    rank: int
    world: int
    device: torch.device

    def report(self, report: TrainingReport) -> None:
        """Report an epoch, or a checkpoint inside one."""

    def stop_requested(self) -> bool:
        """Tell whether the training should save itself and leave."""


class LocalSession:
    """The only worker of a training, in this process.

    Arguments:
        device: on which it trains.
    """

    rank, world = 0, 1

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._stop = threading.Event()

    def report(self, report: TrainingReport) -> None:
        """Do nothing: the checkpoint has all of it."""

    def request_stop(self) -> None:
        """Have the training save itself and leave."""
        self._stop.set()

    def stop_requested(self) -> bool:
        """Tell whether it was asked to."""
        return self._stop.is_set()


class RayTrainSession:
    """A worker of Ray Train, which the driver stops by way of the storage.

    Arguments:
        store: of the training.
    """

    def __init__(self, store: CheckpointStore) -> None:
        import ray.train.torch

        context = ray.train.get_context()
        self.rank, self.world = context.get_world_rank(), context.get_world_size()
        self.device: torch.device = ray.train.torch.get_device()
        self._store = store
        is_local = storage.local_path(store.place) is not None
        self._interval = POLL_SECONDS if is_local else REMOTE_POLL_SECONDS
        self._stop, self._asked = False, time.monotonic()

    def report(self, report: TrainingReport) -> None:
        """Do nothing: the checkpoint has all of it."""

    def stop_requested(self) -> bool:
        """Ask the storage now and then; a yes stays one."""
        if not self._stop and time.monotonic() - self._asked >= self._interval:
            self._asked = time.monotonic()
            self._stop = self._store.stop_requested()
        return self._stop
