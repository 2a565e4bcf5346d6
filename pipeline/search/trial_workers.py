"""The workers of a trial: Ray Tune's own process is the first, actors next to it are the others.

All of them are in the placement group that Ray Tune reserves for the trial and gives back after
it. The others end with the first one's process, whatever ends that.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import ray
import ray.util
import torch.distributed as dist
from ray.exceptions import RayError
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy
from torch.distributed import TCPStore  # type: ignore[attr-defined]

from pipeline.cluster import connection
from pipeline.cluster.network_interface import choose_interface
from pipeline.experiments.schema import ClusterConfig
from pipeline.training import driver
from pipeline.training.denormals import flushed_denormals
from pipeline.training.sessions import Session, report_nothing
from pipeline.training.training_records import TrainingJob

CAUSE_SECONDS = 10.0  # for which the error of a lost worker is waited for


@ray.remote
class TrialWorker:
    """A worker of a trial but the first."""

    def train(self, job: TrainingJob, session: Session, host: str, port: int) -> None:
        """Train until the first worker is done, at whose host and port all meet."""
        from pipeline.training.worker import Worker

        store = TCPStore(host, port, session.world, is_master=False)
        with flushed_denormals(), _process_group(store, session):
            Worker(job, session).run()


def bundles(config: ClusterConfig) -> list[dict[str, float]]:
    """Return what Ray Tune reserves for a trial: CPUs, and a GPU if asked for, of each worker."""
    each = {"CPU": float(config.cpus_per_worker or 1)} | ({"GPU": 1.0} if config.use_gpu else {})
    return [each] * connection.num_workers(config)


@contextlib.contextmanager
def trial_workers(job: TrainingJob, config: ClusterConfig, session: Session) -> Iterator[None]:
    """Have the other workers of a trial train the same job inside the block.

    Raises:
        RuntimeError: saying why another worker was lost, of which this one notices the loss alone.
    """
    world = session.world
    if world == 1:
        yield
        return
    host = ray.util.get_node_ip_address()
    store = TCPStore(host, 0, world, is_master=True, wait_for_workers=False)
    others = [_start(config, rank) for rank in range(1, world)]
    quiet = [replace(session, rank=rank, report=report_nothing) for rank in range(1, world)]
    ends = [
        other.train.remote(job, its, host, store.port)
        for other, its in zip(others, quiet, strict=True)
    ]
    try:
        with _process_group(store, session):
            try:
                yield
            except RuntimeError as error:
                if (cause := _cause_of_loss(ends)) is None:
                    raise
                raise RuntimeError(cause) from error
    finally:
        for other in others:
            ray.kill(other)


def _start(config: ClusterConfig, rank: int) -> Any:
    """Start a worker in its part of what is reserved for the trial."""
    group = ray.util.get_current_placement_group()
    place = PlacementGroupSchedulingStrategy(group, placement_group_bundle_index=rank)
    return TrialWorker.options(  # type: ignore[attr-defined]
        num_cpus=config.cpus_per_worker or 1,
        num_gpus=1 if config.use_gpu else 0,
        scheduling_strategy=place,
    ).remote()


@contextlib.contextmanager
def _process_group(store: TCPStore, session: Session) -> Iterator[None]:
    """Join the process group; to leave it after an error tells those who wait for this one."""
    choose_interface()
    backend = "nccl" if session.device.type == "cuda" else "gloo"
    dist.init_process_group(backend, store=store, rank=session.rank, world_size=session.world)
    try:
        yield
    finally:
        dist.destroy_process_group()


def _cause_of_loss(ends: list[ray.ObjectRef]) -> str | None:
    """Return why the first of the other workers ended; None if all of them still train."""
    ended, _ = ray.wait(ends, timeout=CAUSE_SECONDS)
    if not ended:
        return None
    try:
        ray.get(ended[0])
    except RayError as error:
        return driver.cause(error)
    return None
