"""A training alone in the stage's own process, whose checkpoints it keeps by itself."""

from __future__ import annotations

import contextlib
import posixpath
import shutil
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow.fs
import torch

from pipeline.core import storage
from pipeline.core.errors import UserError
from pipeline.experiments.schema import ClusterConfig
from pipeline.training.records import TrainingReport
from pipeline.training.sessions import Checkpoint

KEPT = 2  # checkpoints, as many as Ray Train is told to keep


@dataclass(frozen=True)
class FolderCheckpoint:
    """A checkpoint as a folder of a file system; the same as Ray's, without its import.

    Attributes:
        path: in the file system.
        filesystem: of pyarrow.
    """

    path: str
    filesystem: pyarrow.fs.FileSystem

    @contextlib.contextmanager
    def as_directory(self) -> Iterator[str]:
        """Bring the folder to this machine while inside."""
        if isinstance(self.filesystem, pyarrow.fs.LocalFileSystem):
            yield self.path
            return
        with tempfile.TemporaryDirectory() as copy:
            pyarrow.fs.copy_files(self.path, copy, source_filesystem=self.filesystem)
            yield copy


class LocalSession:
    """The only worker of a training, in this process; a killed one goes on when it is run again.

    Its checkpoints have the names that Ray Train's have, so that either goes on where the other
    stopped.

    Arguments:
        place: folder or URI of this training's checkpoints.
        device: on which it trains.
    """

    rank, world = 0, 1

    def __init__(self, place: str, device: torch.device) -> None:
        self.device = device
        self._filesystem, self._folder = storage.filesystem(place)
        self._stop = threading.Event()

    def checkpoints(self) -> Iterator[Checkpoint]:
        """Yield the checkpoints, the newest first."""
        return map(self._checkpoint, reversed(self._names()))

    def last(self) -> FolderCheckpoint | None:
        """Return the newest checkpoint."""
        names = self._names()
        return self._checkpoint(names[-1]) if names else None

    def report(self, report: TrainingReport, folder: Path | None) -> None:
        """Keep a checkpoint, whole or not at all, and remove those before the last two."""
        if folder is None:
            return
        moment = time.time_ns()
        stamp = time.strftime("%Y-%m-%d_%H-%M-%S", time.localtime(moment // 10**9))
        name = f"checkpoint_{stamp}.{moment // 1000 % 10**6:06}"
        self._filesystem.create_dir(self._folder, recursive=True)
        if isinstance(self._filesystem, pyarrow.fs.LocalFileSystem):
            partial = Path(self._folder, f".{name}.partial")
            shutil.copytree(folder, partial)
            partial.rename(Path(self._folder, name))
        else:
            target = posixpath.join(self._folder, name)
            pyarrow.fs.copy_files(str(folder), target, destination_filesystem=self._filesystem)
        for old in self._names()[:-KEPT]:
            self._filesystem.delete_dir(posixpath.join(self._folder, old))

    def request_stop(self) -> None:
        """Have the training save itself and leave."""
        self._stop.set()

    def stop_requested(self) -> bool:
        """Tell whether it was asked to."""
        return self._stop.is_set()

    def _names(self) -> list[str]:
        selector = pyarrow.fs.FileSelector(self._folder, allow_not_found=True)
        found = [info.base_name for info in self._filesystem.get_file_info(selector)]
        return sorted(name for name in found if name.startswith("checkpoint_2"))

    def _checkpoint(self, name: str) -> FolderCheckpoint:
        return FolderCheckpoint(posixpath.join(self._folder, name), self._filesystem)


def local_device(config: ClusterConfig) -> torch.device:
    """Return the device of a training in this process.

    Raises:
        UserError: if a GPU is asked for and there is none.
    """
    if config.use_gpu and not torch.cuda.is_available():
        raise UserError("cluster.use_gpu: expected a CUDA device on this machine, got none")
    return torch.device("cuda" if config.use_gpu else "cpu")
