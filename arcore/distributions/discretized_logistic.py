"""The discretised mixture of logistics."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.distributions import Distribution
from torch.nn.functional import logsigmoid

MIN_LOG_SCALE = -7.0


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
