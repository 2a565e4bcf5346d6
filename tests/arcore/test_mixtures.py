"""Mixtures of Gaussians or Laplacians: against torch's own, their tails, draws and floor."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.distributions import Categorical, Laplace, MixtureSameFamily, Normal
from torch.testing import assert_close

from arcore.distributions.real_mixture import COMPONENTS, RealMixture
from tests.support.statistics import quadrature, uniform_p_value

every_component = pytest.mark.parametrize("component", COMPONENTS)


def parts(batch: int = 7, k: int = 3) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    drawn = torch.randn(3, batch, 1, k, generator=generator, dtype=torch.float64)
    return drawn[0], 2 * drawn[1], drawn[2] - 0.5


@every_component
def test_density_and_distribution_function_are_those_of_torch(component: str) -> None:
    log_weights, means, log_scales = parts()
    family = {"gaussian": Normal, "laplace": Laplace}[component]
    theirs = MixtureSameFamily(Categorical(logits=log_weights), family(means, log_scales.exp()))
    ours = RealMixture(component, log_weights, means, log_scales, -7.0)
    x = torch.linspace(-9, 9, 7, dtype=torch.float64)[:, None]
    assert_close(ours.log_prob(x), theirs.log_prob(x), rtol=1e-12, atol=1e-12)
    assert_close(ours.cdf(x), theirs.cdf(x), rtol=1e-9, atol=1e-12)


@every_component
def test_density_integrates_to_one_and_its_integral_is_the_distribution_function(
    component: str,
) -> None:
    mixture = RealMixture(component, *parts(), -7.0)
    nodes, weights = quadrature(mixture)
    mass = mixture.log_prob(nodes).exp() * weights
    assert_close(mass.sum(1), torch.ones(7, dtype=torch.float64), rtol=0, atol=1e-9)
    middle = mixture.means[:, 0, :1]  # a panel ends there
    below = (mass * (nodes < middle)).sum(1)
    assert_close(below, mixture.cdf(middle)[:, 0], rtol=0, atol=1e-9)


@every_component
def test_far_tails_are_finite(component: str) -> None:
    zeros = torch.zeros(1, 2)
    mixture = RealMixture(component, zeros, zeros, zeros, -7.0)
    assert mixture.log_prob(torch.tensor([1e4])).isfinite().all()
    assert mixture.cdf(torch.tensor([-1e4])).item() == 0
    assert mixture.cdf(torch.tensor([1e4])).item() == 1


@every_component
def test_density_and_draws_share_the_floor_of_scales(
    component: str, generator: torch.Generator
) -> None:
    n, zeros = 20_000, torch.zeros(20_000, 1)
    mixture = RealMixture(component, zeros, zeros, zeros - 9, min_log_scale=-2.0)
    peak = {"gaussian": 0.5 * math.log(2 * math.pi), "laplace": math.log(2)}[component]
    assert mixture.log_prob(zeros[:, 0])[0].item() == pytest.approx(2 - peak, abs=1e-6)
    drawn = mixture.draw(generator)
    variance = {"gaussian": 1, "laplace": 2}[component] * math.exp(-4)
    assert drawn.var().item() == pytest.approx(variance, rel=10 / math.sqrt(n))
    assert uniform_p_value(mixture.cdf(drawn)) > 1e-4


@every_component
@pytest.mark.parametrize("uniform", [0.0, 1 - 2**-24])
def test_draws_at_the_ends_of_the_uniform_range_are_finite(
    component: str, uniform: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch, "rand", lambda shape, **_: torch.full(shape, uniform))
    zeros = torch.zeros(4, 3)
    assert RealMixture(component, zeros, zeros, zeros, -7.0).draw(None).isfinite().all()


def test_a_component_of_weight_zero_is_never_drawn(generator: torch.Generator) -> None:
    n = 20_000
    log_weights = torch.tensor([-torch.inf, 0.0, -torch.inf, 0.0]).expand(n, 4)
    means = torch.tensor([0.0, 10.0, 20.0, 30.0]).expand(n, 4)
    mixture = RealMixture("gaussian", log_weights, means, torch.full((n, 4), -5.0), -7.0)
    assert sorted((mixture.draw(generator) / 10).round().unique().tolist()) == [1, 3]


def test_select_takes_flattened_indices() -> None:
    generator = torch.Generator().manual_seed(0)
    tensors = torch.randn(3, 5, 2, 3, 4, generator=generator)
    mixture = RealMixture("laplace", *tensors, -7.0)
    chosen = mixture.select(torch.tensor([5, 0]))
    assert chosen.batch_shape == (5, 2)
    x = torch.randn(5, 2, 3, generator=generator)
    expected = mixture.log_prob(x).flatten(1)[:, [5, 0]]
    assert_close(chosen.log_prob(x.flatten(1)[:, [5, 0]]), expected)
    none = RealMixture("laplace", *torch.zeros(3, 0, 2, 3, 4), -7.0)
    assert none.select(torch.tensor([5, 0])).batch_shape == (0, 2)


def test_bad_arguments_are_named() -> None:
    zeros = torch.zeros(2, 3)
    with pytest.raises(ValueError, match=r"^component: expected one of .*, got 'cauchy'"):
        RealMixture("cauchy", zeros, zeros, zeros, -7.0)
    with pytest.raises(ValueError, match=r"^temperature: expected 1 for a mixture.*, got 0.5"):
        RealMixture("gaussian", zeros, zeros, zeros, -7.0).draw(None, 0.5)


def test_draws_of_a_coarse_mixture_are_not_coarse(generator: torch.Generator) -> None:
    """In bfloat16 a weight of 0.0025 would be drawn twice as often, and noise end at 5.5."""
    n = 100_000
    log_weights = torch.tensor([0.9975, 0.0025]).log().expand(n, 2).bfloat16()
    means = torch.tensor([0.0, 1000.0]).expand(n, 2).bfloat16()
    drawn = RealMixture("laplace", log_weights, means, torch.zeros_like(means), -7.0).draw(
        generator
    )
    rare = (drawn > 500).double().mean().item()
    assert rare == pytest.approx(0.0025, abs=5 * math.sqrt(0.0025 / n) + 1e-5)
    assert drawn[drawn < 500].abs().max() > 8
