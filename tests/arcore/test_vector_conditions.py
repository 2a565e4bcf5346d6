"""Vectors that exact vector models are given: what they are worth, beside what is known."""

import math
from functools import partial

import pytest
import torch
from torch import Tensor

import arcore
from arcore.events import Levels, Real
from tests.support.refusals import refuses


def trained(model: arcore.AutoregressiveModel, x: Tensor, given: Tensor | None) -> float:
    """Train on rows of a source without end, here ten thousand; return nats on the same rows."""
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    for step in range(150):
        rows = slice(step * 500 % len(x), step * 500 % len(x) + 500)
        optimizer.param_groups[0]["lr"] = 0.02 * (1 - step / 150)
        optimizer.zero_grad()
        model(x[rows], None if given is None else given[rows]).mean().backward()
        optimizer.step()
    model.eval()
    with torch.no_grad():
        return -model.log_prob(x, given).mean().item()


def test_a_density_given_its_parameters_reaches_their_entropy(generator: torch.Generator) -> None:
    """x = A theta + 0.3 e: h(x | theta) = 3 / 2 ln(2 pi e 0.09), h(x) that of N(0, AA' + 0.09 I).

    The seen rows' own mean of -ln p(x | theta) stands for h(x | theta).
    """
    theta = torch.randn(10_000, 2, generator=generator)
    mix = torch.tensor([[1.0, 0.5, -1.0], [0.0, 1.0, 1.0]])
    noise = torch.randn(10_000, 3, generator=generator)
    x = theta @ mix + 0.3 * noise
    entropy = noise.square().sum(1).mean().item() / 2 + 1.5 * math.log(0.09 * 2 * math.pi)
    torch.manual_seed(0)
    event, small = Real((3,)), {"hidden": 30, "components": 2}
    told = trained(arcore.create_model("rnade", event, condition_size=2, **small), x, theta)
    alone = trained(arcore.create_model("rnade", event, **small), x, None)
    assert entropy - 0.02 < told < entropy + 0.1
    covariance = mix.t() @ mix + 0.09 * torch.eye(3)
    marginal = 0.5 * torch.logdet(2 * math.pi * math.e * covariance).item()
    assert alone > marginal - 0.1 > told + 1


@pytest.mark.parametrize("name", ["made", "nade", "deep_nade"])
def test_levels_given_a_vector_reach_their_entropy(name: str, generator: torch.Generator) -> None:
    """Three columns of 2, 4 and 3 levels: softmaxes of linear functions of theta, independent."""
    theta = torch.randn(10_000, 2, generator=generator)
    event = Levels([2, 4, 3])
    columns, entropy = [], 0.0
    for count in event.levels_by_dimension:
        logits = theta @ (2 * torch.randn(2, count, generator=generator))
        log_p = logits.log_softmax(1)
        drawn = torch.multinomial(log_p.exp(), 1, generator=generator)
        columns.append(drawn)
        entropy -= log_p.gather(1, drawn).mean().item()
    x = torch.cat(columns, 1)
    torch.manual_seed(0)
    hidden = {"hidden": 40} if name == "nade" else {"hidden": [40]}
    model = arcore.create_model(name, event, condition_size=2, inputs="one_hot", **hidden)
    told = trained(model, x, theta)
    assert entropy - 0.02 < told < entropy + 0.06
    drawn = model.sample(200, theta[:200], generator)
    assert (drawn.amax(0) < torch.tensor(event.levels_by_dimension)).all()


def test_vectors_beyond_the_models_own_numbers_are_refused() -> None:
    model = arcore.create_model("nade", arcore.events.Binary((4,)), condition_size=1)
    beyond = torch.full((2, 1), 1e39, dtype=torch.float64)
    for call in (partial(model.log_prob, torch.zeros(2, 4)), partial(model.sample, 2)):
        refuses(partial(call, beyond), ["condition", "expected values", "finite in torch.float32"])


def test_vectors_that_overflow_on_the_way_draw_nothing() -> None:
    """Levels drawn from probabilities that are no numbers look like any others."""
    event = arcore.events.Binary((4,))
    model = arcore.create_model("nade", event, condition_size=2, activation="relu")
    torch.nn.init.constant_(model.class_bias, 4.0)
    torch.nn.init.normal_(model.output_weight)
    with pytest.raises(ValueError, match="got NaN on the way"):
        model.sample(2, torch.full((2, 2), 3e38))
