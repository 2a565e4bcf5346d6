"""Multiplicative units and the residual blocks made of them."""

from __future__ import annotations

from torch import Tensor, nn

from arcore.layers.conditioning import ConditionProjection
from arcore.layers.nhwc import Conv2d
from arcore.primitives.gating import multiplicative


def multiplicative_unit(h: Tensor, gates: Tensor) -> Tensor:
    """Return g1 . tanh(g2 . h + g3 . u), with g1, g2, g3 = sigm(gates) and u = tanh(gates).

    h enters as it is, not convolved: it must know nothing that the result must not know.
    """
    return multiplicative(h.movedim(1, -1), gates.movedim(1, -1)).movedim(-1, 1)


class MultiplicativeUnit(nn.Module):
    """A multiplicative unit whose gates are convolutions of its input, without a mask."""

    def __init__(
        self, width: int, kernel: int, dilation: int, projection: ConditionProjection | None
    ) -> None:
        super().__init__()
        padding = dilation * (kernel // 2)
        self.gates = Conv2d(width, 4 * width, kernel, padding=padding, dilation=dilation)
        self.projection = projection

    def forward(self, h: Tensor, vectors: Tensor | None) -> Tensor:
        """Map (batch, c, height, width) to as much, given vectors (batch, size, 1, 1) or None."""
        gates: Tensor = self.gates(h)
        if self.projection is not None and vectors is not None:
            gates = gates + self.projection(vectors)
        return multiplicative_unit(h, gates)


class ResidualMultiplicativeBlock(nn.Module):
    """A residual block over 2 c maps around two multiplicative units over c.

    h + W_2 MU(MU(W_1 h)), where W_1 and W_2 are 1 x 1 convolutions.
    """

    def __init__(self, width: int, kernel: int, dilation: int = 1, condition_size: int = 0) -> None:
        super().__init__()
        self.reduce = Conv2d(2 * width, width, 1)
        self.units = nn.ModuleList(
            MultiplicativeUnit(
                width,
                kernel,
                dilation,
                ConditionProjection(condition_size, 4 * width) if condition_size else None,
            )
            for _ in range(2)
        )
        self.expand = Conv2d(width, 2 * width, 1)

    def forward(self, h: Tensor, vectors: Tensor | None = None) -> Tensor:
        """Map (batch, 2 c, height, width) to as much, given vectors (batch, size, 1, 1) or None."""
        z = self.reduce(h)
        for unit in self.units:
            z = unit(z, vectors)
        expanded: Tensor = self.expand(z)
        return expanded.add_(h)
