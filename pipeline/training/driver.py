"""Training an experiment with Ray Train: the driver's side."""

from __future__ import annotations

import csv
import dataclasses
import logging
import shutil
import signal
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
import yaml

from arcore import saving
from pipeline.artifacts import artifact
from pipeline.artifacts.writer import alone, writing
from pipeline.cluster import connection
from pipeline.cluster.devices import local_device
from pipeline.cluster.shared_storage import (
    publish_shards,
    run_key,
    shared_storage,
    storage_of,
)
from pipeline.core import paths, stage_code, storage
from pipeline.core.atomic import sha256_of
from pipeline.core.errors import UserError, one_line, require
from pipeline.core.records import flat, write_object
from pipeline.core.threads import in_thread
from pipeline.data.manifest import read_manifest
from pipeline.experiments.schema import ExperimentConfig
from pipeline.tracking import mlflow_store
from pipeline.tracking.run_logger import RunLogger, ended_by_errors
from pipeline.training import checkpoints
from pipeline.training.checkpoint_store import CheckpointStore
from pipeline.training.ray_trainer import make_trainer
from pipeline.training.resolved import ResolvedConfig, resolve, warn_of_frames
from pipeline.training.sessions import LocalSession
from pipeline.training.training_records import (
    COLUMNS,
    Failed,
    Finished,
    Stopped,
    TrainingJob,
    TrainingOutcome,
    TrainingRecord,
)
from pipeline.training.worker import run_job

log = logging.getLogger(__name__)
KEPT = "the last checkpoint is kept, rerun to go on"


@dataclasses.dataclass(frozen=True)
class TrainingRun:
    """A training of an experiment, on the driver.

    Attributes:
        resolved: the experiment with all its hyperparameters.
        place: folder or URI of its checkpoints, another one for each config hash.
        mlflow_experiment: name of the MLflow experiment.
        run_id: of MLflow; None where the store cannot be reached.
        commit: of the code.
    """

    resolved: ResolvedConfig
    place: str
    mlflow_experiment: str
    run_id: str | None
    commit: str

    @property
    def config(self) -> ExperimentConfig:
        """The experiment."""
        return self.resolved.experiment


def _folder(resolved: ResolvedConfig) -> str:
    """Name of a training's folder: another one for each config hash."""
    return f"{resolved.experiment.name}-{resolved.config_hash[:12]}"


def train(config: ExperimentConfig, fresh: bool = False) -> Path:
    """Train an experiment and write models/<experiment>/.

    The experiment is resolved against its shards' manifest (`resolve`), becomes a `TrainingJob`
    (`make_job`), and each worker runs `worker.run_job` with it: `open_split` reads the rows of its
    part, `Learner.step` learns from each batch, and rank 0 writes checkpoints. `_write` makes the
    model's folder from the last checkpoint. A training that was killed goes on from its last
    checkpoint in the work folder; a finished one leaves nothing there.

    Arguments:
        config: the experiment.
        fresh: forget an unfinished training of this very experiment.

    Raises:
        UserError: for another training of the same that runs, missing shards, a model that does not
            fit them, a cluster that cannot be reached, or a loss that is not finite.
    """
    wanted = f"an experiment (python -m stages.mix {config.name} fits a mixture's weights)"
    require(not config.mixture, "experiment", wanted, config.name)
    manifest = read_manifest(paths.shards(config.dataset["name"]))
    resolved = resolve(config, manifest)
    warn_of_frames(resolved, manifest)
    output = artifact.model(config.name, config.dataset["name"])
    work = storage.join(storage_of(config.cluster), "train"), _folder(resolved)
    with alone(output, work=work) as begun:
        return _train(resolved, storage.join(*work), begun.commit, fresh)


def _train(resolved: ResolvedConfig, place: str, commit: str, fresh: bool) -> Path:
    config = resolved.experiment
    if connection.needs_ray(config.cluster):
        with connection.connected():
            connection.require_resources(config.cluster)
            return _complete(_start(resolved, place, commit, fresh), _train_on_workers)
    device = local_device(config.cluster)
    run = _start(resolved, place, commit, fresh)
    return _complete(run, partial(_train_here, device=device))


def _complete(run: TrainingRun, train_run: Callable[[TrainingRun], TrainingOutcome]) -> Path:
    """Train, and finish the MLflow run once the model is where it belongs."""
    with ended_by_errors(run.run_id, AskedToStop):
        out = _finish(run, train_run(run))
        RunLogger(run.run_id).finish("FINISHED")
    storage.discard(run.place)
    return out


class AskedToStop(UserError):
    """A training that was asked to stop, and saved itself."""


def _train_on_workers(run: TrainingRun) -> TrainingOutcome:
    """Train with Ray Train; return how it ended."""
    threads = connection.cpus_per_worker(run.config.cluster)
    job = make_job(run.resolved, run.place, threads=threads, run_id=run.run_id)
    store = CheckpointStore(run.place)
    store.allow_to_run()
    with connection.on_signal(store.request_stop, signal.SIGTERM, signal.SIGINT):
        return _fit(run, job)


def _train_here(run: TrainingRun, device: torch.device) -> TrainingOutcome:
    """Train in this process; return how it ended."""
    threads = run.config.cluster.cpus_per_worker or torch.get_num_threads()
    job = make_job(run.resolved, run.place, threads=threads, run_id=run.run_id)
    session = LocalSession(device)
    with connection.on_signal(session.request_stop, signal.SIGTERM, signal.SIGINT):
        try:
            return run_job(job, session)
        except (RuntimeError, MemoryError) as error:
            raise _failed(run, f"training failed ({KEPT}): {one_line(error)}") from error


def _finish(run: TrainingRun, outcome: TrainingOutcome) -> Path:
    """Write the model's folder of a training that finished."""
    finished = _require_finished(run, outcome)
    store = CheckpointStore(run.place)
    with store.opened(store.names()[0]) as checkpoint:
        return _write(run, finished, checkpoint)


def _start(resolved: ResolvedConfig, place: str, commit: str, fresh: bool) -> TrainingRun:
    """Start the MLflow run, or go on with the unfinished one; forget checkpoints if asked to."""
    config = resolved.experiment
    experiment = mlflow_store.experiment_of(config.dataset["name"])
    if fresh:
        storage.discard(place)
    run_id = mlflow_store.start_run(
        experiment,
        config.name,
        run_key(config.cluster, resolved.config_hash),
        params=flat(resolved.to_dict()),
        tags={"commit": commit, "dataset_sha256": resolved.dataset_sha256},
        fresh=not storage.exists(place),  # an unfinished run is that of other checkpoints
    )
    return TrainingRun(resolved, place, experiment, run_id, commit)


def make_job(
    resolved: ResolvedConfig,
    place: str,
    *,
    threads: int,
    run_id: str | None = None,
    quiet: bool = False,
    shards: str | None = None,
    code_sha256: str | None = None,
) -> TrainingJob:
    """Return what a worker must know.

    Where a storage is configured the shards are copied there first, for workers on other hosts.

    Arguments:
        resolved: the experiment.
        place: folder or URI of its checkpoints.
        threads: of each worker.
        run_id: the MLflow run that rank 0 logs to.
        quiet: print no line per epoch.
        shards: where every worker reaches them, where they are copied already.
        code_sha256: of the driver's code; None for that of this process.
    """
    config, dataset = resolved.experiment, resolved.experiment.dataset["name"]
    if shards is None:
        shards = publish_shards(config.cluster, paths.shards(dataset), dataset)
    return TrainingJob(
        config_hash=resolved.config_hash,
        code_sha256=code_sha256 or stage_code.code_sha256("train", str(resolved.model["name"])),
        event=resolved.event,
        model=resolved.model,
        trainer=config.trainer,
        shards=shards,
        dataset_sha256=resolved.dataset_sha256,
        tracking_uri=mlflow_store.tracking_uri(),
        run_id=run_id,
        checkpoints=place,
        threads=threads,
        checkpoint_seconds=60 * config.cluster.checkpoint_minutes,
        quiet=quiet,
    )


def _fit(run: TrainingRun, job: TrainingJob) -> TrainingOutcome:
    """Train with Ray Train; return how it ended.

    In a thread, since in the main one Ray Train replaces our handler of Ctrl-C.
    """
    import ray.train
    from ray.exceptions import RayError

    cluster = run.config.cluster
    try:
        trainer = make_trainer(cluster, job)
        result = in_thread(trainer.fit)
    except ray.train.WorkerGroupError as error:
        restarts = cluster.max_failures
        what = f"training failed after {restarts} restarts ({KEPT}): {cause(error)}"
        raise _failed(run, what) from error
    except ray.train.TrainingFailedError as error:
        raise _failed(run, f"training failed ({KEPT}): {cause(error)}") from error
    except RayError as error:
        raise _failed(run, f"the cluster was lost ({KEPT}): {one_line(error)}") from error
    return result.return_value


def _require_finished(run: TrainingRun, outcome: TrainingOutcome) -> Finished:
    """Return the outcome of a training that finished.

    Raises:
        UserError: saying how it ended.
    """
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
    """Return the error that says what happened to a training."""
    return UserError(f"{run.config.name}: {what}")


def cause(error: Exception) -> str:
    """Return the last line of a failed worker's traceback, which names the exception."""
    failures = list(getattr(error, "worker_failures", {}).values()) or [error]
    return (str(failures[0]).strip().splitlines() or [type(error).__name__])[-1]


def _write(run: TrainingRun, finished: Finished, checkpoint: Path) -> Path:
    """Write models/<experiment>/ from the last checkpoint, with the best weights as the model's."""
    progress = checkpoints.read_progress(checkpoint)
    record = TrainingRecord(
        experiment=run.config.name,
        run_id=run.run_id,
        mlflow_experiment=run.mlflow_experiment,
        num_parameters=finished.num_parameters,
        train_seconds=round(progress.seconds, 1),
        device=finished.device,
        num_workers=finished.num_workers,
        precision=finished.precision,
        epochs=progress.epoch,
        best_epoch=progress.best_epoch,
        commit=run.commit,
        epoch_seconds=[row.seconds for row in progress.history],
        weights_sha256=sha256_of(checkpoint / "best.safetensors"),
    )
    output = artifact.model(run.config.name, run.config.dataset["name"])
    with writing(output, storage=shared_storage(run.config.cluster)) as folder:
        shutil.copyfile(checkpoint / "best.safetensors", folder / "model.safetensors")
        averaged = checkpoint / "averaged.safetensors"
        last = averaged if averaged.exists() else checkpoint / "last.safetensors"
        shutil.copyfile(last, folder / "last.safetensors")
        saving.write_config(run.resolved.build(), folder)
        config = yaml.safe_dump(run.resolved.to_dict(), sort_keys=False)
        (folder / "config.yaml").write_text(config, encoding="utf-8")
        with open(folder / "history.csv", "w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, COLUMNS, extrasaction="ignore", lineterminator="\n")
            writer.writeheader()
            writer.writerows(row.to_dict() for row in progress.history)
        write_object(folder / "training.json", record.to_dict())
    log.info("wrote %s", output.folder)
    return output.folder
