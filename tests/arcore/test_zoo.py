"""create_model: defaults for every event, hyperparameters as plain types, errors that help."""

from __future__ import annotations

import dataclasses
import re

import pytest
import torch

import arcore
from arcore.events import Binary, Event, Levels, Real
from arcore.families.latent import LatentVariableModel
from arcore.zoo import model_class
from tests.arcore.cases import CASES, DISCRETE_MODELS
from tests.arcore.real_cases import REAL_CASES

every_model = pytest.mark.parametrize("name", arcore.list_models())
every_discrete_model = pytest.mark.parametrize("name", DISCRETE_MODELS)
EVENTS = [
    *(kind for shape in ((1,), (1, 1, 1), (2,), (7, 2), (3, 2, 2), (2, 1, 3, 2))
      for kind in (Binary(shape), Levels(2, shape), Levels(256, shape))),
    Binary((1, 28, 28)),
]  # fmt: skip


@every_discrete_model
@pytest.mark.parametrize("event", EVENTS, ids=str)
def test_defaults_build_on_every_supported_event(name: str, event: Event) -> None:
    model = arcore.create_model(name, event)
    x = torch.randint(event.num_levels, (2, *event.shape))
    model(x).mean().backward()
    assert model.log_prob(x).isfinite().all() and model.exact == (
        not isinstance(model, LatentVariableModel)
    )
    assert model.event is event and model.dtype == torch.float32
    if event.size <= 12:
        assert model.sample(2).shape == x.shape


def test_list_and_case_table_cover_every_model() -> None:
    assert {case.model for case in (*CASES, *REAL_CASES)} == set(arcore.list_models())


@every_model
def test_hyperparameters_are_frozen_plain_and_rebuild_the_model(name: str) -> None:
    config = model_class(name).Config()
    plain = config.to_dict()
    for value in plain.values():
        assert isinstance(value, (int, float, str, list, type(None)))
    event = Binary((2,)) if name in DISCRETE_MODELS else Real((2,))
    again = arcore.create_model(name, event, **plain).hyperparameters
    assert again == config
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.hidden = 3
    with pytest.raises(TypeError):
        model_class(name).Config(3)


@every_discrete_model
def test_a_scaled_untrained_model_is_near_uniform(name: str) -> None:
    """Initial weights are random but tame: within half a bit of uniform a dimension."""
    torch.manual_seed(0)
    event = Levels(17, (1, 8, 8))
    nats = -arcore.create_model(name, event).log_prob(torch.randint(17, (50, 1, 8, 8))).mean()
    bits = arcore.units.nats_to_bits_per_dim(nats.item(), event)
    assert bits == pytest.approx(torch.tensor(17.0).log2().item(), abs=0.5)


BINARY = Binary((4,))
BAD = [
    (("nad", BINARY), {}, ["name", "made, ", "'nad'", "did you mean 'nade'"]),
    (("transformer", BINARY), {}, ["name", "made, ", "'transformer'"]),
    ((None, BINARY), {}, ["name", "made, ", "None"]),
    (("nade", Real((4,))), {}, ["event", "Levels", "Real"]),
    (("made", Real((4,))), {}, ["event", "Levels", "Real"]),
    (("nade", (4,)), {}, ["event", "Levels", "(4,)"]),
    (("made", None), {}, ["event", "Levels", "None"]),
    (([1], BINARY), {}, ["name", "nade", "[1]"]),
    (("nade", BINARY), {"ordering_seed": 1 << 31}, ["ordering_seed", "[0, 2^31)", "2147483648"]),
    (("nade", Binary((None,))), {}, ["shape", "fixed", "(None,)"]),
    (("nade", BINARY), {"hiden": 3}, ["nade", "'hiden'", "did you mean 'hidden'"]),
    (("made", BINARY), {"hiden": [3]}, ["made", "'hiden'", "did you mean 'hidden'"]),
    (("made", BINARY), {"block": 3}, ["made", "hyperparameters among hidden", "'block'"]),
    (("nade", BINARY), {"hidden": 0}, ["hidden", ">= 1", "0"]),
    (("nade", BINARY), {"hidden": 2.0}, ["hidden", "integer", "2.0"]),
    (("nade", BINARY), {"hidden": "500"}, ["hidden", "integer", "'500'"]),
    (("nade", BINARY), {"hidden": True}, ["hidden", "integer", "True"]),
    (("nade", BINARY), {"hidden": [500]}, ["hidden", "integer", "(500,)"]),
    (("nade", BINARY), {"block": 0}, ["block", ">= 1", "0"]),
    (("nade", BINARY), {"activation": "gelu"}, ["activation", "sigmoid", "'gelu'"]),
    (("nade", BINARY), {"inputs": "onehot"}, ["inputs", "one_hot", "'onehot'"]),
    (("nade", BINARY), {"ordering": "zigzag"}, ["ordering", "raster", "'zigzag'"]),
    (("nade", BINARY), {"ordering_seed": -1}, ["ordering_seed", "[0, 2^31)", "-1"]),
    (("nade", BINARY), {"num_classes": 0}, ["num_classes", ">= 1", "0"]),
    (("made", BINARY), {"hidden": 500}, ["hidden", "list of widths", "500"]),
    (("made", BINARY), {"hidden": []}, ["hidden", "non-empty", "()"]),
    (("made", BINARY), {"hidden": [8, 0]}, ["hidden", ">= 1", "0"]),
    (("made", BINARY), {"activation": "gelu"}, ["activation", "relu", "'gelu'"]),
    (("made", BINARY), {"inputs": ["scaled"]}, ["inputs", "one_hot", "('scaled',)"]),
    (("made", BINARY), {"ordering": "zigzag"}, ["ordering", "raster", "'zigzag'"]),
    (("made", BINARY), {"num_masks": -1}, ["num_masks", ">= 0", "-1"]),
    (("made", BINARY), {"num_masks": 1, "order_agnostic": True}, ["num_masks", "order_agnostic"]),
    (
        ("made", BINARY),
        {"num_masks": 4, "connectivity_agnostic": False},
        ["num_masks", "order_agnostic or connectivity_agnostic", "4"],
    ),
    (("made", BINARY), {"mask_seed": -1}, ["mask_seed", "[0, 2^31)", "-1"]),
    (("made", BINARY), {"direct": 1}, ["direct", "true or false", "1"]),
    (("made", BINARY), {"order_agnostic": "yes"}, ["order_agnostic", "true or false", "'yes'"]),
    (("made", BINARY), {"dropout": 1.0}, ["dropout", "[0, 1)", "1.0"]),
    (("made", BINARY), {"dropout": "0.5"}, ["dropout", "[0, 1)", "'0.5'"]),
    (("made", BINARY), {"num_classes": 2.5}, ["num_classes", "integer", "2.5"]),
]


@pytest.mark.parametrize(("args", "hyperparameters", "parts"), BAD)
def test_bad_arguments_are_named(
    args: tuple, hyperparameters: dict[str, object], parts: list[str]
) -> None:
    with pytest.raises(ValueError, match="^" + re.escape(parts[0])) as caught:
        arcore.create_model(*args, **hyperparameters)
    assert all(part in str(caught.value) for part in parts), str(caught.value)
