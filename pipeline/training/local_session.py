"""A training alone in the stage's own process, whose checkpoints it keeps by itself."""

from __future__ import annotations

import contextlib
import logging
import posixpath
import re
import shutil
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

import pyarrow.fs
import torch

from pipeline.core import storage
from pipeline.core.errors import one_line
from pipeline.training.records import TrainingReport
from pipeline.training.sessions import Checkpoint

log = logging.getLogger(__name__)

KEPT = 2  # checkpoints, as many as Ray Train is told to keep
NAME = "checkpoint_%Y-%m-%d_%H-%M-%S.%f"
_NAMED = re.compile(r"checkpoint_\d{4}-\d\d-\d\d_\d\d-\d\d-\d\d\.\d{6}")


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
        """Keep a checkpoint and remove those before the last two.

        On a disk it is there whole or not at all; from one that an object store has in part
        `checkpoints` falls back to the one before.
        """
        if folder is None:
            return
        name = self._next_name()
        self._filesystem.create_dir(self._folder, recursive=True)
        if isinstance(self._filesystem, pyarrow.fs.LocalFileSystem):
            _copy_whole(folder, Path(self._folder, name))
        else:
            target = posixpath.join(self._folder, name)
            pyarrow.fs.copy_files(str(folder), target, destination_filesystem=self._filesystem)
        for old in self._names()[:-KEPT]:
            try:
                self._filesystem.delete_dir(posixpath.join(self._folder, old))
            except OSError as error:
                log.warning("warning: checkpoint %s is left for now: %s", old, one_line(error))

    def request_stop(self) -> None:
        """Have the training save itself and leave."""
        self._stop.set()

    def stop_requested(self) -> bool:
        """Tell whether it was asked to."""
        return self._stop.is_set()

    def _next_name(self) -> str:
        """Return a name behind all others, even where the clock was put back."""
        moment, names = datetime.now(), self._names()
        if names:
            newest = datetime.strptime(names[-1], NAME)
            moment = max(moment, newest + timedelta(microseconds=1))
        return moment.strftime(NAME)

    def _names(self) -> list[str]:
        selector = pyarrow.fs.FileSelector(self._folder, allow_not_found=True)
        found = [info.base_name for info in self._filesystem.get_file_info(selector)]
        return sorted(name for name in found if _NAMED.fullmatch(name))

    def _checkpoint(self, name: str) -> FolderCheckpoint:
        return FolderCheckpoint(posixpath.join(self._folder, name), self._filesystem)


def _copy_whole(folder: Path, target: Path) -> None:
    """Copy a flat folder beside its place, then rename it; leave nothing of one that fails."""
    for abandoned in target.parent.glob(".checkpoint_*.partial"):  # of a killed process: we are one
        shutil.rmtree(abandoned, ignore_errors=True)
    partial = target.with_name(f".{target.name}.partial")
    try:
        partial.mkdir()
        for path in folder.iterdir():
            shutil.copyfile(path, partial / path.name)
        partial.rename(target)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
