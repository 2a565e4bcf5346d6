"""Distributions of conditionals that torch.distributions lacks, and draws from all kinds.

Each is a `torch.distributions.Distribution` whose batch shape is that of the one-dimensional
conditionals which it stands for, with `select(block)` for a block of flattened indices.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor
from torch.distributions import Bernoulli, Categorical, Distribution

from arcore.distributions.discrete import Bits, Softmax, choose, tempered, tempered_bit
from arcore.distributions.discretized_logistic import DiscretizedLogisticMixture
from arcore.primitives.checks import require
from arcore.primitives.precision import at_least_float32
from arcore.primitives.progress import Advance, unseen


@dataclass(frozen=True)
class SamplingOptions:
    """Options of sampling; `advance(1)` is called after each step."""

    generator: torch.Generator | None = None
    temperature: float = 1.0
    advance: Advance = unseen


def select(conditionals: Distribution, shape: torch.Size, block: Tensor) -> Distribution:
    """Select the conditionals of a block of flattened indices."""
    if hasattr(conditionals, "select"):
        return cast(Distribution, conditionals.select(block))
    kind = type(conditionals)
    require(kind in DISCRETE, "conditionals", DISCRETE_NAMES, kind.__name__)
    logits: Tensor = conditionals.logits  # type: ignore[attr-defined]
    flat = logits.reshape(*shape, *logits.shape[len(conditionals.batch_shape) :])
    return kind(logits=flat[:, block], validate_args=False)  # type: ignore[call-arg]


def reshape(conditionals: Distribution, shape: Sequence[int]) -> Distribution:
    """Give conditionals another batch shape of as many elements."""
    kind = type(conditionals)
    if conditionals.batch_shape == tuple(shape):
        return conditionals
    if hasattr(conditionals, "reshape"):
        return cast(Distribution, conditionals.reshape(shape))
    logits: Tensor = conditionals.logits  # type: ignore[attr-defined]
    logits = logits.reshape(*shape, *logits.shape[len(conditionals.batch_shape) :])
    return kind(logits=logits, validate_args=False)  # type: ignore[call-arg]


DISCRETE = (Bits, Bernoulli, Categorical, Softmax, DiscretizedLogisticMixture)
DISCRETE_NAMES = ", ".join(kind.__name__ for kind in DISCRETE) + " or one with its own draw"


def draw(
    distribution: Distribution, generator: torch.Generator | None, temperature: float = 1.0
) -> Tensor:
    """Draw from a one-dimensional conditional with an explicit generator.

    A discrete draw inverts the cumulative distribution at one uniform number per dimension
    (`invert`). Mixtures of densities bring their own `draw(generator, temperature)`.
    """
    if hasattr(distribution, "draw"):
        return distribution.draw(generator, temperature)
    kind = type(distribution)
    inverts = kind in DISCRETE or hasattr(distribution, "invert")
    require(inverts, "distribution", DISCRETE_NAMES, kind.__name__)
    logits: Tensor = distribution.logits  # type: ignore[attr-defined]
    shape = distribution.batch_shape
    uniform = torch.rand(
        shape, generator=generator, device=logits.device, dtype=at_least_float32(logits.dtype)
    )
    return invert(distribution, uniform, temperature)


def invert(distribution: Distribution, uniform: Tensor, temperature: float = 1.0) -> Tensor:
    """Return the levels at which a discrete conditional's cumulative sum passes `uniform`."""
    if hasattr(distribution, "invert"):
        return distribution.invert(uniform, temperature)
    logits: Tensor = distribution.logits  # type: ignore[attr-defined]
    if isinstance(distribution, Bernoulli):
        return (uniform < tempered_bit(logits, temperature)).long()
    return choose(tempered(logits, temperature), uniform)
