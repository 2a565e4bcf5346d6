"""From DVC's outputs to MLflow's registry: idempotent, by content hash.

DVC's files decide; the registry mirrors them, and a lost database is rebuilt from them.
"""

from __future__ import annotations

import contextlib
import csv
import hashlib
import io
import json
import logging
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.core import paths
from pipeline.core.errors import UserError
from pipeline.evaluation import results
from pipeline.registry import exporting
from pipeline.tracking import mlflow_store, run_logger

if TYPE_CHECKING:
    from mlflow import MlflowClient

log = logging.getLogger(__name__)

HASH = "arcore.sha256"
CHAMPION = "champion"
# What may change without changing the model; the number of members is hashed apart.
_VOLATILE = ("cluster", "evaluation")


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """An evaluated experiment that is to be registered.

    Attributes:
        result: its test results.
        folder: `models/<experiment>`.
        training: the content of `training.json`.
        sha256: of the weights, the config without volatile keys, and the test and validation nats.
    """

    result: results.Result
    folder: Path
    training: Mapping[str, Any]
    sha256: str


def registered_name(dataset: str) -> str:
    """Return the registered model's name, one for each dataset.

    Example:
        >>> registered_name("digits_binary")
        'arcore-digits-binary'
    """
    return f"arcore-{dataset.replace('_', '-')}"


def alias_of(experiment: str) -> str:
    """Return an experiment's alias, within MLflow's rules.

    Example:
        >>> alias_of("digits-made.v2"), alias_of("v2"), alias_of("latest")
        ('digits-made-v2', 'experiment-v2', 'experiment-latest')
    """
    alias = re.sub(r"[^A-Za-z0-9_-]", "-", experiment)[:200]
    reserved = re.fullmatch(r"[vV]\d+", alias) or alias.lower() in ("latest", CHAMPION)
    return f"experiment-{alias}" if reserved else alias


def content_hash(folder: Path, config: Mapping[str, Any], result: results.Result) -> str:
    """Hash what makes a model version: weights, members, config without volatile keys, nats."""
    kept = {key: value for key, value in config.items() if key not in _VOLATILE}
    digest = hashlib.sha256()
    with open(folder / "model.safetensors", "rb") as weights:
        digest.update(hashlib.file_digest(weights, "sha256").digest())
    described = [kept, result.num_members, result.context_frames, result.nats, result.valid_nats]
    digest.update(json.dumps(described, sort_keys=True, default=str).encode())
    return digest.hexdigest()


def candidates(dataset: str) -> list[Candidate]:
    """Return every evaluated experiment of a dataset, by name; outcomes over folds have no model.

    Raises:
        UserError: if none is evaluated, or a model's files are missing or malformed.
    """
    found = []
    for result in results.read_results(dataset):
        if result.num_folds > 1:
            continue
        folder = paths.model(result.experiment)
        if not (folder / "model.safetensors").is_file():
            raise UserError(f"{folder / 'model.safetensors'}: missing; train the experiment first")
        training = results.read_json(folder / "training.json")
        sha256 = content_hash(folder, result.config, result)
        found.append(Candidate(result=result, folder=folder, training=training, sha256=sha256))
    return found


def register_dataset(dataset: str) -> dict[str, Any]:
    """Register every evaluated experiment of a dataset; return what the registry now holds.

    A version whose content hash is already there is reused, so a second call makes nothing. Each
    experiment's version carries an alias named after it. `champion` goes to the lowest VALIDATION
    nats: choosing by the test split would make its numbers optimistic. A model that is only bounded
    competes with its bound, above its true nats, so that it wins no title that it does not deserve
    (it may miss one), and its version's tag `exact` is False. The champion stays where it is if
    an experiment unknown here, on the same data, validates better.

    Raises:
        UserError: if the store cannot be reached, or nothing is evaluated.
    """
    found = candidates(dataset)
    store = mlflow_store.require_store()
    name = registered_name(dataset)
    _ensure_model(store, name, dataset)
    existing = {
        version.tags[HASH]: version for version in _versions(store, name) if HASH in version.tags
    }
    entries: dict[str, Any] = {}
    for candidate in found:
        version = existing.get(candidate.sha256)
        if version is None:
            version = _register(store, name, dataset, candidate)
        alias = alias_of(candidate.result.experiment)
        _point(store, name, alias, str(version.version))
        entries[candidate.result.experiment] = {
            "version": int(version.version),
            "sha256": candidate.sha256,
            "alias": alias,
            "run_id": version.run_id,
            "valid_nats": candidate.result.valid_nats,
            "test_nats": candidate.result.nats,
        }
    champion = _choose_champion(store, name, found, entries)
    return {"name": name, "dataset": dataset, "champion": champion, "experiments": entries}


def _ensure_model(store: MlflowClient, name: str, dataset: str) -> None:
    from mlflow.exceptions import MlflowException

    try:
        store.create_registered_model(
            name, tags={"dataset": dataset}, description=f"Density models of {dataset} (arcore)."
        )
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise


def _versions(store: MlflowClient, name: str) -> list[Any]:
    found: list[Any] = []
    token = None
    while True:
        page = store.search_model_versions(f"name = '{name}'", page_token=token)
        found.extend(page)
        token = page.token
        if not token:
            return found


def _point(store: MlflowClient, name: str, alias: str, version: str) -> None:
    if str(_aliases(store, name).get(alias)) != version:
        store.set_registered_model_alias(name, alias, version)


def _aliases(store: MlflowClient, name: str) -> dict[str, Any]:
    return dict(store.get_registered_model(name).aliases)


def _choose_champion(
    store: MlflowClient, name: str, found: list[Candidate], entries: Mapping[str, Any]
) -> dict[str, Any] | None:
    ranked = sorted(
        (candidate.result.valid_nats, candidate.result.experiment)
        for candidate in found
        if candidate.result.valid_nats is not None
    )
    if not ranked:
        log.warning("warning: no valid_nats in any metrics.json; %s has no champion", name)
        return None
    best, experiment = ranked[0]
    current = _aliases(store, name).get(CHAMPION)
    if current is not None:
        tags = store.get_model_version(name, str(current)).tags
        same_data = tags.get("dataset_sha256") in {
            str(candidate.result.config.get("dataset_sha256")) for candidate in found
        }
        foreign = tags.get("experiment") not in entries
        if foreign and same_data and float(tags.get("valid_nats", math.inf)) < best:
            log.info("champion of %s stays version %s (%s)", name, current, tags["experiment"])
            return {"experiment": tags["experiment"], "version": int(current)}
    version = entries[experiment]["version"]
    _point(store, name, CHAMPION, str(version))
    return {"experiment": experiment, "version": version}


def _register(store: MlflowClient, name: str, dataset: str, candidate: Candidate) -> Any:
    result, training = candidate.result, candidate.training
    run_id = _run_of(store, dataset, candidate)
    uri = exporting.log_exported_model(
        run_id,
        candidate.folder,
        result.num_members,
        str(store.tracking_uri),
        result.context_frames,
    )
    tags = {
        HASH: candidate.sha256,
        "experiment": result.experiment,
        "model": result.model,
        "num_members": result.num_members,
        "dataset": dataset,
        "dataset_sha256": result.config.get("dataset_sha256"),
        "commit": training.get("commit"),
        "exact": result.exact,
        "test_nats": result.nats,
        "test_nats_stderr": result.nats_stderr,
        "test_bits_per_dim": result.bits_per_dim,
        "valid_nats": result.valid_nats,
    }
    known = {key: str(value) for key, value in tags.items() if value is not None}
    # register_model reports on stderr by print, which no log level silences.
    with (
        mlflow_store.fluent(str(store.tracking_uri)) as mlflow,
        contextlib.redirect_stderr(io.StringIO()),
    ):
        version = mlflow.register_model(uri, name, tags=known)
    log.info("registered %s version %s (%s)", name, version.version, result.experiment)
    return version


def _run_of(store: MlflowClient, dataset: str, candidate: Candidate) -> str:
    """Return the training's run; where the store has lost it, a run rebuilt from the files."""
    from mlflow.exceptions import MlflowException

    training, result = candidate.training, candidate.result
    run_id = training.get("run_id")
    if run_id:
        try:
            run = store.get_run(str(run_id))
            if run.info.lifecycle_stage != "deleted":
                return str(run.info.run_id)
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
    experiment = str(training.get("mlflow_experiment") or registered_name(dataset))
    where = mlflow_store.experiment_id(store, experiment)
    rebuilt = mlflow_store.find_runs(store, where, HASH, candidate.sha256)
    if rebuilt:
        return str(rebuilt[0].info.run_id)
    log.info("run of %s is not in this store; rebuilding it", result.experiment)
    new = mlflow_store.start_run(
        experiment,
        result.experiment,
        f"rebuilt-{candidate.sha256}",
        mlflow_store.flatten(result.config),
        {
            "arcore.rebuilt": "true",
            "arcore.commit": str(training.get("commit")),
            "arcore.dataset_sha256": str(result.config.get("dataset_sha256")),
        },
    )
    if new is None:
        raise UserError(f"MLflow store {store.tracking_uri} stopped answering")
    _relog(run_logger.RunLogger(new, str(store.tracking_uri)), candidate)
    store.set_tag(new, HASH, candidate.sha256)
    return new


def _relog(logger: run_logger.RunLogger, candidate: Candidate) -> None:
    result = candidate.result
    history = candidate.folder / "history.csv"
    if history.is_file():
        with open(history, newline="") as rows:
            for row in csv.DictReader(rows):
                step = int(float(row.get("epoch") or 0))
                logger.metrics(_numbers(row, ("epoch", "step")), step)
    final = {
        "test_nats": result.nats,
        "test_nats_stderr": result.nats_stderr,
        "test_bits_per_dim": result.bits_per_dim,
        "num_parameters": result.num_parameters,
        "train_seconds": result.train_seconds,
    }
    logger.metrics({key: value for key, value in final.items() if value is not None})
    for picture in ("learning_curve.png", "samples.png"):
        if (result.folder / picture).is_file():
            logger.artifact(result.folder / picture)
    logger.finish()


def _numbers(row: Mapping[str, str], without: tuple[str, ...]) -> dict[str, float]:
    numbers = {}
    for key, value in row.items():
        if key in without or not value:
            continue
        try:
            numbers[key] = float(value)
        except ValueError:
            continue
    return numbers
