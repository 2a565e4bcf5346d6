"""Spatial LSTM, the recurrent image density estimator (RIDE)."""

import dataclasses
from typing import cast

from torch import Tensor, nn

from arcore.events import Event
from arcore.families.raster import RasterConfig, RasterModel
from arcore.layers.conditioning import ConditionProjection
from arcore.layers.convolutions import CausalConv2d, pixel_conv
from arcore.layers.cursor import LayerCall
from arcore.layers.image_lstms import SpatialLSTMLayer
from arcore.primitives.activation_checkpointing import run_block
from arcore.primitives.dropout import dropout


@dataclasses.dataclass(frozen=True, kw_only=True)
class SpatialLSTMConfig(RasterConfig):
    """Hyperparameters of the Spatial LSTM, and all of `RasterConfig`.

    Arguments:
        hidden: h, maps of an LSTM's state.
        num_layers: LSTM layers, the first of which reads the pixels before.
        first_kernel: size, odd, of the square whose causal part the first layer reads.
        linear_prediction: size of the kernel, odd, of a linear prediction from the pixels before,
            to which the means of a mixture are relative; None for none.
        dropout: probability of dropping a value of an LSTM's output in training.
    """

    hidden: int = 16
    num_layers: int = 2
    first_kernel: int = 5
    linear_prediction: int | None = None  # type: ignore[misc]
    dropout: float = 0.0


class SpatialLSTM(RasterModel):
    """Two-dimensional LSTMs over the pixels before, and a mixture of scale mixtures of each pixel.

        h_1 = LSTM_1(W_1 * x_<),   h_l = LSTM_l(W_l h_{l-1}),   outputs = W_o h_L + b,

    where x_< are the pixels of a causal neighbourhood, a kernel's part above and to the left, and a
    layer is `arcore.layers.image_lstms.SpatialLSTMLayer`. The head says what the outputs are: the
    paper's is `arcore.layers.mcgsm.MCGSM`, which takes a pixel's colours in turn. Of dequantised
    levels `bits_per_dim` is a bound of the levels' bits.

    Reference:
        Theis and Bethge, "Generative Image Modeling Using Spatial LSTMs", NIPS 2015, eq. 5-8.

    Example:
        >>> import torch, arcore
        >>> event = arcore.events.Real((3, 8, 8), bin_width=1 / 256)
        >>> model = arcore.create_model("spatial_lstm", event, head="mcgsm")
        >>> model.bits_per_dim(torch.rand(2, 3, 8, 8)).shape
        torch.Size([2])
    """

    Config = SpatialLSTMConfig
    hyperparameters: SpatialLSTMConfig

    def __init__(self, event: Event, hyperparameters: SpatialLSTMConfig) -> None:
        super().__init__(event, hyperparameters)
        p = hyperparameters
        hidden = self.colours(p.hidden, "hidden")
        self.layers = nn.ModuleList(_SpatialLayer(self, n, hidden) for n in range(p.num_layers))
        self.output = pixel_conv("B", hidden, self.colours(self.head.num_outputs))
        self.output.set_bias(self.head.initial_bias())

    @property
    def first(self) -> list[CausalConv2d]:
        """The layer that reads the image."""
        return [self._layers()[0].input]

    def _layers(self) -> list["_SpatialLayer"]:
        return cast(list[_SpatialLayer], list(self.layers))

    def _network(self, features: Tensor, maps: Tensor | None, call: LayerCall) -> Tensor:
        h = features
        for layer in self._layers():
            h = run_block(layer, h, maps, call)
            h = dropout(h, self.hyperparameters.dropout, self.training)
        return call(self.output, h)


class _SpatialLayer(nn.Module):
    """The weights of one layer."""

    def __init__(self, model: SpatialLSTM, index: int, hidden: Tensor) -> None:
        super().__init__()
        p, gates = model.hyperparameters, hidden.repeat(5)
        if index == 0:
            self.input = pixel_conv("A", model.input_colours, gates, p.first_kernel)
        else:
            self.input = pixel_conv("B", hidden, gates)
        self.projection: ConditionProjection | None = model.projection(len(gates))
        self.lstm = SpatialLSTMLayer(p.hidden)

    def forward(self, x: Tensor, maps: Tensor | None, call: LayerCall) -> Tensor:
        """Map what the layer below gives, (batch, inputs, height, width), to states."""
        gates = call(self.input, x)
        if maps is not None and self.projection is not None:
            gates = gates + call(self.projection, maps)
        return call(self.lstm, gates)
