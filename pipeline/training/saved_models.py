"""Models from a configuration, and trained ones from models/<experiment>/."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import yaml

import arcore
from pipeline.core import paths
from pipeline.core.errors import UserError, one_line
from pipeline.data import shard_reader
from pipeline.training import checkpoints


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


def check_condition(model: arcore.AutoregressiveModel, manifest: shard_reader.Manifest) -> None:
    """Check that a dataset's rows come with the condition that a model asks for.

    Raises:
        UserError: naming the hyperparameter.
    """
    for name, asked in model.hyperparameters.asked_conditions().items():
        known = manifest.conditions.get(name)
        if asked != known:
            expected = "null" if known is None else f"null or {known}"
            where = f"for dataset {manifest.dataset}"
            raise UserError(f"model.{name}: expected {expected}, got {asked}, {where}")


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
        raise UserError(f"{folder}: damaged model folder: {one_line(error)}") from None
    model = create_model(config["model"], event)
    checkpoints.load_weights(folder / "model.safetensors", model)
    return model.eval(), config, training
