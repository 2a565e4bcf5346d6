"""Conditionals of a table's columns: levels, or reals in the units of the file."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.distributions import Distribution

from arcore.distributions.discrete import choose, tempered
from arcore.distributions.real_mixture import RealMixture


class TableRow(Distribution):
    """A categorical distribution in some columns, a mixture of Gaussians in others.

    In columns of reals x, with z = (x - shift) / scale, ln p(x) = ln p(z) - ln scale.

    Arguments:
        logits: of levels, (*batch, k), -inf for levels that a column does not have.
        mixture: of z, batch shape (*batch).
        is_real, shift, scale: of each column, broadcast to the batch shape.
    """

    arg_constraints: dict[str, torch.distributions.constraints.Constraint] = {}  # noqa: RUF012

    def __init__(
        self, logits: Tensor, mixture: RealMixture, is_real: Tensor, shift: Tensor, scale: Tensor
    ) -> None:
        super().__init__(logits.shape[:-1], validate_args=False)
        self.logits, self.mixture = torch.log_softmax(logits, -1), mixture
        self.is_real, self.shift, self.scale = is_real, shift, scale

    def standardized(self, value: Tensor) -> Tensor:
        """Return z of reals x, (*batch,)."""
        return ((value - self.shift) / self.scale).to(self.logits.dtype)

    def log_prob(self, value: Tensor) -> Tensor:
        """Return ln p of cells' numbers, (*batch,), in nats."""
        levels = torch.where(self.is_real, 0, value).long()
        mass = self.logits.gather(-1, levels[..., None])[..., 0]
        density = self.mixture.log_prob(self.standardized(value)) - self.scale.log()
        return torch.where(self.is_real, density.to(mass.dtype), mass)

    def draw(self, generator: torch.Generator | None, temperature: float = 1.0) -> Tensor:
        """Draw cells' numbers, (*batch,) float64, at temperature 1 alone."""
        reals = self.shift + self.scale * self.mixture.draw(generator, temperature).double()
        uniform = torch.rand(reals.shape, generator=generator, device=reals.device)
        levels = choose(tempered(self.logits, temperature), uniform)
        return torch.where(self.is_real, reals, levels.double())

    def select(self, block: Tensor) -> TableRow:
        """Select a block of columns: batch shape (first extent, len(block))."""
        parts = (part[block] for part in (self.is_real, self.shift, self.scale))
        return TableRow(self.logits[:, block], self.mixture.select(block), *parts)
