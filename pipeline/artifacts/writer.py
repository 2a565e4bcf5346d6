"""Writing an output: alone, whole or not at all, and with what it came from.

    with writing(artifact) as folder:
        ...  # files into the folder

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
from contextlib import AbstractContextManager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
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


@dataclass(frozen=True)
class Begun:
    """When work on an output began, and with what code if that is stamped."""

    commit: str
    clock: float

    @property
    def seconds(self) -> float:
        """Return the seconds since then."""
        return time.perf_counter() - self.clock


PUBLISHES = ContextVar("publishes", default=True)
# Work under way, by the file of its lock and by the folder of its output.
_under_way: ContextVar[Mapping[Path, Begun]] = ContextVar("under_way", default=MappingProxyType({}))


@contextlib.contextmanager
def alone(
    artifact: Artifact, *, wait: bool = False, work: tuple[str, str] | None = None
) -> Iterator[Begun]:
    """Hold the lock of an output for the whole work on it; `writing` inside holds it already.

    Of `work`, the storage and the folder in it of unfinished work, the lock or lease is next to the
    folder, for all hosts that share the storage; else it is this project's.
    """
    path = _lock_of(artifact) if work is None else locks.path_beside(*work)
    before, folder = _under_way.get(), artifact.folder.absolute()
    under_way = before.get(path) or before.get(folder)
    if under_way is not None:
        yield under_way
        return
    what = f"{artifact.kind.doing} {artifact.name}"
    lease = contextlib.nullcontext() if work is None else locks.leased(*work, what, wait)
    with _held(artifact, path, wait), lease:
        commit = origin.commit() if artifact.kind.origin else "unknown"  # Git is asked thrice
        begun = Begun(commit, time.perf_counter())
        token = _under_way.set({**before, path: begun, folder: begun})
        try:
            yield begun
        finally:
            _under_way.reset(token)


@contextlib.contextmanager
def writing(
    artifact: Artifact,
    *,
    device: torch.device | None = None,
    storage: str | None = None,
    wait: bool = False,
) -> Iterator[Path]:
    """Yield an empty folder that becomes the output's when the block ends well.

    A block that raises, or a killed process, leaves the output as it was. The folder gets the
    stamp of its origin, in the one file that DVC ignores, and a seal: what it was made of, and the
    hash of each file. It is copied to a storage shared by all hosts, where one is given.
    """
    with alone(artifact, wait=wait) as begun:
        inputs, lock = _hashes(artifact), _lock_of(artifact)
        with _held(artifact, lock, wait=True), replacing(artifact.folder) as folder:
            yield folder
            _require_same(artifact, inputs)
            if artifact.kind.sealed:
                _seal(artifact, inputs, folder)
            _stamp(artifact, begun, device, folder)
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


def _held(artifact: Artifact, path: Path, wait: bool) -> AbstractContextManager[None]:
    """Hold a lock, unless the work under way holds it already."""
    if path in _under_way.get():
        return contextlib.nullcontext()
    return locks.held(path, f"{artifact.kind.doing} {artifact.name}", wait)


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


def _stamp(artifact: Artifact, begun: Begun, device: torch.device | None, folder: Path) -> None:
    """Add the origin to what the block wrote into its file."""
    kind = artifact.kind
    if not kind.origin:
        return
    path = folder / kind.origin
    content: dict[str, object] = {kind.hash_key: sha256_of(folder / kind.main)}
    content |= read_object(path) if path.is_file() else {}
    if device is not None:
        content.setdefault("device", origin.device_name(device))
    content.setdefault("seconds", round(begun.seconds, 2))
    content.setdefault("commit", begun.commit)
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


def _restore(old: Path, folder: Path) -> None:
    """Move the old folder back if no new one took its place; else remove it."""
    if old.exists() and not folder.exists():
        os.replace(old, folder)
    shutil.rmtree(old, ignore_errors=True)


def _sync(folder: Path) -> None:
    for path in (*folder.rglob("*"), folder):
        if not path.is_symlink():
            atomic.flush(path)
