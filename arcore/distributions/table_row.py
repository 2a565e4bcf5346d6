"""Conditionals of a table's columns: levels, or reals in the units of the file."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.distributions import Distribution

from arcore.distributions.discrete import choose, tempered
from arcore.distributions.real_mixture import RealMixture
from arcore.primitives.precision import at_least_float32


class TableRow(Distribution):
    """A categorical distribution in some places, a mixture of Gaussians in others.

    In places of reals x, with z = (x - shift) / scale, ln p(x) = ln p(z) - ln scale.

    Arguments:
        logits: of levels, (*batch, k), -inf for levels that a column does not have.
        mixture: of z, batch shape (*batch); None where no column has reals.
        is_real, shift, scale: of each column, broadcast to the batch shape.
    """

    arg_constraints: dict[str, torch.distributions.constraints.Constraint] = {}  # noqa: RUF012

    def __init__(
        self,
        logits: Tensor,
        mixture: RealMixture | None,
        is_real: Tensor,
        shift: Tensor,
        scale: Tensor,
    ) -> None:
        super().__init__(logits.shape[:-1], validate_args=False)
        self.logits = torch.log_softmax(logits.to(at_least_float32(logits.dtype)), -1)
        self.mixture = mixture
        self.is_real, self.shift, self.scale = is_real, shift, scale

    def standardized(self, value: Tensor) -> Tensor:
        """Return z of reals x, (*batch,)."""
        return ((value - self.shift) / self.scale).to(self.logits.dtype)

    def log_prob(self, value: Tensor) -> Tensor:
        """Return ln p of cells' numbers, (*batch,), in nats."""
        levels = torch.where(self.is_real, 0, value).long()
        mass = self.logits.gather(-1, levels[..., None])[..., 0]
        if self.mixture is None:
            return mass
        density = self.mixture.log_prob(self.standardized(value)) - self.scale.log()
        return torch.where(self.is_real, density.to(mass.dtype), mass)

    def draw(self, generator: torch.Generator | None, temperature: float = 1.0) -> Tensor:
        """Draw cells' numbers, (*batch,) float64; with reals at temperature 1 alone."""
        uniform = torch.rand(
            self.batch_shape,
            generator=generator,
            device=self.logits.device,
            dtype=self.logits.dtype,
        )
        levels = choose(tempered(self.logits, temperature), uniform).double()
        if self.mixture is None:
            return levels
        reals = self.shift + self.scale * self.mixture.draw(generator, temperature).double()
        return torch.where(self.is_real, reals, levels)

    def select(self, block: Tensor) -> TableRow:
        """Select a block of columns: batch shape (first extent, len(block))."""
        mixture = None if self.mixture is None else self.mixture.select(block)
        return self._with(self.logits[:, block], mixture, lambda part: part[block])

    def reshape(self, shape: Sequence[int]) -> TableRow:
        """Give it another batch shape of as many elements: of a vector, its own."""
        mixture = None if self.mixture is None else self.mixture.reshape(shape)
        logits = self.logits.reshape(*shape, self.logits.shape[-1])
        return self._with(logits, mixture, lambda part: part)

    def _with(
        self, logits: Tensor, mixture: RealMixture | None, change: Callable[[Tensor], Tensor]
    ) -> TableRow:
        return TableRow(logits, mixture, *map(change, (self.is_real, self.shift, self.scale)))
