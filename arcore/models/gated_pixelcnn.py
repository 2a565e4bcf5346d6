"""Gated and Conditional PixelCNN: two stacks, no blind spot."""

from __future__ import annotations

import dataclasses
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.functional import relu

from arcore.events import Event
from arcore.families.raster import OrderedRasterConfig, TwoStackModel
from arcore.layers.conditioning import conditioned
from arcore.layers.convolutions import (
    CausalConv2d,
    LocalConv2d,
    PixelSteps,
    pixel_conv,
    pointwise,
    row_conv,
    rows_conv,
    with_bias,
)
from arcore.layers.cursor import ImageCursor, LayerCall, Reader
from arcore.layers.pixel_attention import PixelAttention
from arcore.primitives.activation_checkpointing import run_block
from arcore.primitives.checks import require
from arcore.primitives.dropout import dropout
from arcore.primitives.gating import gated


@dataclasses.dataclass(frozen=True, kw_only=True)
class GatedPixelCNNConfig(OrderedRasterConfig):
    """Hyperparameters of Gated PixelCNN, and all of `OrderedRasterConfig`.

    Arguments:
        width: p, maps of a layer.
        num_layers: gated layers, the first included.
        first_kernel: size of the first layer's kernels, odd.
        kernel: size of the other layers' kernels, odd.
        head_width: maps of the head's hidden layer.
        dropout: probability of dropping a gated value of the horizontal stack in training.
        attention_layers: blocks of attention to all pixels before, spread evenly between the gated
            layers; fewer than these.
        attention_width: numbers of a query, of a key and of a value.
    """

    width: int = 32
    num_layers: int = 5
    first_kernel: int = 7
    kernel: int = 3
    head_width: int = 32
    dropout: float = 0.0
    attention_layers: int = 0
    attention_width: int = 16
    least = {"attention_layers": 0}

    def __post_init__(self) -> None:
        super().__post_init__()
        expected = f"fewer than num_layers, {self.num_layers}"
        fits = self.attention_layers < self.num_layers
        require(fits, "attention_layers", expected, self.attention_layers)
        fits = not self.attention_layers or self.ordering != "s_curve"
        expected = "0 in ordering s_curve, since attention follows the raster order"
        require(fits, "attention_layers", expected, self.attention_layers)

    def attends_before(self, layer: int) -> bool:
        """Tell whether a block of attention precedes a gated layer."""
        blocks = range(1, self.attention_layers + 1)
        return layer in [n * self.num_layers // (self.attention_layers + 1) for n in blocks]


class GatedPixelCNN(TwoStackModel):
    """Gated convolutional network over images, conditional on a class, a vector or a map.

    A vertical stack v sees whole rows above the pixel, a horizontal stack h the pixel's own row:

        a_v = K_v * v,   v' = tanh(a_v^f + V_v^f s) . sigm(a_v^g + V_v^g s),
        a_h = K_h * h + L a_v,   z = tanh(a_h^f + V_h^f s) . sigm(a_h^g + V_h^g s),
        h' = h + W z (h' = W z in the first layer),
        logits = W_o relu(W_b relu(sum of the layers' skips S z)),

    where * is a convolution, other products are 1 x 1, and s is the condition, constant or a map.
    No pixel above is out of sight. The link L takes the unconditioned maps from before the gate.
    With `attention_layers`, h <- h + tanh(b^f) . sigm(b^g) precedes some layers, for b = M [h, y]
    and the attention y of `arcore.layers.pixel_attention.PixelAttention`. In the ordering
    `s_curve`, K_v and K_h are `LocalConv2d`; with several orders, see `CyclingModel`.

    Reference:
        van den Oord, Kalchbrenner, Vinyals, Espeholt, Graves and Kavukcuoglu, "Conditional Image
        Generation with PixelCNN Decoders", NIPS 2016, eq. 2, 4, 5 and figure 2; Chen, Mishra,
        Rohaninejad and Abbeel, "PixelSNAIL: An Improved Autoregressive Generative Model", ICML
        2018, section 3 (attention).

    Example:
        >>> import torch, arcore
        >>> event = arcore.events.Levels(17, (1, 8, 8))
        >>> model = arcore.create_model("gated_pixelcnn", event, num_classes=10)
        >>> model.log_prob(torch.zeros(2, 1, 8, 8), torch.tensor([3, 7])).shape  # nats
        torch.Size([2])
    """

    Config = GatedPixelCNNConfig
    hyperparameters: GatedPixelCNNConfig

    def __init__(self, event: Event, hyperparameters: GatedPixelCNNConfig) -> None:
        super().__init__(event, hyperparameters)
        p = hyperparameters
        self.layers = nn.ModuleList(_GatedLayers(self, index) for index in range(p.num_layers))
        head = self.colours(p.head_width, "head_width")
        self.hidden_head = pixel_conv("B", head, head)
        self.output = pixel_conv("B", head, self.colours(self.head.num_outputs))
        self.output.set_bias(self.head.initial_bias())

    def _layers(self) -> list[_GatedLayers]:
        return cast(list[_GatedLayers], list(self.layers))

    @property
    def first(self) -> list[Reader]:
        """The layers that read pixels of the own row; the vertical stack reads whole rows."""
        layers = self._layers()
        attending = [layer.attention.attend for layer in layers if layer.attention is not None]
        return [layers[0].horizontal, *attending]

    def _vertical(self, v: Tensor, maps: Tensor | None, call: LayerCall) -> list[Tensor]:
        """Return what the vertical stack passes on to each horizontal layer."""
        links = []
        for layer in self._layers():
            link, v = run_block(layer.vertical_step, v, maps, call)
            links.append(link)
        return links

    def _horizontal(
        self, h: Tensor, links: list[Tensor], maps: Tensor | None, call: LayerCall
    ) -> Tensor:
        total, features = None, h
        for layer, link in zip(self._layers(), links, strict=True):
            if layer.attention is not None:
                h = run_block(layer.attention, h, features, call)
            skip, h = run_block(layer.horizontal_step, h, link, maps, call)
            total = skip if total is None else total.add_(skip)
        assert total is not None
        hidden = relu(call(self.hidden_head, relu(total, inplace=True)), inplace=True)
        return call(self.output, hidden)

    def _network_at(self, features: Tensor, maps: Tensor | None, cursor: ImageCursor) -> Tensor:
        if self.training and self.hyperparameters.dropout:
            return super()._network_at(features, maps, cursor)
        steps = cursor.state(self, lambda: _GatedSteps(self, maps, cursor, len(features)))
        if cursor.enters_row(self):
            steps.start_row(cursor.row, self._row_links(features, maps, cursor))
        return steps.outputs(features[:, :, cursor.row, cursor.column], cursor)


class _GatedSteps:
    """The horizontal stack and head at one pixel after the other, without new tensors at a pixel.

    Links and conditions are part of what `PixelSteps` adds to a row's products; `one` holds a
    layer's gated values, and a column of ones, which biases multiply.
    """

    def __init__(
        self, model: GatedPixelCNN, maps: Tensor | None, cursor: ImageCursor, batch: int
    ) -> None:
        layers, width = model._layers(), model.hyperparameters.width
        attention = [layer.attention for layer in layers]
        self.steps = [
            PixelSteps(layer.horizontal, batch, cursor, layer.horizontal_projection, maps)
            for layer in layers
        ]
        cursor.state(layers[0].horizontal, lambda: self.steps[0])
        skips = [with_bias(layer.skip) for layer in layers]
        residuals = [None if layer.is_last else with_bias(layer.residual) for layer in layers]
        self.layers = list(zip(self.steps, skips, residuals, attention, strict=True))
        self.head = pointwise(model.hidden_head), pointwise(model.output)
        weight = model.output.weight
        self.a = weight.new_empty(batch, 2 * width)
        self.gates = self.a.chunk(2, 1)
        self.one = weight.new_ones(batch, width + 1)
        self.z = self.one[:, :width]
        self.total = weight.new_empty(batch, model.hyperparameters.head_width)

    def start_row(self, row: int, links: list[Tensor]) -> None:
        """Begin a row, given what the vertical stack passes on."""
        for steps, link in zip(self.steps, links, strict=True):
            steps.start_row(row, link)

    def outputs(self, x: Tensor, cursor: ImageCursor) -> Tensor:
        """Return the head's maps (batch, outputs, 1, 1) for the pixel's features (batch, F)."""
        self.steps[0].slots[cursor.column].copy_(x)
        (f, g), one, total, column = self.gates, self.one, self.total, cursor.column
        following = self.steps[1:]
        for number, (steps, skip, residual, attention) in enumerate(self.layers):
            if attention is not None:
                h = steps.slots[column]
                h.copy_(attention(h[:, :, None, None], x[:, :, None, None], cursor)[:, :, 0, 0])
            torch.addmm(steps.bases[column], steps.windows[column], steps.matrix, out=self.a)
            torch.mul(f.tanh_(), g.sigmoid_(), out=self.z)
            if number:
                total.addmm_(one, skip)
            else:
                torch.mm(one, skip, out=total)
            if residual is not None:
                slot = following[number].slots[column]
                torch.mm(one, residual, out=slot)
                if number:
                    slot.add_(steps.slots[column])
        y = total
        for weight, bias in self.head:
            y = torch.addmm(bias, y.relu(), weight)
        return y[:, :, None, None]


class _GatedLayers(nn.Module):
    """The weights of one gated layer of both stacks; the last layer feeds the head alone."""

    def __init__(self, model: GatedPixelCNN, index: int) -> None:
        super().__init__()
        p = model.hyperparameters
        self.is_first, self.is_last = index == 0, index == p.num_layers - 1
        width = model.colours(p.width)
        gates = width.repeat(2)
        inputs = model.input_colours if self.is_first else width
        kernel, kind = (p.first_kernel, "A") if self.is_first else (p.kernel, "B")
        self.vertical = rows_conv(len(inputs), len(gates), kernel)
        self.link = CausalConv2d(len(gates), len(gates))
        self.horizontal = row_conv(kind, inputs, gates, kernel)
        if model.ordering == "s_curve":  # the first vertical layer takes rows above alone
            rows = (kernel + 1) // 2 - self.is_first
            self.vertical = LocalConv2d(None, inputs, gates, (rows, kernel))
            self.horizontal = LocalConv2d(kind, inputs, gates, (1, kernel))
        self.attention = _AttentionBlock(model) if p.attends_before(index) else None
        self.skip = pixel_conv("B", width, model.colours(p.head_width, "head_width"))
        self.horizontal_projection = model.projection(len(gates))
        if not self.is_last:
            self.residual = pixel_conv("B", width, width)
            self.vertical_projection = model.projection(len(gates))
        self.dropout = p.dropout

    def vertical_step(
        self, v: Tensor, maps: Tensor | None, call: LayerCall
    ) -> tuple[Tensor, Tensor]:
        """Return what the vertical stack passes on to the horizontal one, and its next maps."""
        a = call(self.vertical, v)
        link = call(self.link, a)
        if not self.is_last:
            v = _gate(conditioned(a, self.vertical_projection, maps, call))
        return link, v

    def horizontal_step(
        self, h: Tensor, link: Tensor, maps: Tensor | None, call: LayerCall
    ) -> tuple[Tensor, Tensor]:
        """Return what the layer adds to the head, and the horizontal stack's next maps."""
        # what a convolution returns is nobody else's: it may change in place
        a = call(self.horizontal, h).add_(link)
        z = _gate(conditioned(a, self.horizontal_projection, maps, call))
        z = dropout(z, self.dropout, self.training)
        skip = call(self.skip, z)
        if not self.is_last:
            residual = call(self.residual, z)
            h = residual if self.is_first else residual.add_(h)
        return skip, h


class _AttentionBlock(nn.Module):
    """A gated residual block of the maps and of the attention to the pixels before."""

    def __init__(self, model: GatedPixelCNN) -> None:
        super().__init__()
        p, width = model.hyperparameters, model.colours(model.hyperparameters.width)
        inputs, groups = len(model.input_colours), model.head.groups
        self.attend = PixelAttention(model.image[1:], width, inputs, groups, p.attention_width)
        self.merge = pixel_conv("B", torch.cat([width, self.attend.colours]), width.repeat(2))
        self.dropout = p.dropout

    def forward(self, h: Tensor, features: Tensor, call: LayerCall) -> Tensor:
        """Map h, (batch, width, height, width), given the features of the image."""
        seen = call(self.attend, torch.cat([h, features], 1))
        z = _gate(call(self.merge, torch.cat([h, seen], 1)))
        return h + dropout(z, self.dropout, self.training)


def _gate(a: Tensor) -> Tensor:
    """Return tanh of the first half of the maps times the sigmoid of the second."""
    return gated(a.movedim(1, -1)).movedim(-1, 1)
