"""Training an experiment with Ray Train: the driver's side."""

import dataclasses
import logging
import os
import shutil
import signal
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch

from arcore import process_tuning, saving
from pipeline import stage
from pipeline.artifacts import artifact
from pipeline.artifacts.artifact import Artifact
from pipeline.artifacts.writer import Work
from pipeline.cluster import connection
from pipeline.cluster.devices import local_device
from pipeline.cluster.shared_storage import (
    publish_shards,
    run_key,
    shared_storage,
    storage_of,
)
from pipeline.core import paths, private_apis, stage_code, storage
from pipeline.core.atomic import sha256_of
from pipeline.core.errors import AskedToStop, UserError, explained, one_line, require
from pipeline.core.records import flat
from pipeline.core.threads import in_thread
from pipeline.data.manifest import read_manifest
from pipeline.experiments.schema import ClusterConfig, ExperimentConfig
from pipeline.stage import Made, Projection
from pipeline.tracking import mlflow_store
from pipeline.training import initial_weights
from pipeline.training.checkpoint_store import CheckpointStore
from pipeline.training.resolved import ResolvedConfig, resolve
from pipeline.training.training_records import (
    Failed,
    Finished,
    Session,
    Stopped,
    TrainingJob,
    TrainingOutcome,
    TrainingRecord,
)
from pipeline.training.worker import run_job, train_worker

log = logging.getLogger(__name__)
FOLDER = "ray"  # next to the checkpoints; Ray finds out there whether all nodes share the storage
START_SECONDS = 300  # for which Ray Train waits for its workers
ELASTIC_SECONDS = 10  # where fewer will do; see below
KEPT = "the last checkpoint is kept, rerun to go on"


@dataclasses.dataclass(frozen=True)
class TrainingRun:
    """A training of an experiment, on the driver.

    Attributes:
        place: folder or URI of its checkpoints, another one for each config hash.
        run_id: of MLflow; None where the store cannot be reached.
    """

    resolved: ResolvedConfig
    place: str
    mlflow_experiment: str
    run_id: str | None

    @property
    def config(self) -> ExperimentConfig:
        """The experiment."""
        return self.resolved.experiment


def train(config: ExperimentConfig, fresh: bool = False) -> Path:
    """Train an experiment and write models/<experiment>/.

    A training that was killed goes on from its last checkpoint in the work folder, unless it is to
    start `fresh`; a finished one leaves nothing there. One that finished before trains again from
    the start, and its folder stays as it is until the new one replaces it.
    """
    wanted = f"an experiment (python -m stages.mix {config.name} fits a mixture's weights)"
    require(not config.mixture, "experiment", wanted, config.name)
    resolved = resolve(config, read_manifest(paths.shards(config.dataset["name"])))
    given = config.trainer.initial_weights
    initial_weights.check(given, resolved.initial_sha256, resolved.build())
    output = artifact.model(config.name, config.dataset["name"])
    folder = f"{config.name}-{resolved.config_hash[:12]}"
    unfinished = storage.join(storage_of(config.cluster), "train"), folder

    def make(work: Work) -> Made[Path]:
        place = storage.join(*unfinished)
        if not storage.exists(place) and (output.folder / output.kind.main).is_file():
            log.info(
                "%s: finished before; training again from scratch, the old model stays until the "
                "new one is whole",
                os.path.relpath(output.folder),
            )
        start = partial(_start, resolved, place, work, fresh)
        if config.cluster.num_workers == 0 and not os.environ.get("RAY_ADDRESS"):
            device = local_device(config.cluster)
            return _finish(start(), partial(_train_here, device=device), output, work)
        with connection.connected():
            connection.require_resources(config.cluster)
            return _finish(start(), _train_on_workers, output, work)

    return stage.run(output, make, work=unfinished, storage=shared_storage(config.cluster))


def _start(resolved: ResolvedConfig, place: str, work: Work, fresh: bool) -> TrainingRun:
    """Start the MLflow run, or go on with the unfinished one; forget checkpoints if asked to."""
    config = resolved.experiment
    experiment = mlflow_store.experiment_of(config.dataset["name"])
    if fresh:
        storage.remove(place)
    work.run_id = mlflow_store.start_run(
        experiment,
        config.name,
        run_key(config.cluster, resolved.config_hash),
        params=flat(resolved.to_dict()),
        tags={"commit": work.commit, "dataset_sha256": resolved.dataset_sha256},
        fresh=not storage.exists(place),  # an unfinished run is that of other checkpoints
    )
    return TrainingRun(resolved, place, experiment, work.run_id)


def _finish(
    run: TrainingRun,
    train_run: Callable[[TrainingRun], TrainingOutcome],
    output: Artifact,
    work: Work,
) -> Made[Path]:
    """Train, and write the model's folder; checkpoints go once that is where it belongs."""
    store = CheckpointStore(run.place)
    finished = _require_finished(run, train_run(run))
    with store.opened(store.names()[0]) as checkpoint:
        record = _write(run, finished, checkpoint, work)
    progress = finished.progress
    best, nats = progress.history[progress.best_epoch - 1], progress.best_nats
    said = (
        f"{run.config.name}: best epoch {best.epoch} of {progress.epoch}, validation {nats:.3f} "
        f"nats ({best.valid_bits_per_dim:.3f} bits/dim), {record.train_seconds:.1f} s; "
        f"wrote {output.folder}"
    )
    return Made(
        output.folder,
        said=[said],
        projection=Projection(curves=progress.curves()),
        finish=partial(storage.remove, run.place),
    )


def _train_here(run: TrainingRun, device: torch.device) -> TrainingOutcome:
    threads = run.config.cluster.cpus_per_worker or torch.get_num_threads()
    job = make_job(run.resolved, run.place, threads=threads, run_id=run.run_id)
    stop = threading.Event()
    failed = explained(f"{run.config.name}: training failed ({KEPT}):", RuntimeError, MemoryError)
    with connection.on_signal(stop.set, signal.SIGTERM, signal.SIGINT), failed:
        return run_job(job, Session(0, 1, device, stop.is_set))


def _train_on_workers(run: TrainingRun) -> TrainingOutcome:
    import ray.train
    from ray.exceptions import RayError

    threads = connection.cpus_per_worker(run.config.cluster)
    job = make_job(run.resolved, run.place, threads=threads, run_id=run.run_id)
    store = CheckpointStore(run.place)
    store.allow_to_run()
    cluster = run.config.cluster
    try:
        with connection.on_signal(store.request_stop, signal.SIGTERM, signal.SIGINT):
            return _fit(cluster, job)
    except ray.train.WorkerGroupError as error:
        what = f"training failed after {cluster.max_failures} restarts ({KEPT}): {cause(error)}"
        raise _failed(run, what) from error
    except ray.train.TrainingFailedError as error:
        raise _failed(run, f"training failed ({KEPT}): {cause(error)}") from error
    except RayError as error:
        raise _failed(run, f"the cluster was lost ({KEPT}): {one_line(error)}") from error


def _fit(cluster: ClusterConfig, job: TrainingJob) -> TrainingOutcome:
    """Train a job, whose storage every node reaches, with restarts; return how it ended.

    In a thread, since in the main one Ray Train replaces our handler of Ctrl-C.
    """
    import ray.train

    from pipeline.cluster.network_interface import ByAddress

    workers, patience = _num_workers(cluster)
    os.environ.setdefault("RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S", str(patience))
    filesystem, path = storage.filesystem(job.checkpoints)
    variables = worker_variables() | {"OMP_NUM_THREADS": str(job.threads)}
    trainer = private_apis.torch_trainer()(
        train_worker,
        train_loop_config={"job": job},
        torch_config=ByAddress(),
        scaling_config=ray.train.ScalingConfig(
            num_workers=workers,
            use_gpu=cluster.use_gpu,
            resources_per_worker={"CPU": job.threads} | ({"GPU": 1} if cluster.use_gpu else {}),
        ),
        run_config=ray.train.RunConfig(
            name=FOLDER,
            storage_path=path,
            storage_filesystem=filesystem,
            failure_config=ray.train.FailureConfig(max_failures=cluster.max_failures),
            worker_runtime_env={"env_vars": variables},
            logging_config=ray.train.LoggingConfig(log_level="WARNING"),
        ),
    )
    outcome: TrainingOutcome = in_thread(trainer.fit).return_value
    return outcome


def _num_workers(cluster: ClusterConfig) -> tuple[int | tuple[int, int], int]:
    """Return the workers that Ray Train starts, or a range of them, and how long it waits."""
    workers = connection.num_workers(cluster)
    if cluster.min_workers is None or cluster.min_workers >= workers:
        return workers, START_SECONDS
    # Ray counts the workers that fit once, then waits; a node just lost may still have counted.
    return (cluster.min_workers, workers), ELASTIC_SECONDS


def worker_variables() -> dict[str, str]:
    """Return the environment variables of each worker's process."""
    variables = {"MLFLOW_TRACKING_URI": mlflow_store.tracking_uri()}
    variables |= process_tuning.ALLOCATOR_VARIABLES
    if "ARCORE_HOME" in os.environ:
        variables["ARCORE_HOME"] = os.environ["ARCORE_HOME"]
    return variables


def make_job(
    resolved: ResolvedConfig,
    place: str,
    *,
    threads: int,
    run_id: str | None = None,
    quiet: bool = False,
    shards: str | None = None,
) -> TrainingJob:
    """Return what a worker must know.

    Where a storage is configured the shards are copied there first, for workers on other hosts,
    unless `shards` says where every worker reaches them.
    """
    config, dataset = resolved.experiment, resolved.experiment.dataset["name"]
    if shards is None:
        shards = publish_shards(config.cluster, paths.shards(dataset), dataset)
    return TrainingJob(
        config_hash=resolved.config_hash,
        code_sha256=stage_code.code_sha256("train", str(resolved.model["name"])),
        event=resolved.event,
        model=resolved.model,
        trainer=config.trainer,
        shards=shards,
        dataset_sha256=resolved.dataset_sha256,
        initial_weights=initial_weights.publish(
            config.cluster, config.trainer.initial_weights, resolved.initial_sha256
        ),
        initial_sha256=resolved.initial_sha256,
        run_id=run_id,
        checkpoints=place,
        threads=threads,
        checkpoint_seconds=60 * config.cluster.checkpoint_minutes,
        quiet=quiet,
    )


def _require_finished(run: TrainingRun, outcome: TrainingOutcome) -> Finished:
    """Return the outcome of a training that finished; else raise how it ended."""
    match outcome:
        case Finished():
            return outcome
        case Failed(reason):
            raise _failed(run, reason)
        case Stopped(step, epoch):
            raise AskedToStop(
                f"{run.config.name}: asked to stop; the checkpoint is kept, rerun to go on: "
                f"step {step} (epoch {epoch})"
            )


def _failed(run: TrainingRun, what: str) -> UserError:
    return UserError(f"{run.config.name}: {what}")


def cause(error: Exception) -> str:
    """Return the last line of a failed worker's traceback, which names the exception."""
    failures = list(getattr(error, "worker_failures", {}).values()) or [error]
    return (str(failures[0]).strip().splitlines() or [type(error).__name__])[-1]


def _write(run: TrainingRun, finished: Finished, checkpoint: Path, work: Work) -> TrainingRecord:
    """Write the folder from the last checkpoint, with the best weights as the model's."""
    progress = finished.progress
    record = TrainingRecord(
        experiment=run.config.name,
        run_id=run.run_id,
        mlflow_experiment=run.mlflow_experiment,
        num_parameters=finished.num_parameters,
        train_seconds=round(progress.seconds, 1),
        device=finished.device,
        num_workers=progress.world,
        precision=progress.precision,
        epochs=progress.epoch,
        best_epoch=progress.best_epoch,
        commit=work.commit,
        epoch_seconds=[row.seconds for row in progress.history],
        weights_sha256=sha256_of(checkpoint / "best.safetensors"),
        initial_weights=run.config.trainer.initial_weights or None,
        initial_weights_sha256=run.resolved.initial_sha256,
    )
    folder = work.folder
    shutil.copyfile(checkpoint / "best.safetensors", folder / "model.safetensors")
    averaged = checkpoint / "averaged.safetensors"
    last = averaged if averaged.exists() else checkpoint / "last.safetensors"
    shutil.copyfile(last, folder / "last.safetensors")
    saving.write_config(run.resolved.build(), folder)
    record.write(folder, run.resolved.to_dict(), (row.to_dict() for row in progress.history))
    return record
