"""Defaults: every model builds with them alone on any event of a kind that it supports."""

import dataclasses

import pytest
import torch

from arcore import units
from arcore.events import Binary, Levels, Real
from arcore.model import AutoregressiveModel
from tests.arcore.cases import CASES, MODELS, every_model, models_where
from tests.support.cases import create, event_of, is_discrete

SHAPES = ((1,), (1, 1, 1), (2,), (7, 2), (3, 2, 2), (2, 1, 3, 2))
DISCRETE = [
    *(Binary(shape) for shape in SHAPES),
    *(Levels(256, shape) for shape in SHAPES[::2]),
    *(Levels(2, shape) for shape in SHAPES[1::4]),
    Binary((1, 28, 28)),
]
REAL = [Real(shape, bin_width=width) for shape in (*SHAPES, (50,)) for width in (None, 1 / 256)]


def builds(kind: type[AutoregressiveModel], event: Levels | Real) -> None:
    shape = (2, *event.extents)
    discrete = isinstance(event, Levels)
    x = torch.randint(event.num_levels, shape) if discrete else torch.rand(shape)
    model = create(kind, event)
    model(x).mean().backward()
    assert model.log_prob(x).isfinite().all() and model.exact == kind.exact
    assert model.event is event and model.dtype == torch.float32
    if event.size <= 50:
        drawn = model.sample(2)
        assert drawn.shape == x.shape and drawn.dtype == x.dtype and drawn.isfinite().all()


@every_model
def test_defaults_build_on_every_event(kind: type[AutoregressiveModel]) -> None:
    for event in DISCRETE if is_discrete(kind) else REAL:
        builds(kind, event)


@every_model
def test_hyperparameters_are_frozen_plain_and_rebuild_the_model(
    kind: type[AutoregressiveModel],
) -> None:
    config = kind.Config()
    plain = config.to_dict()
    for value in plain.values():
        assert isinstance(value, (int, float, str, list, type(None)))
    assert create(kind, event_of(kind), **plain).hyperparameters == config
    for field in dataclasses.fields(config):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(config, field.name, 3)
    with pytest.raises(TypeError):
        kind.Config(3)


@models_where(is_discrete)
def test_a_scaled_untrained_model_is_near_uniform(kind: type[AutoregressiveModel]) -> None:
    """Initial weights are random but tame: within half a bit of uniform a dimension."""
    torch.manual_seed(0)
    event = Levels(17, (1, 8, 8))
    nats = -create(kind, event).log_prob(torch.randint(17, (50, 1, 8, 8))).mean()
    bits = units.nats_to_bits_per_dim(nats.item(), event)
    assert bits == pytest.approx(torch.tensor(17.0).log2().item(), abs=0.5)


@pytest.mark.parametrize("model", sorted({case.model for case in CASES if not case.defined}))
def test_every_hyperparameter_has_a_case_in_which_it_is_another(model: str) -> None:
    elsewhere = {"dropout", "context_frames", "ordering_seed", "mask_seed"}
    cases = [case for case in CASES if case.model == model]
    for field in dataclasses.fields(MODELS[model].Config):
        tried = [case.hyperparameters.get(field.name, field.default) for case in cases]
        assert any(value != field.default for value in tried) or field.name in elsewhere, field.name


def test_every_model_has_cases_and_each_case_a_name_of_its_own() -> None:
    assert {case.model for case in CASES} == set(MODELS)
    names = [case.name for case in CASES]
    assert sorted(names) == sorted(set(names))
    assert all(len(name) <= 40 and name.count("-") for name in names)
