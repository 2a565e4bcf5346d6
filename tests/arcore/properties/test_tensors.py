"""Properties of dtypes, layouts and precision."""

import copy

import torch
from torch.testing import assert_close

from arcore.events import Event, Levels
from arcore.model import AutoregressiveModel
from tests.arcore.cases import FEWEST, cases_where, every_option, models_where
from tests.support.cases import (
    Case,
    create,
    declares,
    draws_noise,
    exact_part,
    is_discrete,
    loss_of,
)

FLOATS = (torch.float32, torch.bfloat16)  # either holds the values of every case
INTEGERS = (torch.uint8, torch.uint16, torch.int32, torch.float64)


@every_option
def test_values_of_any_dtype_and_layout_score_the_same(case: Case) -> None:
    model, x, condition = case.build(), case.values(8), case.condition(8)
    expected = model.log_prob(x, condition)
    for dtype in (*FLOATS, *(INTEGERS if case.discrete else ())):
        assert_close(model.log_prob(x.to(dtype), condition), expected, rtol=0, atol=0)
    strided = x.unsqueeze(-1).repeat_interleave(2, -1)[..., 0]
    assert_close(model.log_prob(strided, condition), expected, rtol=0, atol=0)
    if case.discrete and case.event.num_levels == 2:
        assert_close(model.log_prob(x.bool(), condition), expected, rtol=0, atol=0)


@every_option
def test_lower_precision_is_close_and_finite(case: Case) -> None:
    """Autocast changes nothing over reals: means of 8 bits would be no densities of anything.

    Over levels its error is measured over the batch. Products round log-scales to 8 bits, on each
    processor in other ways, and a row far in a logistic's tails costs exp(-log-scale) nats.
    """
    model, x, condition = case.build(), case.values(16), case.condition(16)
    exact = loss_of(model, x, condition)
    model.float()
    for autocast in (False, True):
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            loss = loss_of(model, x if case.discrete else x.float(), condition)
        assert loss.dtype == torch.float32 and loss.shape == (16,)
        if autocast and case.discrete:
            assert (loss - exact).abs().sum() < 0.05 * exact.abs().sum()
        else:
            tolerance = 1e-5 if case.discrete else 1e-4
            assert_close(loss.double(), exact, rtol=tolerance, atol=tolerance)
        model.zero_grad()
        loss.mean().backward()
        infinite = [name for name, p in model.named_parameters() if not p.grad.isfinite().all()]
        assert not infinite, [(n, model.get_parameter(n).grad) for n in infinite]


@cases_where(lambda case: case in FEWEST and not case.follows_autocast)
def test_draws_are_from_what_scores_whatever_autocast(case: Case) -> None:
    """Bits of 8 in a sum of hidden units would make other draws of the same numbers."""
    model, condition = case.build().float(), case.condition(64)
    x = case.values(64)
    observed = torch.zeros(model.event.size, dtype=torch.bool)
    observed[model.schedule[0]] = True
    drawn = []
    for enabled in (False, True):
        generator = torch.Generator().manual_seed(0)
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            sampled = model.sample(64, condition, generator)
            view = observed.view(model.event.extents).expand(x.shape)
            imputed = model.impute(x, view, condition, generator)
        drawn.append(torch.cat([sampled, imputed]))
    assert torch.equal(*drawn)


@cases_where(lambda case: case in FEWEST and case.follows_autocast)
def test_draws_under_autocast_are_events(case: Case) -> None:
    model, condition = case.build().float(), case.condition(2)
    with torch.autocast("cpu", torch.bfloat16):
        drawn = model.sample(2, condition, torch.Generator().manual_seed(0))
    model.event.check(drawn)


@models_where(is_discrete)
def test_many_levels_survive_a_bfloat16_model(kind: type[AutoregressiveModel]) -> None:
    model = exact_part(create(kind, Levels(1000, (2,))).to(torch.bfloat16))
    x = torch.tensor([[999, 998], [997, 301]])
    terms = model.conditionals(x).logits.gather(-1, x[..., None]).float().sum((1, 2))
    assert_close(model.log_prob(x), terms)


def many_bits(kind: type[AutoregressiveModel]) -> Event:
    """Four hundred bits: sums of so many terms stop growing in bfloat16, at 256."""
    frames = (2,) if declares(kind, "condition_sequence") else ()
    return Levels(2, (*frames, 1, 20, 20))


@models_where(is_discrete)
def test_bfloat16_adds_up_without_bias(kind: type[AutoregressiveModel]) -> None:
    torch.manual_seed(0)
    model = create(kind, many_bits(kind)).eval()
    x = torch.randint(2, (2, *model.event.shape), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        wanted = model.log_prob(x)
        coarse = copy.deepcopy(model).to(torch.bfloat16)
        found = coarse.log_prob(x)
        assert found.dtype == torch.float32, "numbers of hundreds have no decimals in bfloat16"
        assert_close(found, wanted, rtol=0.02, atol=0)
        if draws_noise(model):
            loss = [loss_of(each, x, None) for each in (model, coarse)]
            assert loss[1].dtype == torch.float32
            assert_close(loss[1], loss[0], rtol=0.02, atol=0)


@every_option
def test_scores_and_samples_without_autograd(case: Case) -> None:
    model, x, condition = case.build(), case.values(5), case.condition(5)
    expected = model.log_prob(x, condition)
    with torch.inference_mode():
        scored = model.log_prob(x, condition)
        assert_close(scored, expected.detach(), rtol=1e-12, atol=1e-12)
        model.conditionals(x, condition)
        drawn = model.sample(5, condition)
    assert drawn.shape == x.shape and drawn.dtype == x.dtype


@every_option
def test_a_model_stays_where_it_is_whatever_the_default_device(case: Case) -> None:
    model, x, condition = case.build(), case.values(3), case.condition(3)
    wanted = [model.log_prob(x, condition), model.validation_loss(x, condition)]
    with torch.device("meta"):
        found = [model.log_prob(x, condition), model.validation_loss(x, condition)]
    assert_close(found, wanted, rtol=0, atol=0)
