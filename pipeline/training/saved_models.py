"""Trained models, from models/<experiment>/."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

import arcore
from pipeline.core import paths
from pipeline.core.errors import UserError, one_line
from pipeline.training import checkpoints
from pipeline.training.records import TrainingRecord, sha256_of
from pipeline.training.resolved import create_model


@dataclass(frozen=True)
class TrainedModel:
    """A model with its weights, and where they came from.

    Attributes:
        model: in evaluation mode, on the CPU.
        name: of the model, as `arcore.list_models()` has it.
        dataset_sha256: of the shards that it was trained on.
        weights_sha256: of the file model.safetensors.
        content: of config.yaml.
        record: of its training; None where DVC restored the folder from its cache.
    """

    model: arcore.AutoregressiveModel
    name: str
    dataset_sha256: str
    weights_sha256: str
    content: Mapping[str, Any]
    record: TrainingRecord | None


def load(experiment: str) -> TrainedModel:
    """Load a trained model from models/<experiment>/, as `pipeline.training.driver` wrote it.

    Raises:
        UserError: if it has not been trained, or its files are damaged or of another architecture.
    """
    try:
        return load_folder(paths.model(experiment))
    except FileNotFoundError as error:
        raise UserError(
            f"{error.filename}: expected the trained model of {experiment!r}, found none; run "
            f"python -m stages.train {experiment}"
        ) from None


def load_folder(folder: Path) -> TrainedModel:
    """Load the model of such a folder, wherever it is.

    Raises:
        FileNotFoundError: for a file that is not there.
        UserError: if its files are damaged or of another architecture.
    """
    try:
        config = yaml.safe_load((folder / "config.yaml").read_text())
        record = TrainingRecord.of(folder)
        event = arcore.events.from_dict(config["event"])
        hyperparameters, sha256 = dict(config["model"]), str(config["dataset_sha256"])
        name = str(hyperparameters["name"])
    except (ValueError, KeyError, TypeError, yaml.YAMLError, UserError) as error:
        raise UserError(f"{folder}: damaged model folder: {one_line(error)}") from None
    model = create_model(hyperparameters, event)
    checkpoints.load_weights(folder / "model.safetensors", model)
    weights = sha256_of(folder / "model.safetensors")
    return TrainedModel(model.eval(), name, sha256, weights, config, record)
