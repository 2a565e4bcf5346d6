"""Copies of outputs in the storage that all hosts reach."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from pipeline.artifacts.artifact import Artifact
from pipeline.core import paths
from pipeline.core import storage as places

PUBLISHES = ContextVar("publishes", default=True)


@contextmanager
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
