"""Mixing trained experiments: their weights in the mixture, fitted to the validation rows."""

from __future__ import annotations

import csv
import json
import logging
import os
import time
from collections.abc import Sequence
from pathlib import Path

import torch
import yaml
from tqdm import tqdm

import arcore
from arcore.mixtures import fit_weights
from pipeline.cluster import shared_storage
from pipeline.core import locks, paths, provenance
from pipeline.core.atomic import replacing
from pipeline.core.errors import UserError
from pipeline.data import shard_reader
from pipeline.data.manifest import Manifest
from pipeline.evaluation import scoring
from pipeline.experiments.schema import ExperimentConfig
from pipeline.tracking import mlflow_store
from pipeline.tracking.run_logger import RunLogger
from pipeline.training import saved_models
from pipeline.training.records import COLUMNS, TrainingRecord, sha256_of
from pipeline.training.resolved import ResolvedConfig, resolve
from pipeline.training.saved_models import TrainedModel

log = logging.getLogger(__name__)


def mix(config: ExperimentConfig) -> Path:
    """Mix the trained members of a mixture; write models/<mixture>/, a model like any other.

    Each member scores the validation rows, and expectation maximisation fits the weights to those
    scores (`arcore.mixtures.fit_weights`); neither sees a training or a test row. history.csv has
    the validation nats after each iteration, config.yaml the weights by the names of the members.

    Arguments:
        config: of an entry of `mixtures`, as `compose.load` gives it.

    Raises:
        UserError: for a member that is not trained, or not as its experiment says, that has no
            exact likelihood, or scores clips of which frames are given.
    """
    with locks.held(locks.path_of(f"mix-{config.name}"), f"mixing {config.name}"):
        return _mix(config)


def _mix(config: ExperimentConfig) -> Path:
    began = time.perf_counter()
    manifest = shard_reader.read_manifest(paths.shards(config.dataset["name"]))
    if manifest.context_frames:
        raise UserError(f"{config.name}: expected whole events, got clips given their first frames")
    resolved = resolve(config, manifest)
    trained = [saved_models.load(name) for name in config.mixture]
    mixture = _mixture(resolved, trained, manifest)
    scores = _valid_scores(mixture, config, manifest)
    weights, history = fit_weights(-scores)
    mixture.weights.copy_(weights)
    shares = dict(zip(config.mixture, weights.tolist(), strict=True))
    out = paths.model(config.name)
    experiment = f"arcore-{manifest.dataset}"
    run_id = mlflow_store.start_run(
        experiment,
        config.name,
        resolved.config_hash,
        params={f"weight {name}": weight for name, weight in shares.items()},
        tags={"commit": provenance.commit(), "dataset_sha256": manifest.sha256},
    )
    with replacing(out) as temporary:
        arcore.save(mixture, temporary / "model")
        for path in (temporary / "model").iterdir():
            os.replace(path, temporary / path.name)
        (temporary / "model").rmdir()
        content = yaml.safe_dump(resolved.to_dict() | {"weights": shares}, sort_keys=False)
        (temporary / "config.yaml").write_text(content, encoding="utf-8")
        _write_history(temporary / "history.csv", history)
        record = TrainingRecord(
            experiment=config.name,
            run_id=run_id,
            mlflow_experiment=experiment,
            num_parameters=sum(p.numel() for p in mixture.parameters()),
            train_seconds=round(_seconds(trained) + time.perf_counter() - began, 1),
            device=provenance.device_name(torch.device("cpu")),
            num_workers=0,
            epochs=len(history) - 1,
            best_epoch=len(history) - 1,
            commit=provenance.commit(),
            weights_sha256=sha256_of(temporary / "model.safetensors"),
        )
        text = json.dumps(record.to_dict(), indent=2)
        (temporary / "training.json").write_text(text + "\n", encoding="utf-8")
    logger = RunLogger(run_id)
    logger.metrics({"best_valid_nats": history[-1]})
    logger.finish("FINISHED")
    shared_storage.publish(config.cluster, out, "training.json")
    said = ", ".join(f"{name} {weight:.3f}" for name, weight in shares.items())
    log.info("%s: valid %.3f nats (%s)", config.name, history[-1], said)
    return out


def _mixture(
    resolved: ResolvedConfig, trained: Sequence[TrainedModel], manifest: Manifest
) -> arcore.Mixture:
    """Mix trained models with equal weights, having checked that they are those wanted."""
    names = resolved.experiment.mixture
    members = resolved.model["members"]
    assert isinstance(members, list)
    for name, one, wanted in zip(names, trained, members, strict=True):
        if one.dataset_sha256 != manifest.sha256:
            raise UserError(
                f"{name}: expected a model of the shards ({manifest.sha256[:12]}), got one of "
                f"others ({one.dataset_sha256[:12]}); train it again"
            )
        found = {"name": one.name, **one.model.hyperparameters.to_dict()}
        if found != {key: value for key, value in wanted.items() if key != "num_members"}:
            raise UserError(
                f"models/{name}: expected a model as its experiment has it, got one of other "
                "hyperparameters; train it again"
            )
    counts = [int(member["num_members"]) for member in members]
    try:
        return arcore.Mixture([one.model for one in trained], num_members=counts).eval()
    except ValueError as error:
        raise UserError(f"{resolved.experiment.name}: {error}") from None


def _valid_scores(
    mixture: arcore.Mixture, config: ExperimentConfig, manifest: Manifest
) -> torch.Tensor:
    """Score the validation rows by each member, (rows, members) nats in float64."""
    valid = shard_reader.read_split(paths.shards(manifest.dataset), "valid")
    mixture.to("cuda" if torch.cuda.is_available() else "cpu")
    columns = []
    shown = zip(config.mixture, mixture, strict=True)
    for name, member in tqdm(shown, total=len(config.mixture), unit="member", disable=None):
        nats = scoring.scores(member, valid, config.evaluation.batch_size)
        if not bool(nats.isfinite().all()):
            raise UserError(f"{name}: expected finite nats for each validation row; train it again")
        columns.append(nats)
    mixture.cpu()
    return torch.stack(columns, 1)


def _seconds(trained: Sequence[TrainedModel]) -> float:
    """Add up how long the members trained, as far as it is on record."""
    return sum(one.record.train_seconds for one in trained if one.record is not None)


def _write_history(path: Path, history: Sequence[float]) -> None:
    """Write a row for each iteration, which counts as an epoch."""
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS, restval="", lineterminator="\n")
        writer.writeheader()
        for epoch, nats in enumerate(history[1:], 1):
            writer.writerow({"epoch": epoch, "step": epoch, "valid_nats": nats})
