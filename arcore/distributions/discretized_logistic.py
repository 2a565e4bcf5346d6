"""The discretised mixture of logistics."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.distributions import Distribution
from torch.nn.functional import logsigmoid

from arcore.distributions.discrete import choose, tempered
from arcore.primitives.precision import at_least_float32

MIN_LOG_SCALE = -7.0
STRAIGHT_LOG_SCALE = 30.0  # from here on, ln(1 - exp(-w / s)) is ln w - ln s in any precision
FLOATS_AT_ONCE = 1 << 22  # a table of all levels is made in parts that are no larger


class DiscretizedLogisticMixture(Distribution):
    """A mixture of K logistics, each with its mass gathered in k bins around the levels.

    With levels v scaled to y = 2 v / (k - 1) - 1 and bins of width w = 2 / (k - 1),

        P(v) = sum_j pi_j [sigm((y + w/2 - mu_j) / s_j) - sigm((y - w/2 - mu_j) / s_j)],

    the first bin reaching to minus and the last to plus infinity. The difference is taken in
    logarithms without cancellation, sigm(a) - sigm(b) = sigm(a) sigm(-b) (1 - exp(b - a)). Any
    finite parameters have finite log-masses and gradients: means and log-scales are held at the
    fourth root of the largest number of their type.

    Reference:
        Salimans, Karpathy, Chen and Kingma, "PixelCNN++", ICLR 2017, eq. 2.

    Arguments:
        num_levels: k >= 2.
        log_weights, means, log_scales: (*batch, K); weights need not be normalised, means are in
            units of y, log-scales are held at or above -7.
    """

    arg_constraints: dict[str, torch.distributions.constraints.Constraint] = {}  # noqa: RUF012

    def __init__(
        self, num_levels: int, log_weights: Tensor, means: Tensor, log_scales: Tensor
    ) -> None:
        super().__init__(log_weights.shape[:-1], validate_args=False)
        dtype = at_least_float32(means.dtype)  # in which masses, differences, still add up to 1
        log_weights, means, log_scales = (
            part.to(dtype) for part in (log_weights, means, log_scales)
        )
        bound = torch.finfo(dtype).max ** 0.25
        self.num_levels = num_levels
        self.log_weights = torch.log_softmax(log_weights, -1)
        self.means = means.clamp(-bound, bound)
        self.log_scales = log_scales.clamp(MIN_LOG_SCALE, bound)

    def components_log_prob(self, value: Tensor) -> Tensor:
        """Return ln P_j(v) of levels v (*batch,) under each component, (*batch, K), in nats."""
        levels = value.long()  # a dtype of few levels cannot be compared with the last one
        return self._log_masses(levels[..., None], self.means, self.log_scales)

    def _log_masses(self, value: Tensor, means: Tensor, log_scales: Tensor) -> Tensor:
        """Return ln P_j(v) of levels that broadcast against the components' parameters."""
        last = self.num_levels - 1
        y = value.to(means.dtype) * (2 / last) - 1
        inverse_scale = torch.exp(-log_scales)
        above = (y - means + 1 / last) * inverse_scale
        below = (y - means - 1 / last) * inverse_scale
        upper, lower = logsigmoid(above), logsigmoid(-below)
        near = log_scales.clamp(max=STRAIGHT_LOG_SCALE)  # 1 / s may be nought beyond
        width = torch.log(-torch.expm1(-2 / last * torch.exp(-near))) - (log_scales - near)
        inside = upper + lower + width
        return torch.where(value <= 0, upper, torch.where(value >= last, lower, inside))

    def log_prob(self, value: Tensor) -> Tensor:
        """Return ln P(v) of levels v, (*batch,), in nats."""
        return torch.logsumexp(self.log_weights + self.components_log_prob(value), -1)

    @property
    def logits(self) -> Tensor:
        """Return ln P of every level, (*batch, k), in nats."""
        log_weights, means, log_scales = (
            part[..., None, :] for part in (self.log_weights, self.means, self.log_scales)
        )
        levels = torch.arange(self.num_levels, device=means.device)[:, None]
        count = max(1, FLOATS_AT_ONCE // max(1, means.numel()))
        tables = [
            torch.logsumexp(log_weights + self._log_masses(part, means, log_scales), -1)
            for part in levels.split(count)
        ]
        return tables[0] if len(tables) == 1 else torch.cat(tables, -1)

    def draw(self, generator: torch.Generator | None, temperature: float = 1.0) -> Tensor:
        """Draw int64 levels, (*batch,), with an explicit generator.

        A component is chosen and its distribution function inverted, which needs no table of
        levels; another temperature than 1 does.
        """
        dtype, device = self.means.dtype, self.means.device
        uniform = torch.rand(
            (2, *self.batch_shape), generator=generator, device=device, dtype=dtype
        )
        if temperature != 1:
            return choose(tempered(self.logits, temperature), uniform[0])
        chosen = choose(self.log_weights.exp(), uniform[0])[..., None]
        mean, log_scale = (
            part.gather(-1, chosen)[..., 0] for part in (self.means, self.log_scales)
        )
        scale = torch.exp(log_scale.clamp(max=math.log(torch.finfo(dtype).max) - 10))
        y = mean + scale * torch.logit(uniform[1])  # minus infinity at nought: the first level
        last = self.num_levels - 1
        return torch.ceil((y + 1) * (last / 2) - 0.5).clamp(0, last).long()

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
