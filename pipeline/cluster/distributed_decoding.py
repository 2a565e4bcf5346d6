"""Decoding spread over the workers of a cluster: the bytes of one process.

It helps where decoding is most of the work, as it is for photographs, and there are several hosts;
on one, threads do as well. Files of a folder must be on a disk that all hosts share; what is read
out of large files here travels.
"""

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import numpy as np

from pipeline.cluster.worker_pool import pool
from pipeline.core.stage_code import check_host, stage_sha256
from pipeline.datasets.formats import image_files
from pipeline.experiments.schema import ClusterConfig

PIECES = 4  # for each worker, of a part
Read = Callable[..., np.ndarray]
Piece = tuple[Read, list[Sequence[object]]]


class DecodingWork:
    """A worker of `pipeline.cluster.worker_pool` that decodes files."""

    def __init__(self, dataset: str, code_sha256: str | None) -> None:
        self._dataset, self._code_sha256 = dataset, code_sha256

    def prepare(self, threads: int) -> None:
        """Make the threads."""
        check_host(self._code_sha256, stage_sha256("preprocess", f"dataset.{self._dataset}"))
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="decoding")

    def do(self, piece: Piece) -> np.ndarray:
        """Decode events, whose arguments stand in columns, into rows."""
        read, columns = piece
        return np.concatenate(list(self._pool.map(read, *columns)))


@contextmanager
def decoding_on_workers(cluster: ClusterConfig, name: str) -> Iterator[None]:
    """Decode on `num_workers` workers inside the block, or in this process where that is 0."""
    if cluster.num_workers == 0:
        yield
        return
    code = stage_sha256("preprocess", f"dataset.{name}")
    cluster = dataclasses.replace(cluster, use_gpu=False)  # which decoding does not
    with pool(cluster, DecodingWork, [name, code], f"preprocessing {name}") as run:

        def decode(read: Read, columns: Sequence[Sequence[object]]) -> np.ndarray:
            count = len(columns[0])
            size = max(1, -(-count // (PIECES * cluster.num_workers)))
            pieces: list[Piece] = [
                (read, [column[first : first + size] for column in columns])
                for first in range(0, count, size)
            ]
            return np.concatenate(run(pieces))

        with image_files.decoding_by(decode):
            yield
