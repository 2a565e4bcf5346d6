"""The checkpoints of one training: written, found, pruned and read in this module alone.

Every kind of session uses it: the stage's own process, Ray Train's workers and trials of a search.
Only the first worker writes. Ray starts, restarts and stops workers, and knows no checkpoint.
"""

import contextlib
import logging
import math
import re
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path

import pyarrow as pa
import pyarrow.fs

from pipeline.artifacts.writer import replacing
from pipeline.core import storage
from pipeline.core.errors import SiteError, one_line
from pipeline.core.threads import started
from pipeline.training.checkpoints import STATE

log = logging.getLogger(__name__)

KEPT = 2  # checkpoints
POLL_SECONDS = 1.0
REMOTE_POLL_SECONDS = 5.0  # of an object store, which takes its time to answer
_NAMED = re.compile(r"checkpoint_(\d{6,})")
_STOP = "stop"  # a file: "1" once the training is asked to stop


class CheckpointStore:
    """Checkpoints `checkpoint_000001`, ... in a folder or URI of one training alone."""

    def __init__(self, place: str) -> None:
        self.place = place
        is_local = storage.local_path(place) is not None
        self._interval = POLL_SECONDS if is_local else REMOTE_POLL_SECONDS
        self._stop, self._asked = False, -math.inf
        self._unfinished: Future[None] | None = None

    def names(self) -> list[str]:
        """Return the names of the checkpoints, the newest first."""
        found = storage.names(self.place)
        return sorted(filter(_NAMED.fullmatch, found), key=_number, reverse=True)

    @contextlib.contextmanager
    def opened(self, name: str) -> Iterator[Path]:
        """Yield the folder of a checkpoint, brought to this machine while inside."""
        filesystem, folder = storage.filesystem(storage.join(self.place, name))
        if isinstance(filesystem, pyarrow.fs.LocalFileSystem):
            yield Path(folder)
            return
        with tempfile.TemporaryDirectory() as copy:
            pyarrow.fs.copy_files(folder, copy, source_filesystem=filesystem)
            yield Path(copy)

    def save(self, write: Callable[[Path], None]) -> None:
        """Write the newest checkpoint in the background, once the one before is there."""
        self.wait()

        def work() -> None:
            with self.writing() as folder:
                write(folder)

        self._unfinished = started(work)

    def wait(self) -> None:
        """Wait for the newest checkpoint; raise the error of writing it, once."""
        unfinished, self._unfinished = self._unfinished, None
        if unfinished is not None:
            unfinished.result()

    @contextlib.contextmanager
    def writing(self) -> Iterator[Path]:
        """Yield an empty folder that becomes the newest checkpoint; prune the older ones.

        On a disk the checkpoint is there whole or not at all, also after a power failure. Of one
        that an object store has in part the state is missing, since it is copied last. An
        `OSError` says that it cannot be written.
        """
        names = self.names()
        name = f"checkpoint_{(_number(names[0]) if names else 0) + 1:06d}"
        local = storage.local_path(self.place)
        if local is None:
            with tempfile.TemporaryDirectory() as temporary:
                yield Path(temporary)
                try:
                    storage.publish(Path(temporary), storage.join(self.place, name), STATE)
                except SiteError as error:  # a restart may help
                    raise OSError(str(error)) from error
        else:
            with replacing(local / name) as folder:
                yield folder
        for old in names[KEPT - 1 :]:
            try:
                storage.remove(storage.join(self.place, old))
            except (OSError, pa.ArrowException, SiteError) as error:
                log.warning("warning: checkpoint %s is left for now: %s", old, one_line(error))

    def allow_to_run(self) -> None:
        """Take back a request to stop."""
        storage.write_bytes(storage.join(self.place, _STOP), b"0")

    def request_stop(self) -> None:
        """Ask the training to save itself and leave, on whatever hosts its workers are."""
        storage.write_bytes(storage.join(self.place, _STOP), b"1")

    def stop_requested(self) -> bool:
        """Tell whether the training was asked to, by a look now and then; a yes stays one.

        A storage that is away says nothing. The file is there from the start, since hosts with NFS
        remember what is not.
        """
        if not self._stop and time.monotonic() - self._asked >= self._interval:
            self._asked = time.monotonic()
            with contextlib.suppress(OSError, SiteError):
                self._stop = storage.read_bytes(storage.join(self.place, _STOP)) == b"1"
        return self._stop


def _number(name: str) -> int:
    return int(name.rpartition("_")[2])
