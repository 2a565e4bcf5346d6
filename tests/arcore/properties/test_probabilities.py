"""Properties of scores: probabilities sum to one, conditionals add up, rows do not mix."""

import math

import pytest
import torch
from torch.testing import assert_close

from arcore import units
from arcore.events import Levels
from arcore.model import AutoregressiveModel
from tests.arcore.cases import FEWEST, cases_where, every_case, every_option, models_where
from tests.support.cases import Case, create, draws_noise, is_discrete
from tests.support.statistics import all_levels

TIGHT = {"rtol": 1e-9, "atol": 1e-9}


def is_summed(case: Case) -> bool:
    """Whether values are few, or thousands by a head that torch does not normalize."""
    own_head = case in FEWEST and case.hyperparameters.get("head") == "logistic_mixture"
    return case.discrete and (case.num_states <= 600 or own_head)


@cases_where(is_summed, tiny=True)
def test_probabilities_sum_to_one(case: Case) -> None:
    """For every condition, or the last one where the values are thousands."""
    model, x = case.build_exact(), all_levels(case.event)
    conditions = case.conditions(len(x))
    for condition in conditions if len(x) <= 600 else conditions[-1:]:
        with torch.no_grad():
            total = model.log_prob(x, condition).exp().sum().item()
        assert total == pytest.approx(1, abs=1e-9)


@every_case
def test_log_prob_is_the_sum_of_the_conditionals_log_prob(case: Case) -> None:
    model, x, condition = case.build_exact(), case.values(7), case.condition(7)
    conditionals = model.conditionals(x, condition)
    assert conditionals.batch_shape == x.shape
    terms = conditionals.log_prob(x.double())
    assert_close(model.log_prob(x, condition), terms.flatten(1).sum(1), **TIGHT)
    if not draws_noise(model):
        assert_close(model(x, condition), -model.log_prob(x, condition), rtol=0, atol=0)


@every_case
def test_conditions_differ_and_examples_do_not_mix(case: Case) -> None:
    model, x, condition = case.build(), case.values(3), case.condition(3)
    scores = model.log_prob(x, condition)
    for i in range(len(x)):
        label = None if condition is None else condition[i : i + 1]
        assert_close(model.log_prob(x[i : i + 1], label), scores[i : i + 1], **TIGHT)
    if condition is not None:
        assert not torch.equal(scores, model.log_prob(x, condition.roll(1, 0)))


@every_option
def test_empty_batch(case: Case) -> None:
    model = case.build()
    assert model.log_prob(case.values(0), case.condition(0)).shape == (0,)
    losses = model(case.values(0), case.condition(0))
    assert losses.shape == (0,)
    losses.sum().backward()


@cases_where(lambda case: case.discrete and case.hyperparameters.get("head") != "logistic_mixture")
def test_zero_parameters_are_uniform(case: Case) -> None:
    model = case.build()
    for parameter in model.parameters():
        parameter.data.zero_()
    uniform = -math.log(case.num_states)
    expected = torch.full((5,), uniform, dtype=torch.float64)
    assert_close(model.log_prob(case.values(5), case.condition(5)), expected, rtol=1e-14, atol=0)


@models_where(is_discrete)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16], ids=str)
def test_zero_parameters_cost_8_bits_per_dim_at_256_levels(
    kind: type[AutoregressiveModel], dtype: torch.dtype
) -> None:
    event = Levels(256, (1, 2, 2))
    model = create(kind, event).to(dtype)
    for parameter in model.parameters():
        parameter.data.zero_()
    nats = -model.log_prob(torch.tensor([0, 17, 128, 255]).view(1, 1, 2, 2)).item()
    assert units.nats_to_bits_per_dim(nats, event) == pytest.approx(
        8, abs=1e-12 if dtype == torch.float64 else 1e-5
    )
