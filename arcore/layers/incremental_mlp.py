"""A multilayer perceptron that can be shown its inputs one dimension after the other."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from arcore.layers.level_features import condition_weight, shifted
from arcore.primitives.dropout import dropout
from arcore.primitives.products import scored_linear

ACTIVATIONS = ("relu", "tanh")


def activate(a: Tensor, activation: str) -> Tensor:
    """Apply relu or tanh."""
    return torch.relu(a) if activation == "relu" else torch.tanh(a)


class IncrementalMLP(nn.Module):
    """MLP from D dimensions of F features each to D dimensions of K outputs each.

        a = b + sum_d W_d phi_d,  h_1 = g(a),  h_l = g(b_l + W_l h_{l-1}),  y_d = c_d + V_d h_L

    `forward` takes all dimensions at once. Otherwise a is a running sum: `start` gives b, `shown`
    adds one dimension and `output` computes one y_d, in O(F H + L H^2 + K H).

    Arguments:
        size, features, outputs: D, F and K.
        hidden: the widths of the hidden layers, at least one.
        activation: relu or tanh.
        rate: probability of dropping a hidden unit in training.
        condition_rows: classes of a condition, or the length of a vector, that shifts a and y.
    """

    def __init__(
        self,
        size: int,
        features: int,
        outputs: int,
        hidden: Sequence[int],
        activation: str = "relu",
        rate: float = 0.0,
        condition_rows: int | None = None,
    ) -> None:
        super().__init__()
        self.activation, self.rate = activation, rate
        self.input_weight = nn.Parameter(torch.empty(size, features, hidden[0]))
        self.input_bias = nn.Parameter(torch.zeros(hidden[0]))
        self.layers = nn.ModuleList(
            nn.Linear(a, b) for a, b in zip(hidden, hidden[1:], strict=False)
        )
        self.output_weight = nn.Parameter(torch.empty(size, outputs, hidden[-1]))
        self.output_bias = nn.Parameter(torch.zeros(size, outputs))
        nn.init.uniform_(self.input_weight, -((size * features) ** -0.5), (size * features) ** -0.5)
        nn.init.uniform_(self.output_weight, -(hidden[-1] ** -0.5), hidden[-1] ** -0.5)
        self.class_hidden = condition_weight(condition_rows, hidden[0])
        self.class_output = condition_weight(condition_rows, size, outputs)

    def forward(self, inputs: Tensor, condition: Tensor | None = None) -> Tensor:
        """Map inputs (batch, D, F) to outputs (batch, D, K)."""
        a = self.shown_at(self.start(len(inputs), condition), slice(None), inputs)
        return self.outputs(a, slice(None), condition)

    def start(self, batch: int, condition: Tensor | None = None) -> Tensor:
        """Return a before any dimension is shown, (batch, H)."""
        return shifted(self.input_bias, self.class_hidden, condition).expand(batch, -1)

    def shown(self, a: Tensor, dimension: int, inputs: Tensor) -> Tensor:
        """Return a with the inputs (batch, F) of one dimension added."""
        return torch.addmm(a, inputs, self.input_weight[dimension])

    def show_(self, a: Tensor, dimension: int, inputs: Tensor) -> None:
        """Add the inputs (batch, F) of one dimension to a, in place."""
        a.addmm_(inputs, self.input_weight[dimension])

    def shown_at(self, a: Tensor, dimensions: Tensor | slice, inputs: Tensor) -> Tensor:
        """Return a with the first f <= F inputs of n dimensions added, (batch, n, f)."""
        weight = self.input_weight[dimensions, : inputs.shape[-1]]
        return inputs.flatten(1) @ weight.flatten(0, 1) + a

    def outputs(
        self, a: Tensor, dimensions: Tensor | slice, condition: Tensor | None = None
    ) -> Tensor:
        """Return the outputs of n dimensions, (batch, n, K)."""
        weight, bias = self.output_weight[dimensions], self.output_bias[dimensions]
        y = linear(self._hidden(a), weight.flatten(0, 1), bias.flatten())
        shift = None if self.class_output is None else self.class_output[:, dimensions]
        return shifted(y.view(len(a), *bias.shape), shift, condition)

    def output(self, a: Tensor, dimension: int, condition: Tensor | None = None) -> Tensor:
        """Return the outputs of one dimension, (batch, K)."""
        y = linear(self._hidden(a), self.output_weight[dimension], self.output_bias[dimension])
        weight = None if self.class_output is None else self.class_output[:, dimension]
        return shifted(y, weight, condition)

    def _hidden(self, a: Tensor) -> Tensor:
        h = dropout(activate(a, self.activation), self.rate, self.training)
        for layer in self.layers:
            assert isinstance(layer, nn.Linear)
            a = scored_linear(h, layer.weight, layer.bias)
            h = dropout(activate(a, self.activation), self.rate, self.training)
        return h
