"""Deep NADE, the orderless neural autoregressive distribution estimator with several layers."""

import dataclasses

import torch
from torch import Tensor

from arcore.events import Event, Levels, Table
from arcore.families.orderless import ObservedState, OrderlessConfig, OrderlessModel
from arcore.layers.incremental_mlp import IncrementalMLP

CACHED_FLOATS = 1 << 18  # floats of a layer that stay in a core's cache from one step to the next


@dataclasses.dataclass(frozen=True, kw_only=True)
class DeepNADEConfig(OrderlessConfig):
    """Hyperparameters of Deep NADE: all of `OrderlessConfig`, with at least one hidden layer."""


class DeepNADE(OrderlessModel):
    """One multilayer perceptron that gives every conditional of every ordering.

        h_1 = g(W (x * m) + U m + b_1),  h_l = g(W_l h_{l-1} + b_l),
        p(x_i | x_m, m) = softmax(c_i + V_i h_L) for all i with m_i = 0,

    where a level enters as `inputs` says and the softmax is a sigmoid for binary events. Training
    (`OrderlessModel`) costs one pass of the network, of all layers at once; scoring an ordering
    O(D L H^2): each step computes the outputs of one dimension alone.

    Reference:
        Uria, Murray and Larochelle, "A Deep and Tractable Density Estimator", ICML 2014.

    Example:
        >>> import torch, arcore
        >>> model = arcore.create_model("deep_nade", arcore.events.Binary((1, 3, 3)), hidden=[8, 8])
        >>> x = torch.zeros(2, 1, 3, 3)
        >>> model(x).shape, model.ensemble(4).log_prob(x).shape  # nats
        (torch.Size([2]), torch.Size([2]))
    """

    Config = DeepNADEConfig
    supports = (Levels, Table)
    hyperparameters: DeepNADEConfig

    def __init__(self, event: Event, hyperparameters: DeepNADEConfig) -> None:
        super().__init__(event, hyperparameters)
        p = hyperparameters
        self.dense = IncrementalMLP(
            event.size, self.num_features, self.num_logits,
            p.hidden, p.activation, p.dropout, p.condition_rows,
        )  # fmt: skip
        self._rebuild()

    def _logits(self, inputs: Tensor, condition: Tensor | None) -> Tensor:
        return self.dense(inputs, condition)

    def first_layer(self) -> Tensor:
        """Return the weights of each dimension's observed highest level, (units, D)."""
        values = self.num_features - self.hyperparameters.mask_inputs  # the mask comes last
        return self.dense.input_weight[:, values - 1].T

    def _observed_state(self, batch: int, condition: Tensor | None) -> ObservedState:
        return DenseState(self.dense, batch, condition)

    @property
    def _width(self) -> int:
        return max(self.hyperparameters.hidden)

    @property
    def _rows_at_once(self) -> int:
        if self.device.type != "cpu":
            return super()._rows_at_once
        return max(32, CACHED_FLOATS // self._width)


class DenseState(ObservedState):
    """Keeps the first layer's activations and adds one dimension's columns at each step."""

    def __init__(self, dense: IncrementalMLP, batch: int, condition: Tensor | None) -> None:
        self.dense, self.condition = dense, condition
        self.activations = dense.start(batch, condition).clone()

    def observe(self, dimension: int, inputs: Tensor) -> None:
        """Add the dimension's columns."""
        if torch.is_grad_enabled():
            self.activations = self.dense.shown(self.activations, dimension, inputs)
        else:
            self.dense.show_(self.activations, dimension, inputs)

    def logits(self, dimension: int) -> Tensor:
        """Compute the deeper layers and one dimension's outputs."""
        return self.dense.output(self.activations, dimension, self.condition)
