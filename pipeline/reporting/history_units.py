"""Values of a training's history in the unit of its dataset's table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch

import arcore
from arcore.events import Event
from arcore.units import nats_to, nats_to_bits_per_dim
from pipeline.core.errors import UserError
from pipeline.evaluation.reading import ModelConfig

BITS = "valid_bits_per_dim"


def in_unit(
    rows: Sequence[Mapping[str, str]], key: str, unit: str, config: ModelConfig
) -> list[float]:
    """Convert a column of a history: nats of what the model's own loss counts, row by row.

    A history has the bits of events of open length for validation alone: the lengths of the rows
    of training are not recorded.
    """
    nats = [float(row[key]) for row in rows]
    if unit == "nats":
        return nats
    if unit == "bits_per_dim" and key == "valid_nats" and all(row.get(BITS) for row in rows):
        return [float(row[BITS]) for row in rows]
    event = _trained_event(config)
    if unit != "bits_per_dim":
        return [nats_to(unit, value, event) for value in nats]
    if event.is_open:
        named = config.content.get("name")
        raise UserError(f"history.csv of {named}: expected {BITS} with each {key}")
    return [nats_to_bits_per_dim(value, event) for value in nats]


def _trained_event(config: ModelConfig) -> Event:
    """Return what a model's own loss counts, maybe more frames of a clip than the protocol's."""
    hyperparameters = {key: value for key, value in config.model.items() if key != "name"}
    with torch.device("meta"):
        model = arcore.create_model(config.model_name, config.event, **hyperparameters)
    return model.scored_event
