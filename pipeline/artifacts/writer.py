"""Writing an output: alone, whole or not at all, and with what it came from.

    with alone(artifact), writing(artifact) as work:
        ...  # files into work.folder

The lock is held by an open file, which the system closes with a killed process. A reader sees the
old folder or the new one; both are on the disk before the name changes.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import time
from collections.abc import Iterator, Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.artifacts import locks, origin
from pipeline.artifacts.artifact import FILES, SEAL, Artifact
from pipeline.core import atomic, paths
from pipeline.core import storage as places
from pipeline.core.atomic import sha256_of
from pipeline.core.errors import UserError
from pipeline.core.records import read_object, write_object

if TYPE_CHECKING:
    import torch


@dataclass
class Work:
    """Work on an output under way.

    Attributes:
        folder: empty, which becomes the output's; of a kind that is made in place, that itself.
        commit: of the code as work began, where it is stamped.
        clock: of the process, as work began.
        device: where the work ran, for the stamp.
        run_id: of the run of MLflow that ends as the work does, if there is one.
    """

    folder: Path
    commit: str
    clock: float
    device: torch.device | None = None
    run_id: str | None = None

    @property
    def seconds(self) -> float:
        """Return the seconds since work began."""
        return time.perf_counter() - self.clock


PUBLISHES = ContextVar("publishes", default=True)


@contextlib.contextmanager
def alone(artifact: Artifact, work: tuple[str, str] | None = None) -> Iterator[None]:
    """Hold the lock of an output within a block.

    Of `work`, the storage and the folder in it of unfinished work, the lock or lease next to the
    folder is held too, for all hosts that share the storage.
    """
    kind, what = artifact.kind, f"{artifact.kind.doing} {artifact.name}"
    with contextlib.ExitStack() as held:
        if work is not None:
            held.enter_context(locks.held(locks.path_beside(*work), what, kind.waits))
            held.enter_context(locks.leased(*work, what, kind.waits))
        held.enter_context(locks.held(_lock_of(artifact), what, kind.waits))
        yield


@contextlib.contextmanager
def writing(artifact: Artifact, storage: str | None = None) -> Iterator[Work]:
    """Yield an empty folder that becomes the output's when the block ends well; the lock is held.

    A block that raises, or a killed process, leaves the output as it was. The folder gets the
    stamp of its origin, in the one file that DVC ignores, and a seal: what it was made of, and the
    hash of each file. It is copied to a storage shared by all hosts, where one is given.
    """
    kind = artifact.kind
    commit = origin.commit() if kind.origin else "unknown"  # Git is asked thrice
    work = Work(artifact.folder, commit, time.perf_counter())
    if kind.in_place:
        yield work
        return
    inputs = _hashes(artifact)
    with replacing(artifact.folder) as work.folder:
        yield work
        _require_same(artifact, inputs)
        if kind.sealed:
            _seal(artifact, inputs, work.folder)
        _stamp(artifact, work)
    publish(artifact, storage)


@contextlib.contextmanager
def unpublished() -> Iterator[None]:
    """Let `publish` do nothing inside: what is made is a part of something else."""
    token = PUBLISHES.set(False)
    try:
        yield
    finally:
        PUBLISHES.reset(token)


def publish(artifact: Artifact, storage: str | None) -> None:
    """Copy an output to `<storage>/results/`, if there is one: a job's own folder is removed."""
    if storage is not None and PUBLISHES.get():
        relative = artifact.folder.relative_to(paths.root()).parts
        marker = artifact.kind.origin or artifact.kind.main
        places.publish(artifact.folder, places.join(storage, "results", *relative), marker)


def _lock_of(artifact: Artifact) -> Path:
    name = artifact.name
    if artifact.kind is FILES:  # anywhere, so that its name says little
        name = hashlib.sha256(bytes(artifact.folder.resolve())).hexdigest()[:16]
    return locks.path_of(f"{artifact.kind.verb}-{name}")


def _hashes(artifact: Artifact) -> dict[str, str]:
    found = {one.label: one.content_sha256() for one in artifact.inputs}
    return {label: sha256 for label, sha256 in found.items() if sha256 is not None}


def _require_same(artifact: Artifact, before: Mapping[str, str]) -> None:
    now = _hashes(artifact)
    for label, sha256 in before.items():
        if now.get(label) != sha256:
            raise UserError(
                f"{label}: expected the content that this began with ({sha256[:12]}), got another "
                f"({str(now.get(label))[:12]}), made meanwhile; run this again"
            )


def _seal(artifact: Artifact, inputs: Mapping[str, str], folder: Path) -> None:
    """Write what the output was made of, and the hash of each file but of the origin."""
    unsealed = (SEAL, artifact.kind.origin)
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    names = {path.relative_to(folder).as_posix(): path for path in files}
    hashes = {name: sha256_of(path) for name, path in names.items() if name not in unsealed}
    write_object(folder / SEAL, {"inputs": dict(inputs), "files": hashes})


def _stamp(artifact: Artifact, work: Work) -> None:
    """Add the origin to what the block wrote into its file."""
    kind, folder = artifact.kind, work.folder
    if not kind.origin:
        return
    path = folder / kind.origin
    content: dict[str, object] = {kind.hash_key: sha256_of(folder / kind.main)}
    content |= read_object(path) if path.is_file() else {}
    if work.device is not None:
        content.setdefault("device", origin.device_name(work.device))
    content.setdefault("seconds", round(work.seconds, 2))
    content.setdefault("commit", work.commit)
    content.setdefault("command", artifact.command)
    content.setdefault("versions", origin.versions())
    write_object(path, content)


@contextlib.contextmanager
def replacing(folder: Path) -> Iterator[Path]:
    """Yield an empty sibling that becomes `folder` when the block ends well; the lock is held.

    What a killed process left goes first, and what it had moved away comes back.
    """
    if folder.is_symlink() and not os.path.ismount(folder):
        folder = folder.resolve()  # its target is replaced, and the link stays
    made = [parent for parent in folder.parents if not parent.exists()]
    folder.parent.mkdir(parents=True, exist_ok=True)
    partial, old = (folder.with_name(f".{folder.name}.{end}") for end in ("partial", "old"))
    shutil.rmtree(partial, ignore_errors=True)
    _restore(old, folder)
    partial.mkdir()
    try:
        yield partial
        _sync(partial)
        with contextlib.suppress(FileNotFoundError):
            os.replace(folder, old)
        os.replace(partial, folder)
        atomic.flush(folder.parent)
    finally:
        _restore(old, folder)
        shutil.rmtree(partial, ignore_errors=True)
        for parent in made:  # where nothing came of it
            with contextlib.suppress(OSError):
                parent.rmdir()


def _restore(old: Path, folder: Path) -> None:
    """Move the old folder back if no new one took its place; else remove it."""
    if old.exists() and not folder.exists():
        os.replace(old, folder)
    shutil.rmtree(old, ignore_errors=True)


def _sync(folder: Path) -> None:
    for path in (*folder.rglob("*"), folder):
        if not path.is_symlink():
            atomic.flush(path)
