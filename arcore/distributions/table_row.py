"""Conditionals of a table's columns: levels, or reals in the units of the file."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.distributions import Distribution

from arcore.distributions.discrete import choose, tempered
from arcore.distributions.real_mixture import RealMixture


class TableRow(Distribution):
    """A categorical distribution in some columns, a mixture of Gaussians and atoms in others.

    In columns of reals x, with z = (x - shift) / scale, ln p(x) = ln P_0 + ln p(z) - ln scale, and
    ln P_i where x is atom i. Without atoms P_0 is 1.

    Arguments:
        logits: of levels, (*batch, k), -inf for levels that a column does not have; of reals of the
            density and of each atom.
        mixture: of z, batch shape (*batch).
        is_real, shift, scale: of each column, broadcast to the batch shape.
        atoms: of each column, (*batch, A) broadcast, NaN where it has fewer.
    """

    arg_constraints: dict[str, torch.distributions.constraints.Constraint] = {}  # noqa: RUF012

    def __init__(
        self,
        logits: Tensor,
        mixture: RealMixture,
        is_real: Tensor,
        shift: Tensor,
        scale: Tensor,
        atoms: Tensor,
    ) -> None:
        super().__init__(logits.shape[:-1], validate_args=False)
        self.logits, self.mixture = torch.log_softmax(logits, -1), mixture
        self.is_real, self.shift, self.scale, self.atoms = is_real, shift, scale, atoms

    def standardized(self, value: Tensor) -> Tensor:
        """Return z of reals x, (*batch,)."""
        return ((value - self.shift) / self.scale).to(self.logits.dtype)

    def log_prob(self, value: Tensor) -> Tensor:
        """Return ln p of cells' numbers, (*batch,), in nats."""
        outcomes = self.outcomes(value)
        mass = self.logits.gather(-1, outcomes[..., None])[..., 0]
        density = self.mixture.log_prob(self.standardized(value)) - self.scale.log()
        is_dense = self.is_real & (outcomes == 0)
        return torch.where(is_dense, density.to(mass.dtype) + mass, mass)

    def outcomes(self, value: Tensor) -> Tensor:
        """Return levels (*batch,) int64; of reals 0 for the density, else an atom's number."""
        found = value[..., None] == self.atoms  # NaN is equal to none
        which = torch.arange(1, found.shape[-1] + 1, device=value.device)
        return torch.where(self.is_real, (found * which).sum(-1), value).long()

    def draw(self, generator: torch.Generator | None, temperature: float = 1.0) -> Tensor:
        """Draw cells' numbers, (*batch,) float64, at temperature 1 alone."""
        reals = self.shift + self.scale * self.mixture.draw(generator, temperature).double()
        uniform = torch.rand(reals.shape, generator=generator, device=reals.device)
        levels = choose(tempered(self.logits, temperature), uniform)
        if most := self.atoms.shape[-1]:
            place = (levels.clamp(1, most) - 1)[..., None]
            atoms = self.atoms.expand(*levels.shape, most).gather(-1, place)[..., 0]
            reals = torch.where(levels > 0, atoms, reals)
        return torch.where(self.is_real, reals, levels.double())

    def select(self, block: Tensor) -> TableRow:
        """Select a block of columns: batch shape (first extent, len(block))."""
        parts = (part[block] for part in (self.is_real, self.shift, self.scale, self.atoms))
        return TableRow(self.logits[:, block], self.mixture.select(block), *parts)
