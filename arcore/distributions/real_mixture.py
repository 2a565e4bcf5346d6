"""Mixtures of Gaussians or Laplacians: the conditionals of models over reals."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.distributions import Distribution

from arcore.distributions.discrete import choose
from arcore.primitives.checks import require
from arcore.primitives.precision import at_least_float32

COMPONENTS = ("gaussian", "laplace")
LEAST_LOG_SCALE = -80.0  # whose inverse float32 still has


class RealMixture(Distribution):
    """A mixture of K Gaussians or Laplacians in each dimension.

    With z_j = (x - mu_j) / s_j, each component has the density

        gaussian:  exp(-z_j^2 / 2) / (s_j sqrt(2 pi))        laplace:  exp(-|z_j|) / (2 s_j),

    and ln p(x) = logsumexp_j [ln pi_j + ln p_j(x)]. The log-scales are held at or above a floor
    here, once, so that densities, the distribution function and draws all have the same scales.

    Reference:
        Uria, Murray and Larochelle, "RNADE", NIPS 2013, eq. 11-14.

    Arguments:
        component: gaussian or laplace.
        log_weights, means, log_scales: (*batch, K); weights need not be normalised. What is
            computed of them is float32 or wider, what is drawn has their dtype.
        min_log_scale: the floor of ln s, -80 or above.
    """

    arg_constraints: dict[str, torch.distributions.constraints.Constraint] = {}  # noqa: RUF012

    def __init__(
        self,
        component: str,
        log_weights: Tensor,
        means: Tensor,
        log_scales: Tensor,
        min_log_scale: float,
    ) -> None:
        super().__init__(log_weights.shape[:-1], validate_args=False)
        require(component in COMPONENTS, "component", f"one of {COMPONENTS}", component)
        fits = min_log_scale >= LEAST_LOG_SCALE
        require(fits, "min_log_scale", f"a number of {LEAST_LOG_SCALE} or more", min_log_scale)
        self.component = component
        self.dtype = means.dtype
        wide = at_least_float32(means.dtype)  # half a float overflows where tails are far
        self.log_weights = torch.log_softmax(log_weights.to(wide), -1)
        self.means = means.to(wide)
        self.log_scales = log_scales.to(wide).clamp(min=min_log_scale)
        self.min_log_scale = min_log_scale

    def _standardized(self, value: Tensor) -> Tensor:
        return (value[..., None] - self.means) * torch.exp(-self.log_scales)

    def log_prob(self, value: Tensor) -> Tensor:
        """Return ln p(x) of reals x, (*batch,), in nats."""
        z = self._standardized(value)
        if self.component == "gaussian":
            terms = -0.5 * z.square() - 0.5 * math.log(2 * math.pi)
        else:
            terms = -z.abs() - math.log(2)
        return torch.logsumexp(self.log_weights + terms - self.log_scales, -1)

    def cdf(self, value: Tensor) -> Tensor:
        """Return P(X <= x), (*batch,)."""
        z = self._standardized(value)
        if self.component == "gaussian":
            below = torch.special.ndtr(z)
        else:
            tail = 0.5 * torch.exp(-z.abs())
            below = torch.where(z < 0, tail, 1 - tail)
        return (self.log_weights.exp() * below).sum(-1)

    def draw(self, generator: torch.Generator | None, temperature: float = 1.0) -> Tensor:
        """Draw reals, (*batch,), with an explicit generator."""
        require(temperature == 1, "temperature", "1 for a mixture density over reals", temperature)
        shape, weights = self.batch_shape, self.log_weights.exp()
        options: dict[str, Any] = {"device": weights.device, "dtype": weights.dtype}
        uniform = torch.rand(shape, generator=generator, **options)
        chosen = choose(weights, uniform)[..., None]
        if self.component == "gaussian":
            noise = torch.randn(shape, generator=generator, **options)
        else:  # a difference of two exponentials; u < 1 keeps both finite
            pair = torch.rand((2, *shape), generator=generator, **options)
            noise = torch.log1p(-pair[0]) - torch.log1p(-pair[1])
        mean, log_scale = (p.gather(-1, chosen)[..., 0] for p in (self.means, self.log_scales))
        drawn: Tensor = mean + noise * torch.exp(log_scale)
        return drawn.to(self.dtype)

    def select(self, block: Tensor) -> RealMixture:
        """Select a block of flattened indices: batch shape (first extent, len(block))."""
        return self._of_each(lambda part: part.flatten(1, -2)[:, block])

    def reshape(self, shape: Sequence[int]) -> RealMixture:
        """Give it another batch shape of as many elements."""
        return self._of_each(lambda part: part.reshape(*shape, part.shape[-1]))

    def _of_each(self, change: Callable[[Tensor], Tensor]) -> RealMixture:
        parts = (self.log_weights, self.means, self.log_scales)
        weights, means, scales = map(change, parts)
        part = RealMixture(self.component, weights, means, scales, self.min_log_scale)
        part.dtype = self.dtype
        return part
