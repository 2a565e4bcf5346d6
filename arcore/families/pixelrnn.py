"""What PixelRNNs share: LSTM layers over images, between a masked convolution and a head."""

from __future__ import annotations

import abc
import dataclasses
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.functional import relu

from arcore.events import Event
from arcore.families.raster import RasterConfig, RasterModel
from arcore.layers.conditioning import ConditionProjection
from arcore.layers.convolutions import CausalConv2d, pixel_conv
from arcore.layers.cursor import LayerCall
from arcore.layers.lstm_scan import open_forget_gate
from arcore.primitives.activation_checkpointing import run_block
from arcore.primitives.dropout import dropout


@dataclasses.dataclass(frozen=True, kw_only=True)
class PixelRNNConfig(RasterConfig):
    """Hyperparameters that PixelRNNs share, and all of `RasterConfig`.

    Arguments:
        hidden: h, maps of an LSTM's state; 2 h maps pass between layers.
        num_layers: LSTM layers.
        first_kernel: size of the first convolution, odd.
        head_width: maps of the head's hidden layers.
        residual: add a layer's input to its output.
        skip: connect every layer to the head.
        dropout: probability of dropping a value of an LSTM's output in training.
    """

    hidden: int = 16
    num_layers: int = 2
    first_kernel: int = 7
    head_width: int = 32
    residual: bool = True
    skip: bool = True
    dropout: float = 0.0


class PixelRNN(RasterModel):
    """Base of recurrent networks over images of k levels and any number of colours.

        u = conv_A(x),   h_l = LSTM_l(W_l * u + V_l s),   u <- u + E_l h_l,
        v = u + sum of the skips S_l h_l of all layers but the last,
        logits = W_o relu(W_b relu(W_a relu(v))),

    where conv_A sees the pixels above and to the left and earlier colours of the pixel itself, W_l
    (the input-to-state part, * its convolution) and all 1 x 1 products but V also maps of the same
    colour, and s is the condition, constant or a map. Without `residual`, u <- E_l h_l; without
    `skip`, v = u. Biases of forget gates begin at 1. A subclass gives the LSTMs by `_lstm`.
    `num_maps` counts condition maps that a caller makes and gives to the network.
    """

    hyperparameters: PixelRNNConfig

    def __init__(self, event: Event, hyperparameters: PixelRNNConfig, num_maps: int = 0) -> None:
        super().__init__(event, hyperparameters)
        p = hyperparameters
        if self.condition_kind is not None:
            num_maps = self.condition_maps.channels
        self.num_maps = num_maps
        wide = self.colours(2 * p.hidden, "2 * hidden")
        head = self.colours(p.head_width, "head_width")
        self.input = pixel_conv("A", self.input_colours, wide, p.first_kernel)
        self.layers = nn.ModuleList(_RecurrentLayer(self, index) for index in range(p.num_layers))
        self.hidden_head = nn.ModuleList([pixel_conv("B", wide, head), pixel_conv("B", head, head)])
        self.output = pixel_conv("B", head, self.colours(self.head.num_outputs))
        self.output.set_bias(self.head.initial_bias())

    @abc.abstractmethod
    def _lstm(self, index: int, wide: Tensor, gates: Tensor) -> tuple[CausalConv2d, nn.Module]:
        """Make a layer's input-to-state convolution and its LSTM."""

    def _layer_input(self, index: int, u: Tensor, features: Tensor) -> Tensor:
        """Return what a layer's input-to-state convolution takes."""
        return u

    def projection(self, outputs: int) -> ConditionProjection | None:
        """Make a layer's projection of condition maps, None without any."""
        return ConditionProjection(self.num_maps, outputs) if self.num_maps else None

    @property
    def first(self) -> list[CausalConv2d]:
        """The layer that reads the image."""
        return [self.input]

    def _layers(self) -> list[_RecurrentLayer]:
        return cast(list[_RecurrentLayer], list(self.layers))

    def _network(self, features: Tensor, maps: Tensor | None, call: LayerCall) -> Tensor:
        p = self.hyperparameters
        u = call(self.input, features).contiguous(memory_format=torch.channels_last)
        skips: list[Tensor] = []
        for index in range(p.num_layers):
            u, skip = run_block(self._layer, index, u, features, maps, call)
            skips += [] if skip is None else [skip]
        v = sum(skips, start=u)
        for head in self.hidden_head:
            v = call(head, relu(v))
        return call(self.output, relu(v))

    def _layer(
        self, index: int, u: Tensor, features: Tensor, maps: Tensor | None, call: LayerCall
    ) -> tuple[Tensor, Tensor | None]:
        """Return the maps after a layer, and what it adds to the head, if anything."""
        p, layer = self.hyperparameters, self._layers()[index]
        gates = call(layer.input, self._layer_input(index, u, features))
        if maps is not None and layer.projection is not None:
            gates = gates + call(layer.projection, maps)
        h = call(layer.lstm, gates).contiguous(memory_format=torch.channels_last)
        h = dropout(h, p.dropout, self.training)
        skip = None if layer.skip is None else call(layer.skip, h)
        expanded = call(layer.expand, h)
        return u + expanded if p.residual else expanded, skip


class _RecurrentLayer(nn.Module):
    """The weights of one layer."""

    def __init__(self, model: PixelRNN, index: int) -> None:
        super().__init__()
        p = model.hyperparameters
        wide, narrow = model.colours(2 * p.hidden, "hidden"), model.colours(p.hidden, "hidden")
        self.input, self.lstm = model._lstm(index, wide, narrow.repeat(4))
        open_forget_gate(self.input.bias, p.hidden)
        self.projection = model.projection(len(self.input.weight))
        self.expand = pixel_conv("B", narrow, wide)
        self.skip: CausalConv2d | None = None
        if p.skip and index < p.num_layers - 1:
            self.skip = pixel_conv("B", narrow, wide)
