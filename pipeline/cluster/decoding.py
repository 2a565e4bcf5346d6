"""Decoding spread over the workers of a cluster: the bytes of one process.

It helps where decoding is most of the work, as it is for photographs, and there are several hosts;
on one, threads do as well. Files of a folder must be on a disk that all hosts share; what is read
out of large files here travels.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import numpy as np
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from pipeline.cluster.pool import pool
from pipeline.core.errors import UserError, one_line, unknown_name
from pipeline.datasets import decoding_parts
from pipeline.experiments.schema import ClusterConfig, build

CONF = Path(__file__).parents[1] / "conf" / "cluster"

PIECES = 4  # for each worker, of a part
Read = Callable[..., np.ndarray]
Piece = tuple[Read, list[Sequence[object]]]


class DecodingWork:
    """A worker of `pipeline.cluster.pool` that decodes files."""

    def prepare(self, threads: int) -> None:
        """Make the threads."""
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="decoding")

    def do(self, piece: Piece) -> np.ndarray:
        """Decode events, whose arguments stand in columns, into rows."""
        read, columns = piece
        return np.concatenate(list(self._pool.map(read, *columns)))


@contextmanager
def decoding_on_workers(config: ClusterConfig, name: str) -> Iterator[None]:
    """Decode on `num_workers` workers inside the block, or in this process where that is 0.

    Raises:
        UserError: as for `pipeline.cluster.pool`.
    """
    if config.num_workers == 0:
        yield
        return
    with pool(config, DecodingWork, [], f"preprocessing {name}") as workers:

        def decode(read: Read, columns: Sequence[Sequence[object]]) -> np.ndarray:
            count = len(columns[0])
            size = max(1, -(-count // (PIECES * config.num_workers)))
            pieces: list[Piece] = [
                (read, [column[first : first + size] for column in columns])
                for first in range(0, count, size)
            ]
            return np.concatenate(workers.map(pieces))

        with decoding_parts.decoding_by(decode):
            yield


def cluster_of(overrides: Sequence[str]) -> ClusterConfig:
    """Return the cluster's configuration: the group of ARCORE_CLUSTER, and `cluster.key=value`.

    Raises:
        UserError: for an unknown group, or an unknown or ill-typed key.

    Example:
        >>> cluster_of(["cluster.num_workers=2"]).num_workers
        2
    """
    choice = os.environ.get("ARCORE_CLUSTER", "local")
    dotted = []
    for override in overrides:
        key, _, value = override.partition("=")
        if key == "cluster":
            choice = value
        else:
            dotted.append(override)
    known = [path.stem for path in CONF.glob("*.yaml")]
    if choice not in known:
        raise unknown_name("cluster", choice, known)
    try:
        group = OmegaConf.create({"cluster": OmegaConf.load(CONF / f"{choice}.yaml")})
        merged = OmegaConf.merge(group, OmegaConf.from_dotlist(dotted))
        plain = cast(dict[str, Any], OmegaConf.to_container(merged, resolve=True))
    except (OmegaConfBaseException, YAMLError, ValueError, TypeError, OSError) as error:
        raise UserError(f"cluster: {one_line(error)}") from None
    return build(ClusterConfig, plain["cluster"], "cluster")
