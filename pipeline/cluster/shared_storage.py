"""The storage that every node reaches."""

import os
import uuid
from pathlib import Path

from pipeline.core import paths, storage
from pipeline.core.atomic import sha256_of
from pipeline.experiments.schema import ClusterConfig


def shared_storage(cluster: ClusterConfig) -> str | None:
    """Return the folder or URI that every node reaches, None if none is configured.

    A folder is absolute, since workers have working directories of their own.
    """
    place = cluster.storage or os.environ.get("ARCORE_STORAGE")
    if not place or storage.is_uri(place):
        return place or None
    return os.path.abspath(place)


def storage_of(cluster: ClusterConfig) -> str:
    """Return where checkpoints and trials are kept: the shared storage, or `.arcore/`."""
    return shared_storage(cluster) or str(paths.work())


def run_key(cluster: ClusterConfig, work: str) -> str:
    """Return the key of an MLflow run: what it does, mostly a config hash, and for which storage.

    The place of checkpoints is given a name of its own when it is first asked for one. By it work
    is told from the same of other machines, in an MLflow store of both.
    """
    location = storage.join(storage_of(cluster), "identity")
    try:
        name = storage.read_bytes(location)
    except FileNotFoundError:
        storage.write_bytes(location, uuid.uuid4().hex.encode())
        name = storage.read_bytes(location)  # another process may have written it since
    return f"{work}:{name.decode()}"


def publish_shards(cluster: ClusterConfig, folder: Path, dataset: str) -> str:
    """Return where every worker reaches shards: a copy in the shared storage, if there is one.

    It is named by the manifest, not the content: shards that were cut otherwise must not replace
    those that are being read.
    """
    shared = shared_storage(cluster)
    if shared is None:
        return str(folder)
    digest = sha256_of(folder / storage.MARKER)
    copy = storage.join(shared, "shards", f"{dataset}-{digest[:12]}")
    storage.publish(folder, copy)
    return copy
