"""Layers of networks over clips: an LSTM whose states are maps, and multiplicative units."""

from typing import cast

import torch
from torch import Tensor, nn

from arcore.layers.conditioning import ConditionProjection
from arcore.layers.convolutions import Conv2d
from arcore.layers.lstm_scan import open_forget_gate
from arcore.primitives.gating import lstm_cell, multiplicative

State = tuple[Tensor, Tensor]


class ConvLSTM(nn.Module):
    """A convolutional LSTM: h_t, c_t = cell(W * x_t + U * h_{t-1} + b, c_{t-1}), from zeros.

    Biases of forget gates begin at 1 above their random values; the paper says nothing of them.

    Reference:
        Shi et al., "Convolutional LSTM Network: A Machine Learning Approach for Precipitation
        Nowcasting", NIPS 2015, eq. 3, without peepholes.
    """

    def __init__(self, inputs: int, width: int, kernel: int) -> None:
        super().__init__()
        self.width = width
        self.input_to_state = Conv2d(inputs, 4 * width, kernel, padding=kernel // 2)
        self.state_to_state = Conv2d(width, 4 * width, kernel, padding=kernel // 2, bias=False)
        open_forget_gate(cast(nn.Parameter, self.input_to_state.bias), width)

    def forward(self, x: Tensor) -> Tensor:
        """Map frames (batch, T, inputs, height, width) to states h (batch, T, width, ...)."""
        gates = self.input_to_state(x.flatten(0, 1)).unflatten(0, x.shape[:2])
        state, states = self.zeros(x[:, 0]), []
        for gates_now in gates.unbind(1):
            state = self._advance(gates_now, state)
            states.append(state[0].movedim(1, -1))
        return torch.stack(states, 1).movedim(-1, 2)

    def zeros(self, x: Tensor) -> State:
        """Return the state before the first frame, of maps (batch, *, height, width)."""
        weight = self.input_to_state.weight  # whose precision c keeps, autocast or not
        zero = weight.new_zeros(len(x), *x.shape[-2:], self.width).movedim(-1, 1)
        return zero, zero

    def step(self, x: Tensor, state: State) -> State:
        """Return h_t and c_t for a frame (batch, inputs, height, width) and the state before it."""
        return self._advance(self.input_to_state(x), state)

    def _advance(self, gates: Tensor, state: State) -> State:
        h, c = state
        gates = gates + self.state_to_state(h)
        h, c = lstm_cell(gates.movedim(1, -1), c.movedim(1, -1))
        return h.movedim(-1, 1), c.movedim(-1, 1)


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
        units = []
        for _ in range(2):
            told = ConditionProjection(condition_size, 4 * width) if condition_size else None
            units.append(MultiplicativeUnit(width, kernel, dilation, told))
        self.units = nn.ModuleList(units)
        self.expand = Conv2d(width, 2 * width, 1)

    def forward(self, h: Tensor, vectors: Tensor | None = None) -> Tensor:
        """Map (batch, 2 c, height, width) to as much, given vectors (batch, size, 1, 1) or None."""
        z = self.reduce(h)
        for unit in self.units:
            z = unit(z, vectors)
        expanded: Tensor = self.expand(z)
        return expanded.add_(h)
