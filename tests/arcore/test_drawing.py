"""Drawing from one-dimensional conditionals: levels of probability zero, ends, coarse logits."""

from __future__ import annotations

import math

import pytest
import torch
from torch.distributions import Bernoulli, Categorical

from arcore.distributions.discrete import GrayBernoulli, choose, first_passed, tempered
from arcore.distributions.drawing import draw


def test_draw_never_takes_a_level_of_probability_zero(generator: torch.Generator) -> None:
    logits = torch.tensor([-torch.inf, 0.0, -torch.inf, 0.0, -torch.inf]).expand(20_000, 5)
    drawn = draw(Categorical(logits=logits), generator)
    assert sorted(drawn.unique().tolist()) == [1, 3]
    certain = Bernoulli(logits=torch.tensor([-torch.inf, torch.inf]))
    assert draw(certain, generator).tolist() == [0, 1]


def test_an_accelerator_chooses_as_a_processor_does(generator: torch.Generator) -> None:
    probabilities = torch.rand(20_000, 9, generator=generator)
    probabilities[probabilities < 0.3] = 0
    probabilities[:, 4] += 0.1
    uniform = torch.rand(20_000, generator=generator)
    found = first_passed(probabilities, probabilities.cumsum(-1), uniform)
    assert torch.equal(found, choose(probabilities, uniform))
    rounded = torch.tensor([0.0, 0.5, 0.50001])  # of what has no probability
    ends = torch.tensor([0.0, 0.999999, 1 - 2**-24])
    assert first_passed(torch.tensor([0.0, 0.5, 0.0]), rounded, ends).tolist() == [1, 1, 1]


def test_no_temperature_makes_a_level_of_probability_zero_a_number() -> None:
    """One beyond float32 is as one of its largest number: all that is possible is as probable."""
    logits = torch.tensor([3.0, -torch.inf, -3.0])
    assert tempered(logits, 1e300).tolist() == [0.5, 0.0, 0.5]


@pytest.mark.parametrize(("uniform", "level"), [(0.0, 1), (1 - 2**-24, 3)])
def test_draw_at_the_ends_of_the_uniform_range(
    uniform: float, level: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch, "rand", lambda shape, **_: torch.full(shape, uniform))
    logits = torch.tensor([[-torch.inf, 0.0, -torch.inf, 0.0, -torch.inf]])
    assert draw(Categorical(logits=logits), None).item() == level
    certain = Bernoulli(logits=torch.tensor([-torch.inf, torch.inf]))
    assert draw(certain, None).tolist() == [0, 1]


def test_draws_from_coarse_logits_are_not_coarse(generator: torch.Generator) -> None:
    shape, p = (100_000,), 0.0025
    logits = torch.full(shape, math.log(p / (1 - p)), dtype=torch.bfloat16)
    for rare in (Bernoulli(logits=logits), GrayBernoulli(logits=logits)):
        drawn = (draw(rare, generator) > 0).double().mean().item()
        assert drawn == pytest.approx(p, abs=5 * math.sqrt(p / shape[0]) + 0.01 * p)
    uniform = Categorical(logits=torch.zeros(*shape, 256, dtype=torch.bfloat16))
    counts = torch.bincount(draw(uniform, generator), minlength=256) / shape[0] * 256
    assert (counts - 1).abs().max() < 6 / math.sqrt(shape[0] / 256)
