"""Distributions of conditionals: those that torch.distributions lacks, and draws from all of them.

Each is a `torch.distributions.Distribution` whose batch shape is that of the one-dimensional
conditionals which it stands for, with `select(block)` for a block of flattened indices.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor
from torch.distributions import Bernoulli, Distribution
from torch.nn.functional import logsigmoid

from arcore.checks import require

MIN_LOG_SCALE = -7.0


def at_least_float32(dtype: torch.dtype) -> torch.dtype:
    """Return the type in which to add up many terms or to draw: bfloat16 is too coarse for both.

    Example:
        >>> at_least_float32(torch.bfloat16), at_least_float32(torch.float64)
        (torch.float32, torch.float64)
    """
    return torch.promote_types(dtype, torch.float32)


class DiscretizedLogisticMixture(Distribution):
    """A mixture of K logistics, each with its mass gathered in k bins around the levels.

    With levels v scaled to y = 2 v / (k - 1) - 1 and bins of width w = 2 / (k - 1),

        P(v) = sum_j pi_j [sigm((y + w/2 - mu_j) / s_j) - sigm((y - w/2 - mu_j) / s_j)],

    the first bin reaching to minus and the last to plus infinity, so that the levels' masses sum
    to one. The difference is taken in logarithms without cancellation, since
    sigm(a) - sigm(b) = sigm(a) sigm(-b) (1 - exp(b - a)); a single formula serves everywhere, where
    the reference code falls back on the density for small masses.

    Reference:
        Salimans, Karpathy, Chen and Kingma, "PixelCNN++", ICLR 2017, eq. 2.

    Arguments:
        num_levels: k >= 2.
        log_weights, means, log_scales: (*batch, K); weights need not be normalised, means are in
            units of y, log-scales are held at or above -7.

    Example:
        >>> zeros = torch.zeros(5, 3)
        >>> mixture = DiscretizedLogisticMixture(4, zeros, zeros, zeros)
        >>> mixture.batch_shape, mixture.logits.shape
        (torch.Size([5]), torch.Size([5, 4]))
    """

    arg_constraints: dict[str, torch.distributions.constraints.Constraint] = {}  # noqa: RUF012

    def __init__(
        self, num_levels: int, log_weights: Tensor, means: Tensor, log_scales: Tensor
    ) -> None:
        super().__init__(log_weights.shape[:-1], validate_args=False)
        self.num_levels = num_levels
        self.log_weights = torch.log_softmax(log_weights, -1)
        self.means = means
        self.log_scales = log_scales.clamp(min=MIN_LOG_SCALE)

    def components_log_prob(self, value: Tensor) -> Tensor:
        """Return ln P_j(v) of levels v (*batch,) under each component, (*batch, K), in nats."""
        last = self.num_levels - 1
        value = value[..., None]
        y = value.to(self.means.dtype) * (2 / last) - 1
        inverse_scale = torch.exp(-self.log_scales)
        above = (y - self.means + 1 / last) * inverse_scale
        below = (y - self.means - 1 / last) * inverse_scale
        upper, lower = logsigmoid(above), logsigmoid(-below)
        width = torch.log(-torch.expm1(-2 / last * inverse_scale))
        inside = upper + lower + width
        return torch.where(value <= 0, upper, torch.where(value >= last, lower, inside))

    def log_prob(self, value: Tensor) -> Tensor:
        """Return ln P(v) of levels v, (*batch,), in nats."""
        return torch.logsumexp(self.log_weights + self.components_log_prob(value), -1)

    @property
    def logits(self) -> Tensor:
        """Return ln P of every level, (*batch, k), in nats."""
        levels = torch.arange(self.num_levels, device=self.means.device)
        levels = levels.view(-1, *[1] * len(self.batch_shape))
        return torch.stack([self.log_prob(v.expand(self.batch_shape)) for v in levels], -1)

    def select(self, block: Tensor) -> DiscretizedLogisticMixture:
        """Select a block of flattened indices: batch shape (first extent, len(block))."""
        parts = (self.log_weights, self.means, self.log_scales)
        flat = (p.flatten(1, -2)[:, block] for p in parts)
        return DiscretizedLogisticMixture(self.num_levels, *flat)

    def reshape(self, shape: Sequence[int]) -> DiscretizedLogisticMixture:
        """Give it another batch shape of as many elements."""
        parts = (self.log_weights, self.means, self.log_scales)
        shaped = (p.reshape(*shape, p.shape[-1]) for p in parts)
        return DiscretizedLogisticMixture(self.num_levels, *shaped)


class GrayBernoulli(Bernoulli):
    """Bits whose targets are gray: levels v in [0, 256) that stand for probabilities z = v / 255.

    log_prob(v) = z ln p + (1 - z) ln(1 - p), minus the cross-entropy in nats: a likelihood for the
    levels 0 and 255 alone, which are what is drawn.

    Arguments:
        logits: of p, of the batch shape.

    Example:
        >>> GrayBernoulli(logits=torch.zeros(2)).log_prob(torch.tensor([0, 51])).tolist()
        [-0.6931471824645996, -0.6931471824645996]
    """

    LAST = 255

    def log_prob(self, value: Tensor) -> Tensor:
        """Return minus the cross-entropy of each level, in nats."""
        z = value.to(self.logits.dtype) / self.LAST
        return logsigmoid(-self.logits) + z * self.logits

    def draw(self, generator: torch.Generator | None, temperature: float = 1.0) -> Tensor:
        """Draw levels 0 and 255, int64, of the batch shape."""
        logits = self.logits.to(at_least_float32(self.logits.dtype))
        p = torch.sigmoid(logits / temperature)
        drawn = torch.rand(p.shape, generator=generator, device=p.device, dtype=p.dtype) < p
        return drawn.long() * self.LAST

    def select(self, block: Tensor) -> GrayBernoulli:
        """Select a block of flattened indices: batch shape (first extent, len(block))."""
        return GrayBernoulli(logits=self.logits.flatten(1)[:, block], validate_args=False)


def select(conditionals: Distribution, shape: torch.Size, block: Tensor) -> Distribution:
    """Select the conditionals of a block of flattened indices.

    A distribution without logits brings its own `select(block)`.
    """
    if hasattr(conditionals, "select"):
        return cast(Distribution, conditionals.select(block))
    kind = type(conditionals)
    require(kind in DISCRETE, "conditionals", DISCRETE_NAMES, kind.__name__)
    logits: Tensor = conditionals.logits  # type: ignore[attr-defined]
    flat = logits.reshape(*shape, *logits.shape[len(conditionals.batch_shape) :])
    return kind(logits=flat[:, block], validate_args=False)  # type: ignore[call-arg]


def reshape(conditionals: Distribution, shape: Sequence[int]) -> Distribution:
    """Give discrete conditionals another batch shape of as many elements."""
    kind = type(conditionals)
    if isinstance(conditionals, DiscretizedLogisticMixture):
        return conditionals.reshape(shape)
    logits: Tensor = conditionals.logits  # type: ignore[attr-defined]
    return kind(  # type: ignore[call-arg]
        logits=logits.reshape(*shape, *logits.shape[len(conditionals.batch_shape) :]),
        validate_args=False,
    )


DISCRETE = (
    torch.distributions.Bernoulli,
    torch.distributions.Categorical,
    DiscretizedLogisticMixture,
)
DISCRETE_NAMES = ", ".join(kind.__name__ for kind in DISCRETE) + " or one with its own draw"


def draw(
    distribution: Distribution, generator: torch.Generator | None, temperature: float = 1.0
) -> Tensor:
    """Draw from a one-dimensional conditional with an explicit generator.

    A discrete draw inverts the cumulative distribution at one uniform number a dimension. A
    distribution over reals brings its own `draw(generator, temperature)`.

    Returns:
        int64 levels, or reals, of the distribution's batch shape.
    """
    if hasattr(distribution, "draw"):
        return cast(Tensor, distribution.draw(generator, temperature))
    kind = type(distribution)
    require(kind in DISCRETE, "distribution", DISCRETE_NAMES, kind.__name__)
    logits: Tensor = distribution.logits  # type: ignore[attr-defined]
    shape = distribution.batch_shape
    uniform = torch.rand(
        shape, generator=generator, device=logits.device, dtype=at_least_float32(logits.dtype)
    )
    return invert(distribution, uniform, temperature)


def invert(distribution: Distribution, uniform: Tensor, temperature: float = 1.0) -> Tensor:
    """Return the levels at which a discrete conditional's cumulative distribution passes `uniform`.

    Arguments:
        distribution: one of `DISCRETE`.
        uniform: numbers in [0, 1) of its batch shape.
        temperature: scales the log-probabilities by 1 / temperature.
    """
    logits: Tensor = distribution.logits  # type: ignore[attr-defined]
    logits = logits.to(at_least_float32(logits.dtype)) / temperature
    if isinstance(distribution, torch.distributions.Bernoulli):
        return (uniform < torch.sigmoid(logits)).long()
    cumulative = torch.softmax(logits, -1).cumsum(-1)
    levels = (uniform[..., None] * cumulative[..., -1:] >= cumulative).sum(-1)
    return levels.clamp(max=logits.shape[-1] - 1)
