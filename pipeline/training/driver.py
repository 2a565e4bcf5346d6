"""Training an experiment with Ray Train: the driver's side."""

from __future__ import annotations

import csv
import json
import logging
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import yaml

import arcore
from pipeline.cluster import connection
from pipeline.cluster.shared_storage import publish, shared_storage, storage_of
from pipeline.core import paths, provenance, storage
from pipeline.core.atomic import replacing
from pipeline.core.errors import UserError, one_line
from pipeline.data import shard_reader
from pipeline.experiments.schema import ClusterConfig, ExperimentConfig
from pipeline.tracking import mlflow_store, run_logger
from pipeline.training import checkpoints, sessions
from pipeline.training.ray_checkpoints import repair_snapshot
from pipeline.training.saved_models import check_condition, create_model

log = logging.getLogger(__name__)
HISTORY = (
    "epoch", "step", "seconds", "learning_rate", "train_nats", "valid_nats", "valid_bits_per_dim",
)  # fmt: skip


def train(config: ExperimentConfig, fresh: bool = False) -> Path:
    """Train an experiment and write models/<experiment>/.

    A training that was killed goes on from its last checkpoint in the work folder; a finished
    one leaves nothing there. The result is moved into place at the end.

    Arguments:
        config: the experiment.
        fresh: forget an unfinished training of this very experiment.

    Raises:
        UserError: for missing shards, a model that does not fit them, a cluster that cannot be
            reached, or a loss that is not finite.
    """
    manifest = shard_reader.read_manifest(paths.shards(config.dataset["name"]))
    described = describe(config, manifest)
    identity = config.identity(manifest.sha256)
    name = f"{config.name}-{identity[:12]}"
    place = storage.join(storage_of(config.cluster), "train")
    if fresh:
        storage.remove(storage.join(place, name))
    experiment = f"arcore-{config.dataset['name']}"
    commit = provenance.commit()
    run_id = mlflow_store.start_run(
        experiment,
        config.name,
        identity,
        params=mlflow_store.flatten(described),
        tags={"commit": commit, "dataset_sha256": manifest.sha256},
    )
    job = make_job(config, described, identity) | {"run_id": run_id}
    with connection.connected():
        connection.require_resources(config.cluster)
        job["threads"] = connection.cpus_per_worker(config.cluster)
        with connection.on_sigterm(lambda: sessions.request_stop(job["stop_key"])):
            summary, final = _fit(config, job, place, name)
        for ending in ("error", "stopped"):
            if ending in summary:
                failed = ending == "error"
                run_logger.RunLogger(run_id).finish("FAILED" if failed else "KILLED")
                why = "" if failed else "asked to stop; the checkpoint is kept, rerun to go on: "
                raise UserError(f"{config.name}: {why}{summary[ending]}")
        with final.as_directory() as checkpoint:
            summary |= {"run_id": run_id, "mlflow_experiment": experiment, "commit": commit}
            out = _write(config, described, summary, Path(checkpoint))
    run_logger.RunLogger(run_id).finish("FINISHED")
    publish(config.cluster, out, "training.json")
    storage.remove(storage.join(place, name))
    return out


def describe(config: ExperimentConfig, manifest: shard_reader.Manifest) -> dict[str, Any]:
    """Check an experiment against its shards; return the full config that decides its result.

    Raises:
        UserError: for a model that does not fit the data, or members that it does not have.
    """
    with torch.device("meta"):
        model = create_model(config.model, manifest.event)
    _check(config, model, manifest)
    return config.to_dict() | {
        "base": config.base,
        "model": {"name": config.model["name"]} | model.hyperparameters.to_dict(),
        "event": arcore.events.to_dict(manifest.event),
        "dataset_sha256": manifest.sha256,
    }


def make_job(config: ExperimentConfig, described: dict[str, Any], identity: str) -> dict[str, Any]:
    """Return what a worker must know, as plain data; run_id and threads are still to be set.

    Where a storage is configured the shards are copied there first, for workers on other hosts.
    """
    location = str(paths.shards(config.dataset["name"]))
    shared = shared_storage(config.cluster)
    if shared is not None:
        folder = f"{config.dataset['name']}-{described['dataset_sha256'][:12]}"
        copy = storage.join(shared, "shards", folder)
        storage.publish(Path(location), copy)
        location = copy
    return {
        "identity": identity,
        "event": described["event"],
        "model": described["model"],
        "trainer": described["trainer"],
        "shards": location,
        "tracking_uri": mlflow_store.tracking_uri(),
        "stop_key": f"stop-{identity}",
        "checkpoint_seconds": 60 * config.cluster.checkpoint_minutes,
        "run_id": None,
        "quiet": False,
    }


def _check(
    config: ExperimentConfig, model: arcore.AutoregressiveModel, manifest: shard_reader.Manifest
) -> None:
    check_condition(model, manifest)
    members = max(config.trainer.validate_members or 1, config.evaluation.num_members or 1)
    if members > 1:
        try:
            model.ensemble(members)
        except ValueError as error:
            raise UserError(str(error)) from None


def make_trainer(
    config: ClusterConfig,
    job: dict[str, Any],
    place: str,
    name: str,
    callbacks: Sequence[Any] = (),
) -> Any:
    """Return the TorchTrainer of a job, with its checkpoints in `<place>/<name>`."""
    import ray.train
    from ray.train.torch import TorchTrainer

    from pipeline.cluster.gloo_interface import ByAddress
    from pipeline.training.worker import train_worker

    variables = connection.MALLOC | {
        "MLFLOW_TRACKING_URI": job["tracking_uri"],
        "OMP_NUM_THREADS": str(job["threads"]),
    }
    if "ARCORE_HOME" in os.environ:
        variables["ARCORE_HOME"] = os.environ["ARCORE_HOME"]

    class Trainer(TorchTrainer):  # type: ignore[misc]
        """Without the cleaner of orphaned placement groups, which needs Ray's dashboard.

        Ours end with the driver in any case.
        """

        def _create_default_callbacks(self) -> list[Any]:
            callbacks = super()._create_default_callbacks()
            return [c for c in callbacks if type(c).__name__ != "PlacementGroupCleanerCallback"]

    workers: int | tuple[int, int] = config.num_workers
    patience = 300
    if config.min_workers is not None and config.min_workers < config.num_workers:
        workers = (config.min_workers, config.num_workers)
        # Ray counts the workers that fit once, then waits; a node just lost may still have counted.
        patience = 10
    os.environ.setdefault("RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S", str(patience))
    filesystem, path = storage.filesystem(place)
    repair_snapshot(filesystem, f"{path}/{name}")
    return Trainer(
        train_worker,
        train_loop_config=job,
        torch_config=ByAddress(),
        scaling_config=ray.train.ScalingConfig(
            num_workers=workers,
            use_gpu=config.use_gpu,
            resources_per_worker={"CPU": job["threads"]} | ({"GPU": 1} if config.use_gpu else {}),
        ),
        run_config=ray.train.RunConfig(
            name=name,
            storage_path=path,
            storage_filesystem=filesystem,
            failure_config=ray.train.FailureConfig(max_failures=config.max_failures),
            checkpoint_config=ray.train.CheckpointConfig(num_to_keep=2),
            worker_runtime_env={"env_vars": variables},
            logging_config=ray.train.LoggingConfig(log_level="WARNING"),
            callbacks=list(callbacks),
        ),
    )


def _fit(
    config: ExperimentConfig, job: dict[str, Any], place: str, name: str
) -> tuple[dict[str, Any], Any]:
    import ray.train
    from ray.exceptions import RayError

    kept = "the last checkpoint is kept, rerun to go on"
    try:
        sessions.clear_stop(job["stop_key"])
        result = make_trainer(config.cluster, job, place, name).fit()
    except ray.train.WorkerGroupError as error:
        restarts = config.cluster.max_failures
        raise UserError(
            f"{config.name}: training failed after {restarts} restarts ({kept}): {cause(error)}"
        ) from error
    except ray.train.TrainingFailedError as error:
        raise UserError(f"{config.name}: training failed ({kept}): {cause(error)}") from error
    except RayError as error:
        raise UserError(
            f"{config.name}: the cluster was lost ({kept}): {one_line(error)}"
        ) from error
    return dict(result.return_value), result.checkpoint


def cause(error: Exception) -> str:
    """Return the last line of a failed worker's traceback, which names the exception."""
    failures = list(getattr(error, "worker_failures", {}).values()) or [error]
    return (str(failures[0]).strip().splitlines() or [type(error).__name__])[-1]


def _write(
    config: ExperimentConfig, described: dict[str, Any], summary: dict[str, Any], checkpoint: Path
) -> Path:
    state = json.loads((checkpoint / "state.json").read_text())
    progress = checkpoints.Progress(**state["progress"])
    out = paths.model(config.name)
    with replacing(out) as temporary:
        shutil.copyfile(checkpoint / "best.safetensors", temporary / "model.safetensors")
        averaged = checkpoint / "averaged.safetensors"
        last = averaged if averaged.exists() else checkpoint / "last.safetensors"
        shutil.copyfile(last, temporary / "last.safetensors")
        (temporary / "config.yaml").write_text(yaml.safe_dump(described, sort_keys=False))
        with open(temporary / "history.csv", "w", newline="") as file:
            writer = csv.DictWriter(file, HISTORY, lineterminator="\n")
            writer.writeheader()
            writer.writerows(progress.history)
        training = {
            "experiment": config.name,
            "run_id": summary["run_id"],
            "mlflow_experiment": summary["mlflow_experiment"],
            "num_parameters": summary["num_parameters"],
            "train_seconds": round(progress.seconds, 1),
            "device": summary["device"],
            "num_workers": summary["world"],
            "epochs": progress.epoch,
            "best_epoch": progress.best_epoch,
            "commit": summary["commit"],
        }
        (temporary / "training.json").write_text(json.dumps(training, indent=2) + "\n")
    log.info("wrote %s", out)
    return out
