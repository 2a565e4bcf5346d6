"""What runs a training: Ray Train's workers, a trial of Ray Tune alone, or the stage's own process.

All give the same few things: who this worker is, the checkpoints to go on from, a place to report
to, and word of a request to stop (`local_session.py` has the last one). A trial of one worker runs
inside Ray Tune's own process, which takes the next trial without starting anew; a trial of several
is a Ray Train run of its own.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol

import pyarrow.fs
import torch

from pipeline.core import private_apis
from pipeline.training.records import TrainingReport

POLL_SECONDS = 1.0


class Checkpoint(Protocol):
    """A checkpoint as Ray keeps it: a folder of a file system."""

    def __init__(self, path: str, filesystem: pyarrow.fs.FileSystem) -> None: ...

    @property
    def path(self) -> str:
        """In the file system."""

    @property
    def filesystem(self) -> pyarrow.fs.FileSystem:
        """Of pyarrow."""

    def as_directory(self) -> AbstractContextManager[str]:
        """Bring the folder to this machine while inside."""


class Session(Protocol):
    """Attributes: rank and world of this worker (0 and 1 if alone), its device."""

    rank: int
    world: int
    device: torch.device

    def checkpoints(self) -> Iterator[Checkpoint]:
        """Yield the checkpoints to go on from, the newest first."""

    def report(self, report: TrainingReport, folder: Path | None) -> None:
        """Report and, if there is one, give a folder to keep as a checkpoint.

        Every worker calls it equally often; the folder is rank 0's.
        """

    def stop_requested(self) -> bool:
        """Tell whether the training should save itself and leave."""


class TrainSession:
    """A worker of Ray Train.

    Arguments:
        stop_key: the flag that the driver sets in the cluster to end the training.
    """

    def __init__(self, stop_key: str) -> None:
        import ray.train.torch

        context = ray.train.get_context()
        self.rank, self.world = context.get_world_rank(), context.get_world_size()
        self.device: torch.device = ray.train.torch.get_device()
        self._stop_key = stop_key
        self._stop, self._asked = False, time.monotonic()

    def checkpoints(self) -> Iterator[Checkpoint]:
        """Yield Ray Train's checkpoint, then the older ones beside it."""
        import ray.train

        return newest_first(ray.train.get_checkpoint())

    def report(self, report: TrainingReport, folder: Path | None) -> None:
        """Report to Ray Train, which waits for all workers."""
        import ray.train

        checkpoint = None if folder is None else ray.train.Checkpoint.from_directory(folder)
        ray.train.report(report.to_dict(), checkpoint=checkpoint)

    def stop_requested(self) -> bool:
        """Ask the cluster, at most once a second; a yes stays one."""
        if not self._stop and time.monotonic() - self._asked >= POLL_SECONDS:
            self._asked = time.monotonic()
            self._stop = requested_stop(self._stop_key)
        return self._stop


class TrialSession:
    """The only worker of a trial of Ray Tune; Ray Tune ends it by itself."""

    rank, world = 0, 1

    def __init__(self, use_gpu: bool) -> None:
        self.device = torch.device("cuda" if use_gpu else "cpu")

    def checkpoints(self) -> Iterator[Checkpoint]:
        """Yield Ray Tune's checkpoint, then the older ones beside it.

        None where they are gone: the checkpoints of a trial that ended are removed, and a search
        that was killed just then has it begin anew.
        """
        import ray.tune

        return filter(is_there, newest_first(ray.tune.get_checkpoint()))

    def report(self, report: TrainingReport, folder: Path | None) -> None:
        """Report to Ray Tune, which may end the trial here."""
        import ray.tune

        checkpoint = None if folder is None else ray.tune.Checkpoint.from_directory(folder)
        ray.tune.report(report.to_dict(), checkpoint=checkpoint)

    def stop_requested(self) -> bool:
        """Return False."""
        return False


def is_there(checkpoint: Checkpoint) -> bool:
    """Tell whether a checkpoint's folder exists."""
    info = checkpoint.filesystem.get_file_info(checkpoint.path)
    return bool(info.type == pyarrow.fs.FileType.Directory)


def newest_first(checkpoint: Checkpoint | None) -> Iterator[Checkpoint]:
    """Yield a checkpoint, then those that were kept before it; nothing for None."""
    if checkpoint is None:
        return
    yield checkpoint
    parent, _, name = checkpoint.path.rstrip("/").rpartition("/")
    selector = pyarrow.fs.FileSelector(parent, allow_not_found=True)
    found = checkpoint.filesystem.get_file_info(selector)
    older = [i for i in found if i.base_name.startswith("checkpoint_") and i.base_name < name]
    for info in sorted(older, key=lambda info: info.base_name, reverse=True):
        if info.type == pyarrow.fs.FileType.Directory:
            yield type(checkpoint)(info.path, checkpoint.filesystem)


def request_stop(key: str) -> None:
    """Ask the workers of a training to save themselves and leave (on the driver)."""
    private_apis.put_flag(key)


def requested_stop(key: str) -> bool:
    """Tell whether `request_stop` was called with this key; a head that is away says nothing."""
    from ray.exceptions import RayError

    try:
        return private_apis.has_flag(key)
    except RayError:
        return False
