"""PixelCNN: masked convolutions over images."""

import dataclasses
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.functional import relu

from arcore.events import Event
from arcore.families.raster import OrderedRasterConfig, RasterModel
from arcore.layers.conditioning import conditioned
from arcore.layers.convolutions import (
    CausalConv2d,
    LocalConv2d,
    PixelSteps,
    pixel_conv,
    pointwise,
    with_bias,
)
from arcore.layers.cursor import ImageCursor, LayerCall, full_image
from arcore.layers.residual_conv import has_residual_conv, residual_conv
from arcore.primitives.activation_checkpointing import run_block
from arcore.primitives.dropout import dropout


@dataclasses.dataclass(frozen=True, kw_only=True)
class PixelCNNConfig(OrderedRasterConfig):
    """Hyperparameters of PixelCNN, and all of `OrderedRasterConfig`.

    Arguments:
        hidden: h, maps inside a residual block; blocks pass 2 h maps on.
        num_blocks: residual blocks.
        first_kernel: size of the first convolution, odd.
        kernel: size of the blocks' convolutions, odd.
        head_width: maps of the head's hidden layers.
        dropout: probability of dropping a value inside a block in training.
    """

    hidden: int = 16
    num_blocks: int = 5
    first_kernel: int = 7
    kernel: int = 3
    head_width: int = 32
    dropout: float = 0.0
    least = {"num_blocks": 0}


class PixelCNN(RasterModel):
    """Masked convolutional network over images of k levels and any number of colours.

        u = conv_A(x),  u <- u + W_3 relu(conv_B(relu(W_1 relu(u)))),
        logits = W_o relu(W_b relu(W_a relu(u))),

    where conv_A sees the pixels above and to the left and earlier colours of the pixel itself, and
    every other layer, 1 x 1 ones too, maps of the same colour as well. Stacked k x k masks leave a
    blind spot: pixels above and far to the right are never seen (`gated_pixelcnn` has none).

    In the ordering `s_curve`, layers are `LocalConv2d`; with several orders, see `CyclingModel`.

    On a processor, training in bfloat16, and in float32 with 16 images or more, runs blocks as
    `arcore.layers.residual_conv`: maps that a forward hook keeps are written over, hooks of a
    block's layers are not called, and gradients have no gradients of their own.

    Reference:
        van den Oord, Kalchbrenner and Kavukcuoglu, "Pixel Recurrent Neural Networks", ICML 2016,
        sections 3.3 to 3.5 and table 1; Jain, Abbeel and Pathak, "Locally Masked Convolution for
        Autoregressive Models", UAI 2020 (S-curves).

    Example:
        >>> import torch, arcore
        >>> model = arcore.create_model("pixelcnn", arcore.events.Binary((1, 8, 8)))
        >>> model.log_prob(torch.zeros(2, 1, 8, 8)).shape  # nats
        torch.Size([2])
    """

    Config = PixelCNNConfig
    hyperparameters: PixelCNNConfig

    def __init__(self, event: Event, hyperparameters: PixelCNNConfig) -> None:
        super().__init__(event, hyperparameters)
        p = hyperparameters
        width = self.colours(2 * p.hidden, "2 * hidden")
        self.input = self.convolution("A", self.input_colours, width, p.first_kernel)
        self.input_projection = self.projection(len(width))
        self.blocks = nn.ModuleList(_ResidualBlock(self) for _ in range(p.num_blocks))
        head = self.colours(p.head_width, "head_width")
        self.hidden_head = nn.ModuleList(
            [pixel_conv("B", width, head), pixel_conv("B", head, head)]
        )
        self.output = pixel_conv("B", head, self.colours(self.head.num_outputs))
        self.output.set_bias(self.head.initial_bias())

    def convolution(self, kind: str, inputs: Tensor, outputs: Tensor, size: int) -> CausalConv2d:
        """Make a size x size convolution of kind A or B."""
        if self.ordering == "s_curve" and size > 1:
            return LocalConv2d(kind, inputs, outputs, ((size + 1) // 2, size))
        return pixel_conv(kind, inputs, outputs, size)

    @property
    def first(self) -> list[CausalConv2d]:
        """The layer that reads the image."""
        return [self.input]

    # -- networks

    def _network(self, features: Tensor, maps: Tensor | None, call: LayerCall) -> Tensor:
        u = conditioned(call(self.input, features), self.input_projection, maps, call)
        for block in self.blocks:
            u = run_block(block, u, maps, call)
        u = relu(u)
        for layer in self.hidden_head:
            u = relu(call(layer, u), inplace=True)
        return call(self.output, u)

    def _network_at(self, features: Tensor, maps: Tensor | None, cursor: ImageCursor) -> Tensor:
        if self.training and self.hyperparameters.dropout:
            return super()._network_at(features, maps, cursor)
        steps = cursor.state(self, lambda: _ResidualSteps(self, maps, cursor, len(features)))
        return steps.outputs(features[:, :, cursor.row, cursor.column], cursor)


class _ResidualSteps:
    """The network at one pixel after the other, without new tensors at a pixel.

    `one` holds a block's core maps, and a column of ones, which the bias multiplies.
    """

    def __init__(
        self, model: PixelCNN, maps: Tensor | None, cursor: ImageCursor, batch: int
    ) -> None:
        self.model = model
        self.input = PixelSteps(model.input, batch, cursor, model.input_projection, maps)
        cursor.state(model.input, lambda: self.input)
        blocks = [cast(_ResidualBlock, block) for block in model.blocks]
        cores = [PixelSteps(block.core, batch, cursor, block.projection, maps) for block in blocks]
        self.steps = [self.input, *cores]
        self.blocks = [
            (*pointwise(block.reduce), core, with_bias(block.expand))
            for block, core in zip(blocks, cores, strict=True)
        ]
        head = [cast(CausalConv2d, layer) for layer in (*model.hidden_head, model.output)]
        self.head = [pointwise(layer) for layer in head]
        weight, hidden = model.input.weight, model.hyperparameters.hidden
        self.u, self.active = (weight.new_empty(batch, 2 * hidden) for _ in range(2))
        self.one = weight.new_ones(batch, hidden + 1)
        self.core = self.one[:, :hidden]

    def outputs(self, x: Tensor, cursor: ImageCursor) -> Tensor:
        """Return the head's maps (batch, outputs, 1, 1) for the pixel's features (batch, F)."""
        column = cursor.column
        if cursor.enters_row(self.model):
            for steps in self.steps:
                steps.start_row(cursor.row)
        self.input.slots[column].copy_(x)
        first, u, active = self.input, self.u, self.active
        torch.addmm(first.bases[column], first.windows[column], first.matrix, out=u)
        for reduce, bias, core, expand in self.blocks:
            torch.clamp_min(u, 0, out=active)
            torch.addmm(bias, active, reduce, out=core.slots[column]).relu_()
            torch.addmm(core.bases[column], core.windows[column], core.matrix, out=self.core)
            self.one.relu_()
            u.addmm_(self.one, expand)
        y = u
        for weight, bias in self.head:
            y = torch.addmm(bias, y.relu(), weight)
        return y[:, :, None, None]


class _ResidualBlock(nn.Module):
    """A residual block: 2h -> h by 1 x 1, h -> h by k x k, h -> 2h by 1 x 1, plus its input."""

    def __init__(self, model: PixelCNN) -> None:
        super().__init__()
        p = model.hyperparameters
        wide, narrow = model.colours(2 * p.hidden, "2 * hidden"), model.colours(p.hidden, "hidden")
        self.reduce = pixel_conv("B", wide, narrow)
        self.core = model.convolution("B", narrow, narrow, p.kernel)
        self.expand = pixel_conv("B", narrow, wide)
        self.projection = model.projection(p.hidden)
        self.dropout = p.dropout

    def forward(self, u: Tensor, maps: Tensor | None, call: LayerCall) -> Tensor:
        plain = maps is None and call is full_image and not (self.training and self.dropout)
        if plain and has_residual_conv(u):
            return residual_conv(u, self.reduce, self.core, self.expand)
        # what a convolution returns is nobody else's: it may change in place
        h = call(self.core, relu(call(self.reduce, relu(u)), inplace=True))
        h = conditioned(h, self.projection, maps, call)
        h = dropout(relu(h, inplace=True), self.dropout, self.training)
        return call(self.expand, h).add_(u)
