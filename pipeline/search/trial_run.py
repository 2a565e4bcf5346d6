"""What Ray Tune runs for each trial: a training with the trial's values.

Ray Tune's own process is the first worker of a trial, actors next to it are the others. All of them
are in the placement group that Ray Tune reserves for the trial and gives back after it. The others
end with the first one's process, whatever ends that.
"""

import contextlib
import dataclasses
import functools
import logging
import math
import signal
import time
from collections.abc import Iterator, Mapping
from typing import Any

import ray
import ray.util
import torch
import torch.distributed as dist
from ray import tune
from ray.exceptions import RayError
from ray.tune.trainable import FunctionTrainable, wrap_function
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy
from torch.distributed import TCPStore  # type: ignore[attr-defined]

import arcore
from arcore.process_tuning import flushed_denormals
from pipeline.cluster import connection
from pipeline.cluster.network_interface import choose_interface
from pipeline.core import stage_code
from pipeline.core.errors import SiteError, UserError, one_line
from pipeline.core.stage_code import check_host
from pipeline.experiments.schema import ClusterConfig
from pipeline.search.spec import SECONDS, SearchRun
from pipeline.search.trials import checkpoints_of
from pipeline.training import driver
from pipeline.training.resolved import fit
from pipeline.training.training_records import (
    BEST,
    TIME,
    EpochRecord,
    Failed,
    Finished,
    Session,
    TrainingJob,
    TrainingOutcome,
)

NUMBER, KNOWN = "number", "known"  # keys of a trial's configuration next to its values
DRAWN = 16  # samples
LENGTH = 256  # of events of any length
REPEATS = 3
CAUSE_SECONDS = 10.0  # for which the error of a lost worker is waited for


def trainable(run: SearchRun) -> type[FunctionTrainable]:
    """Return `run_trial` as Ray Tune runs it, in a process that ends without a word."""

    class Trial(wrap_function(functools.partial(run_trial, run=run))):  # type: ignore[misc]
        def cleanup(self) -> None:
            """Leave the last trial of this process, which Ray then ends by SIGTERM.

            Ray's handler would raise SystemExit in whatever runs at that moment, mostly code of
            Ray's that cannot raise, which prints a traceback to the driver.
            """
            super().cleanup()
            signal.signal(signal.SIGTERM, signal.SIG_DFL)

    return Trial


def run_trial(drawn: Mapping[str, str | float], *, run: SearchRun) -> None:
    """Train with the values of a trial and report to Ray Tune, in Ray Tune's process.

    `drawn` has the encoded values, the trial's number, and the last epoch that the search knows. An
    invalid combination, or one whose loss is not finite, is reported; it does not fail the search.
    """
    logging.getLogger("ray").setLevel(logging.WARNING)
    search = run.search
    values = {p.name: p.decode(drawn[p.name]) for p in search.space}
    try:
        own = stage_code.code_sha256("train", str(search.base.model["name"]))
        check_host(run.code_sha256, own)  # before other code refuses values that it lacks
        config = dataclasses.replace(search.experiment(values), cluster=run.resources)
        job = driver.make_job(
            fit(config, run.manifest),
            checkpoints_of(run.place, int(drawn[NUMBER])),
            threads=run.resources.cpus_per_worker or 1,
            quiet=True,
            shards=run.shards,
        )
        outcome = _train(job, run, int(drawn[KNOWN]))
    except SiteError:  # which Ray Tune tries again, and a rerun
        raise
    except torch.OutOfMemoryError as error:  # of an accelerator, which the trial has alone
        outcome = Failed(one_line(error))
    except OSError as error:  # of a disk or a storage, whatever the trial has
        raise SiteError(one_line(error)) from error
    except UserError as error:
        outcome = Failed(str(error))
    if isinstance(outcome, Failed):  # a scheduler compares it as of the first epoch
        tune.report({TIME: 1, BEST: math.inf, "problem": outcome.reason})


def _train(job: TrainingJob, run: SearchRun, known: int) -> TrainingOutcome:
    """Train a trial from its last checkpoint on.

    What the checkpoint has and the search does not know is reported first: a kill may have come
    between the two. At least the last epoch is, so that Ray Tune has a result of a trial of which
    nothing is left to train.
    """
    from pipeline.training.worker import Worker

    def report(record: EpochRecord, finished: bool) -> None:
        if record.epoch >= known:
            tune.report(record.to_dict() | {"finished": finished})

    cluster = run.resources
    device = torch.device("cuda" if cluster.use_gpu else "cpu")
    session = Session(0, connection.num_workers(cluster), device, report=report)
    with flushed_denormals(), trial_workers(job, cluster, session):
        worker = Worker(job, session)
        progress = worker.progress
        is_finished = progress.is_finished(job.trainer)
        for record in progress.history:
            report(record, is_finished and record.epoch == progress.epoch)
        outcome = worker.run()
    if isinstance(outcome, Finished) and SECONDS in run.search.plan.objectives:
        last = progress.history[-1].to_dict() | {"finished": True}
        tune.report(last | {SECONDS: seconds_to_sample(worker.model)})
    return outcome


def seconds_to_sample(model: arcore.AutoregressiveModel) -> float:
    """Return the processor's seconds of drawing 16 events, 256 long where they have any length.

    The least of three times, by the threads that training had; classes come in turn.
    """
    twin = model.of_length(LENGTH) if model.event.is_open else model
    condition = None
    if model.num_classes is not None:
        condition = torch.arange(DRAWN, device=model.device) % model.num_classes
    generator = torch.Generator(model.device).manual_seed(0)
    clock = time.process_time if model.device.type == "cpu" else time.perf_counter
    was_training = twin.training
    twin.eval()
    times = []
    for _ in range(REPEATS):
        began = clock()
        twin.sample(DRAWN, condition, generator).cpu()
        times.append(clock() - began)
    twin.train(was_training)
    return min(times)


@ray.remote
class TrialWorker:
    """A worker of a trial but the first."""

    def train(self, job: TrainingJob, session: Session, host: str, port: int) -> None:
        """Train until the first worker is done, at whose host and port all meet."""
        from pipeline.training.worker import Worker

        store = TCPStore(host, port, session.world, is_master=False)
        with flushed_denormals(), _process_group(store, session):
            Worker(job, session).run()


def bundles(cluster: ClusterConfig) -> list[dict[str, float]]:
    """Return what Ray Tune reserves for a trial: CPUs, and a GPU if asked for, of each worker."""
    each = {"CPU": float(cluster.cpus_per_worker or 1)} | ({"GPU": 1.0} if cluster.use_gpu else {})
    return [each] * connection.num_workers(cluster)


@contextlib.contextmanager
def trial_workers(job: TrainingJob, cluster: ClusterConfig, session: Session) -> Iterator[None]:
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
    others = [_start(cluster, rank) for rank in range(1, world)]
    sessions = [dataclasses.replace(session, rank=rank, report=None) for rank in range(1, world)]
    ends = [
        other.train.remote(job, one, host, store.port)
        for other, one in zip(others, sessions, strict=True)
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


def _start(cluster: ClusterConfig, rank: int) -> Any:
    """Start a worker in its part of what is reserved for the trial."""
    group = ray.util.get_current_placement_group()
    place = PlacementGroupSchedulingStrategy(group, placement_group_bundle_index=rank)
    return TrialWorker.options(  # type: ignore[attr-defined]
        num_cpus=cluster.cpus_per_worker or 1,
        num_gpus=1 if cluster.use_gpu else 0,
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
