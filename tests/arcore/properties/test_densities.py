"""Properties of real events: densities integrate to one, and samples fit them."""

import pytest
import torch
from torch import Tensor

from arcore.distributions.real_mixture import RealMixture
from arcore.distributions.table_row import TableRow
from arcore.events import Real
from arcore.model import AutoregressiveModel
from tests.arcore.cases import CASES, cases_where
from tests.support.cases import Case
from tests.support.statistics import total_mass, uniform_p_value

every_density = cases_where(lambda case: not case.discrete)


@cases_where(lambda case: not case.discrete and case.event.size <= 2)
def test_density_integrates_to_one_for_every_condition(case: Case) -> None:
    for condition in case.conditions(1):
        assert total_mass(case.build(), condition) == pytest.approx(1, abs=1e-6)


def probability_integral_transform(
    model: AutoregressiveModel, x: Tensor, condition: Tensor | None
) -> Tensor:
    """P(X_d <= x_d | x_<d) of each dimension, (N, D), uniform and independent under the model."""
    with torch.no_grad():
        conditionals = model.conditionals(x, condition)
        if not isinstance(conditionals, TableRow):
            assert isinstance(conditionals, RealMixture)
            return conditionals.cdf(x).flatten(1)
        masses = conditionals.logits.exp()  # of levels, the part below, and a random part of theirs
        levels = conditionals.outcomes(x)[..., None]
        parts = [t.gather(-1, levels)[..., 0] for t in (masses.cumsum(-1), masses)]
        below = parts[0] - torch.rand(x.shape, dtype=x.dtype) * parts[1]
        reals = conditionals.mixture.cdf(conditionals.standardized(x))
        is_dense = conditionals.is_real & (levels[..., 0] == 0)
        return torch.where(is_dense, reals * masses[..., 0], below)


@every_density
def test_samples_fit_the_density(case: Case, generator: torch.Generator) -> None:
    model, n = case.build(), 3000
    for condition in case.conditions(n):
        x = model.sample(n, condition, generator)
        u = probability_integral_transform(model, x, condition)
        for column in u.t():
            assert uniform_p_value(column) > 1e-4
        if u.shape[1] > 1:
            assert uniform_p_value((u[:, 0] + u[:, 1]) % 1) > 1e-4  # independent, too


def test_the_fit_would_notice_another_scale(generator: torch.Generator) -> None:
    case = next(case for case in CASES if isinstance(case.event, Real))
    model, condition = case.build(), case.condition(3000)
    x = model.sample(3000, condition, generator)
    u = probability_integral_transform(model, 1.2 * x, condition)
    assert min(uniform_p_value(column) for column in u.t()) < 1e-4


@every_density
def test_impute_draws_the_posterior_where_the_observed_come_first(case, generator) -> None:
    model, n = case.build(), 3000
    order = torch.cat(model.schedule)
    half = case.event.size // 2
    observed = torch.zeros(case.event.size, dtype=torch.bool)
    observed[order[:half]] = True
    x = case.values(1, seed=3).expand(n, *case.event.shape)
    condition = case.conditions(n)[0]
    completed = model.impute(x, observed.view(case.event.shape), condition, generator)
    assert torch.equal(completed.flatten(1)[:, order[:half]], x.flatten(1)[:, order[:half]])
    u = probability_integral_transform(model, completed, condition)
    for index in order[half:]:
        assert uniform_p_value(u[:, index]) > 1e-4
