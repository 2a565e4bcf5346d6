"""Properties of what a model says of itself: members, parts that count, its field, its bound."""

import inspect
import math

import pytest
import torch
from torch.testing import assert_close

from arcore.model import AutoregressiveModel
from tests.arcore.cases import cases_where, every_case, every_model, every_option
from tests.support.cases import Case, create, event_of
from tests.support.dependence import influence

TIGHT = {"rtol": 1e-9, "atol": 1e-9}


@every_option
def test_an_ensemble_is_the_mixture_of_its_members(case: Case) -> None:
    model, x, condition = case.build(), case.values(6), case.condition(6)
    if model.max_members is not None:
        with pytest.raises(ValueError, match=f"^num_members: .* at most {model.max_members}"):
            model.ensemble(model.max_members + 1)
    count = min(3, model.max_members or 3)
    mixture = model.ensemble(count)
    scores = mixture.member_log_probs(x, condition)
    assert scores.shape == (6, count)
    joint = scores.logsumexp(1) - math.log(count)
    assert_close(mixture.log_prob(x, condition), joint if model.exact else scores.mean(1), **TIGHT)
    drawn = mixture.sample(6, condition)
    assert drawn.shape == x.shape and drawn.dtype == x.dtype


@every_case
def test_parts_of_an_event_add_up_where_they_can_be_scored(case: Case) -> None:
    model, x, condition = case.build(), case.values(5), case.condition(5)
    steps = model._num_steps(x)  # frames of a clip, samples of a sequence
    cuts = sorted({0, steps // 2, steps})
    spans = [torch.tensor([pair]).expand(5, 2) for pair in zip(cuts, cuts[1:], strict=False)]
    if not model.scores_parts:
        with pytest.raises(ValueError, match="^scored: expected None"):
            model.log_prob(x, condition, spans[0])
        return
    parts = [model.log_prob(x, condition, span) for span in spans]
    assert_close(sum(parts), model.log_prob(x, condition), **TIGHT)
    assert_close(model(x, condition, spans[-1]), -parts[-1], **TIGHT)
    own = torch.tensor([[i % steps, min(steps, 2 * (i % steps) + 1)] for i in range(4)] + [[1, 1]])
    each = [None] * 5 if condition is None else condition.split(1)
    alone = [model.log_prob(*row) for row in zip(x.split(1), each, own.split(1), strict=True)]
    assert_close(model.log_prob(x, condition, own), torch.cat(alone), **TIGHT)
    with pytest.raises(ValueError, match="^scored: expected "):
        model.log_prob(x, condition, torch.tensor([[0, steps + 1]]).expand(5, 2))


@cases_where(lambda case: "receptive_field" in inspect.get_annotations(case.kind))
def test_nothing_beyond_the_receptive_field_has_influence(case: Case) -> None:
    model = case.build_exact()
    assert model.receptive_field is not None
    seen = influence(model, case.values(32), case.condition(32))
    steps = torch.arange(len(seen))
    assert not (seen & (steps[:, None] - steps > model.receptive_field)).any()


@every_option
def test_importance_weighting_is_exact_where_a_model_is(case, generator) -> None:
    model, x, condition = case.build(), case.values(4), case.condition(4)
    estimate = model.importance_weighted(x, 3, condition, generator)
    assert estimate.shape == (4,) and estimate.isfinite().all()
    if model.exact:
        assert_close(estimate, model.log_prob(x, condition), **TIGHT)


@every_model
def test_no_event_has_no_length_nor_unknown_levels_of_noise(
    kind: type[AutoregressiveModel],
) -> None:
    model = create(kind, event_of(kind))
    with pytest.raises(ValueError, match="^length: expected "):
        model.of_length(0)
    with pytest.raises(ValueError, match="^level: expected one of "):
        model.sample_varying(2, "nothing")
    assert bool(model.latent_levels) == (not model.exact)
