"""ConvNADE, the orderless neural autoregressive distribution estimator with convolutions."""

import dataclasses
import math

import torch
from torch import Tensor

from arcore.events import Event
from arcore.families.orderless import ObservedState, OrderlessConfig, OrderlessModel
from arcore.layers.conv_branch import ConvBranch
from arcore.layers.incremental_mlp import IncrementalMLP
from arcore.models.deep_nade import DenseState
from arcore.primitives.checks import require


@dataclasses.dataclass(frozen=True, kw_only=True)
class ConvNADEConfig(OrderlessConfig):
    """Hyperparameters of ConvNADE, and all of `OrderlessConfig`.

    Arguments:
        channels: of each valid convolution; full ones mirror them.
        kernels: sides of their kernels, as many, cut down to the maps that they meet. The paper's
            best network for 28x28 has channels [64, 64, 64, 64] and kernels [8, 4, 6, 7].
        hidden: units of each hidden layer of the dense branch; [] leaves that out, so that a pixel
            sees the convolutions' window alone and a condition shifts no outputs.
    """

    channels: tuple[int, ...] = (32, 32)
    kernels: tuple[int, ...] = (3, 3)
    least = {"hidden": 0}

    def __post_init__(self) -> None:
        super().__post_init__()
        count = len(self.channels)
        fits = len(self.kernels) == count
        require(fits, "kernels", f"{count} of them, as there are channels", self.kernels)


class ConvNADE(OrderlessModel):
    """A convolutional and a dense network whose pre-sigmoid outputs are summed.

    Both see the image and its mask, [x * m; m], as further channels of the convolutions; the
    objective and the orderings are those of `OrderlessModel`. A vector (D,) counts as an image of
    one row, and axes before the last two as channels. Scoring takes D steps, in each of which the
    convolutions compute the one pixel that is asked for, from what has changed.

    Reference:
        Uria, Cote, Gregor, Murray and Larochelle, "Neural Autoregressive Distribution Estimation",
        JMLR 2016.

    Example:
        >>> import torch, arcore
        >>> model = arcore.create_model("conv_nade", arcore.events.Binary((1, 4, 4)), hidden=[8])
        >>> model(torch.zeros(3, 1, 4, 4)).shape  # nats
        torch.Size([3])
    """

    Config = ConvNADEConfig
    hyperparameters: ConvNADEConfig

    def __init__(self, event: Event, hyperparameters: ConvNADEConfig) -> None:
        super().__init__(event, hyperparameters)
        p = hyperparameters
        self.height, self.width = (1, *event.extents)[-2:]
        self.depth = math.prod(event.extents[:-2])
        self.conv = ConvBranch(
            self.depth * self.num_features, self.depth * self.num_logits,
            (self.height, self.width), p.channels, p.kernels,
            p.activation, p.dropout, p.condition_rows,
        )  # fmt: skip
        self.dense: IncrementalMLP | None = None
        if p.hidden:
            self.dense = IncrementalMLP(
                event.size, self.num_features, self.num_logits,
                p.hidden, p.activation, p.dropout, p.condition_rows,
            )  # fmt: skip
        self._rebuild()

    def _maps(self, inputs: Tensor) -> Tensor:
        """Arrange inputs (batch, D, features) as maps (batch, depth * features, height, width)."""
        maps = inputs.view(len(inputs), self.depth, self.height, self.width, self.num_features)
        return maps.permute(0, 1, 4, 2, 3).flatten(1, 2)

    def _logits(self, inputs: Tensor, condition: Tensor | None) -> Tensor:
        maps = self.conv(self._maps(inputs), condition)
        maps = maps.view(len(maps), self.depth, self.num_logits, self.height, self.width)
        logits: Tensor = maps.permute(0, 1, 3, 4, 2).flatten(1, 3)
        return logits if self.dense is None else logits + self.dense(inputs, condition)

    def _observed_state(self, batch: int, condition: Tensor | None) -> ObservedState:
        return ConvState(self, batch, condition)

    @property
    def _width(self) -> int:
        p = self.hyperparameters
        return max([max(p.channels) * self.height * self.width, *p.hidden])


class ConvState(ObservedState):
    """Keeps the maps of what was shown, and the dense branch's running sum."""

    def __init__(self, model: ConvNADE, batch: int, condition: Tensor | None) -> None:
        self.model, self.condition = model, condition
        channels, dtype = model.depth * model.num_features, model.dtype
        shape = (batch, channels, model.height, model.width)
        self.maps = torch.zeros(shape, dtype=dtype, device=model.device)
        still = not torch.is_grad_enabled() and not (model.training and model.conv.rate)
        self.shown = model.conv.shown() if still else None
        self.dense = None if model.dense is None else DenseState(model.dense, batch, condition)

    def _place(self, dimension: int) -> tuple[int, int, int]:
        layer, pixel = divmod(dimension, self.model.height * self.model.width)
        return (layer, *divmod(pixel, self.model.width))

    def observe(self, dimension: int, inputs: Tensor) -> None:
        """Write the dimension's inputs into the maps."""
        layer, row, column = self._place(dimension)
        count = self.model.num_features
        self.maps[:, layer * count : (layer + 1) * count, row, column] += inputs
        if self.shown is not None:
            self.shown.show(row, column)
        if self.dense is not None:
            self.dense.observe(dimension, inputs)

    def logits(self, dimension: int) -> Tensor:
        """Add the two branches at the dimension's pixel."""
        layer, row, column = self._place(dimension)
        count = self.model.num_logits
        branch = self.model.conv if self.shown is None else self.shown
        outputs = branch.at(self.maps, row, column, self.condition)
        logits = outputs[:, layer * count : (layer + 1) * count]
        if self.dense is not None:
            logits = logits + self.dense.logits(dimension)
        return logits
