"""Training an experiment with Ray Train: the driver's side."""

from __future__ import annotations

import csv
import json
import logging
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import yaml

import arcore
from pipeline import checkpoints, cluster, paths, provenance, shards, tracking
from pipeline.config import ExperimentConfig
from pipeline.errors import UserError
from pipeline.files import replacing
from pipeline.registry import flatten

log = logging.getLogger(__name__)
HISTORY = (
    "epoch", "step", "seconds", "learning_rate", "train_nats", "valid_nats", "valid_bits_per_dim",
)  # fmt: skip


def create_model(
    model: Mapping[str, Any], event: arcore.events.Event
) -> arcore.AutoregressiveModel:
    """Create a model from its configuration ({name, ...hyperparameters}).

    Raises:
        UserError: what arcore says of an unknown name, hyperparameter, value or event.
    """
    hyperparameters = {key: value for key, value in model.items() if key != "name"}
    try:
        return arcore.create_model(model["name"], event, **hyperparameters)
    except ValueError as error:
        raise UserError(f"model: {error}") from None


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
    folder = paths.shards(config.dataset["name"])
    manifest = shards.read_manifest(folder)
    with torch.device("meta"):
        model = create_model(config.model, manifest.event)
    _check(config, model, manifest)
    described = config.to_dict() | {
        "model": {"name": config.model["name"]} | model.hyperparameters.to_dict(),
        "event": arcore.events.to_dict(manifest.event),
        "dataset_sha256": manifest.sha256,
    }
    identity = config.identity(manifest.sha256)
    name = f"{config.name}-{identity[:12]}"
    storage = config.cluster.storage or str(paths.work() / "train")
    if fresh and "://" not in storage:
        shutil.rmtree(Path(storage) / name, ignore_errors=True)
    experiment = f"arcore-{config.dataset['name']}"
    commit = provenance.commit()
    run_id = tracking.start_run(
        experiment,
        config.name,
        identity,
        params=flatten(described),
        tags={"commit": commit, "dataset_sha256": manifest.sha256},
    )
    job = {
        "identity": identity,
        "event": described["event"],
        "model": described["model"],
        "trainer": described["trainer"],
        "shards": str(folder),
        "run_id": run_id,
        "tracking_uri": tracking.tracking_uri(),
    }
    with cluster.connected():
        summary, final = _fit(config, job, storage, name)
        if "error" in summary:
            tracking.RunLogger(run_id).finish("FAILED")
            raise UserError(f"{config.name}: {summary['error']}")
        with final.as_directory() as checkpoint:
            summary |= {"run_id": run_id, "mlflow_experiment": experiment, "commit": commit}
            out = _write(config, described, summary, Path(checkpoint))
    tracking.RunLogger(run_id).finish("FINISHED")
    if "://" not in storage:
        shutil.rmtree(Path(storage) / name, ignore_errors=True)
    return out


def _check(
    config: ExperimentConfig, model: arcore.AutoregressiveModel, manifest: shards.Manifest
) -> None:
    if model.num_classes is not None and model.num_classes != manifest.num_classes:
        raise UserError(
            f"model.num_classes: expected {manifest.num_classes} for dataset "
            f"{config.dataset['name']}, got {model.num_classes}"
        )
    members = max(config.trainer.validate_members, config.evaluation.num_members)
    if members > 1:
        if not hasattr(model, "ensemble"):
            raise UserError(f"num_members: expected 1 for {config.model['name']}, got {members}")
        count = getattr(model.hyperparameters, "num_masks", 0)
        if count and members > count:
            raise UserError(f"num_members: expected at most num_masks = {count}, got {members}")


def _fit(
    config: ExperimentConfig, job: dict[str, Any], storage: str, name: str
) -> tuple[dict[str, Any], Any]:
    import ray.train
    from ray.train.torch import TorchTrainer

    from pipeline.worker import train_worker

    cluster.require_resources(config.cluster)
    job["threads"] = cluster.cpus_per_worker(config.cluster)
    variables = cluster.MALLOC | {
        "MLFLOW_TRACKING_URI": job["tracking_uri"],
        "OMP_NUM_THREADS": str(job["threads"]),
    }
    if "ARCORE_HOME" in os.environ:
        variables["ARCORE_HOME"] = os.environ["ARCORE_HOME"]

    class Trainer(TorchTrainer):  # type: ignore[misc]
        """Without the cleaner of orphaned placement groups, which needs Ray's dashboard."""

        def _create_default_callbacks(self) -> list[Any]:
            callbacks = super()._create_default_callbacks()
            if "RAY_ADDRESS" in os.environ:
                return list(callbacks)
            return [c for c in callbacks if type(c).__name__ != "PlacementGroupCleanerCallback"]

    trainer = Trainer(
        train_worker,
        train_loop_config=job,
        scaling_config=ray.train.ScalingConfig(
            num_workers=config.cluster.num_workers,
            use_gpu=config.cluster.use_gpu,
            resources_per_worker={"CPU": job["threads"]}
            | ({"GPU": 1} if config.cluster.use_gpu else {}),
        ),
        run_config=ray.train.RunConfig(
            name=name,
            storage_path=storage,
            failure_config=ray.train.FailureConfig(max_failures=config.cluster.max_failures),
            checkpoint_config=ray.train.CheckpointConfig(num_to_keep=2),
            worker_runtime_env={"env_vars": variables},
            logging_config=ray.train.LoggingConfig(log_level="WARNING"),
        ),
    )
    try:
        result = trainer.fit()
    except ray.train.TrainingFailedError as error:
        raise UserError(
            f"{config.name}: training failed after {config.cluster.max_failures} restarts "
            f"(the last checkpoint is kept, rerun to go on): {_cause(error)}"
        ) from error
    return dict(result.return_value), result.checkpoint


def _cause(error: Exception) -> str:
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


def load(experiment: str) -> tuple[arcore.AutoregressiveModel, dict[str, Any], dict[str, Any]]:
    """Load a trained model; return it with its config and its training record.

    Raises:
        UserError: if it has not been trained, or its files are damaged or of another architecture.
    """
    folder = paths.model(experiment)
    try:
        config = yaml.safe_load((folder / "config.yaml").read_text())
        training = json.loads((folder / "training.json").read_text())
        event = arcore.events.from_dict(config["event"])
    except FileNotFoundError as error:
        raise UserError(
            f"{error.filename}: expected the trained model of {experiment!r}, found none; run "
            f"python -m stages.train {experiment}"
        ) from None
    except (ValueError, KeyError, TypeError, yaml.YAMLError) as error:
        raise UserError(f"{folder}: damaged model folder: {tracking.one_line(error)}") from None
    model = create_model(config["model"], event)
    checkpoints.load_weights(folder / "model.safetensors", model)
    return model.eval(), config, training
