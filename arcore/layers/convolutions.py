"""Convolutions in NHWC order, which processors prefer, and causal ones, also pixel by pixel.

Shapes stay (batch, channels, height, width); the order in memory alone is another, and every
pointwise layer keeps it.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, pad

from arcore.derived_buffers import DerivedBuffers
from arcore.layers.cursor import ImageCursor
from arcore.primitives.masks import causal_kernel_mask
from arcore.primitives.orderings import SYMMETRIES, transformed


def conv2d_nhwc(x: Tensor, weight: Tensor, bias: Tensor | None, **options: Any) -> Tensor:
    """Convolve as `torch.nn.functional.conv2d` does; the result is in NHWC order.

    The weight decides the order, so that maps in another order are converted once, here. A weight
    of a single channel has both orders, and maps of a single channel are then read as NHWC.
    """
    weight = weight.contiguous(memory_format=torch.channels_last)
    if x.shape[1] == 1 and not x.requires_grad:
        height, width = x.shape[-2:]
        x = x.contiguous().as_strided(x.shape, (height * width, 1, width, 1))
    return conv2d(x, weight, bias, **options)


class Conv2d(nn.Conv2d):
    """torch's convolution, in NHWC order."""

    def forward(self, x: Tensor) -> Tensor:
        """Map (batch, in_channels, height, width) to (batch, out_channels, ...)."""
        options = {"stride": self.stride, "padding": self.padding, "dilation": self.dilation}
        return conv2d_nhwc(x, self.weight, self.bias, **options)


class ConvTranspose2d(nn.ConvTranspose2d):
    """torch's transposed convolution, in NHWC order."""

    def forward(self, x: Tensor, output_size: list[int] | None = None) -> Tensor:
        """Map (batch, in_channels, height, width) to (batch, out_channels, ...)."""
        x = x.contiguous(memory_format=torch.channels_last)
        return super().forward(x, output_size)


class CausalConv2d(DerivedBuffers):
    """A convolution whose kernel ends on the pixel's own row; images keep their size.

    y[r, c] = b + sum_{i, j} (W * M)[i, j] x[r - (rows - 1) + i, c - centre + j], zero outside.

    The mask is applied at every forward pass, so no optimiser can revive a masked weight.

    Arguments:
        inputs, outputs: numbers of feature maps.
        size: rows and columns of the kernel.
        centre: the pixel's own column in the kernel.
        mask: makes (outputs, inputs, rows, columns) bool; None for a full kernel.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        size: tuple[int, int] = (1, 1),
        centre: int = 0,
        mask: Callable[[], Tensor] | None = None,
    ) -> None:
        super().__init__()
        rows, columns = size
        self.size, self.centre = size, centre
        self.padding = (centre, columns - 1 - centre, rows - 1, 0)
        self.weight = nn.Parameter(torch.empty(outputs, inputs, rows, columns))
        self.bias = nn.Parameter(torch.zeros(outputs))
        pattern = None if mask is None else mask()  # after the weight, which may be too large
        self.pattern = None if pattern is None or bool(pattern.all()) else pattern
        self.mask: Tensor | None
        here = None if self.pattern is None else self.pattern.to(self.weight.device)
        self.register_buffer("mask", here, persistent=False)
        self.reset_parameters()

    def _rebuild(self) -> None:
        self.mask = None if self.pattern is None else self.pattern.to(self.weight.device)

    def reset_parameters(self) -> None:
        """Draw weights uniformly, scaled by the number of inputs that the mask lets through."""
        seen = self.weight.shape[1] * math.prod(self.size)
        if self.pattern is not None:
            seen = max(1, int(self.pattern.flatten(1).sum(1).max()))
        nn.init.uniform_(self.weight, -math.sqrt(3 / seen), math.sqrt(3 / seen))

    @torch.no_grad()
    def set_bias(self, bias: Tensor) -> None:
        """Start from a bias, (outputs,), and small weights, as an output layer does."""
        self.bias.copy_(bias)
        self.weight.mul_(0.1)

    def masked_weight(self) -> Tensor:
        """Return the weight with masked entries zero."""
        return self.weight if self.mask is None else self.weight * self.mask

    def row_weights(self, symmetry: str) -> list[Tensor]:
        """Return the masked weights of rows in turn, for a network's order."""
        return [self.masked_weight()]

    def forward(self, x: Tensor) -> Tensor:
        """Map (batch, inputs, height, width) to (batch, outputs, height, width)."""
        left, right, above, _ = self.padding
        if left != right:
            x, left = pad(x, self.padding), 0
        elif above:  # a convolution pads both sides alike, without a copy
            x = pad(x, (0, 0, above, 0))
        return conv2d_nhwc(x, self.masked_weight(), self.bias, padding=(0, left))

    def step(self, x: Tensor, cursor: ImageCursor) -> Tensor:
        """Map a piece of a row at the cursor, (batch, inputs, 1, n), to (batch, outputs, 1, n)."""
        state = cursor.state(self, lambda: _ConvState(self, x, cursor))
        weight, matrix = state.weights[cursor.row % len(state.weights)]
        if x.shape[-1] > 1:
            return conv2d_nhwc(state.cover(x, cursor), weight, self.bias)
        seen = x.flatten(1) if self.size == (1, 1) else state.cover(x, cursor).flatten(1)
        return torch.addmm(self.bias, seen, matrix).view(len(x), len(self.bias), 1, 1)

    def write_cache(self, x: Tensor, cursor: ImageCursor) -> None:
        """Take in a piece of a row at the cursor."""
        if self.size != (1, 1):
            cursor.state(self, lambda: _ConvState(self, x, cursor)).write(x, cursor)


class LocalConv2d(CausalConv2d):
    """A locally masked convolution of kind A or B: y_i = b + sum_k W_k m_ik x_{i+k}.

    m_ik = 1 where pixel i + k precedes i in an S-curve: even rows to the right, odd ones to the
    left. It depends on the row's parity alone, so that two convolutions of every other row do.
    Other orders transform image and W, which has the same weight for a neighbour in each of them.

    Arguments:
        kind: A or B; None without a mask, for a vertical stack.
        inputs, outputs: the colour of each feature map.
        size: rows and columns of the kernel, which are the first rows of a square W. With a mask, a
            single row is one of the two arms of a cross, the pixel's row or its column.

    Reference:
        Jain, Abbeel and Pathak, "Locally Masked Convolution for Autoregressive Models", UAI 2020.
    """

    def __init__(
        self, kind: str | None, inputs: Tensor, outputs: Tensor, size: tuple[int, int]
    ) -> None:
        centre = (size[1] - 1) // 2
        mask = partial(causal_kernel_mask, kind or "B", size, centre, outputs, inputs)
        super().__init__(len(inputs), len(outputs), size, centre, mask if kind else None)
        is_row = kind is not None and size[0] == 1
        shape = min(2, size[1]) if is_row else size[1], size[1]
        self.weight = nn.Parameter(self.weight.new_empty(*self.weight.shape[:2], *shape))
        self.reset_parameters()

    def row_weights(self, symmetry: str) -> list[Tensor]:
        """Return the masked weights of even rows and of odd ones, of the transformed image."""
        weight: Tensor = self.weight
        if weight.shape[2] == 2:
            weight = weight[:, :, 1:].mT if SYMMETRIES[symmetry][0] % 2 else weight[:, :, :1]
        weight = transformed(weight, symmetry)[:, :, : self.size[0]]
        if self.mask is None:
            return [weight]
        return [weight * self.mask, weight * self.mask.flip(-1)]

    def forward(self, x: Tensor, symmetry: str = "identity") -> Tensor:
        """Map (batch, inputs, height, width) to (batch, outputs, ...), of transformed images."""
        height, weights = x.shape[2], self.row_weights(symmetry)
        x, stride = pad(x, (*self.padding[:3], height % len(weights))), (len(weights), 1)
        rows = [
            conv2d_nhwc(x[:, :, first:], weight, self.bias, stride=stride).permute(0, 2, 3, 1)
            for first, weight in enumerate(weights)
        ]
        return torch.stack(rows, 2).flatten(1, 2)[:, :height].permute(0, 3, 1, 2)


def along_curve(symmetry: str, layer: nn.Module, x: Tensor) -> Tensor:
    """Evaluate a layer over whole images, transformed for an order (see `LayerCall`)."""
    return layer(x, symmetry) if isinstance(layer, LocalConv2d) else layer(x)


class _ConvState:
    """The padded rows that the kernel covers, (batch, rows, columns, inputs), and weights."""

    def __init__(self, layer: CausalConv2d, x: Tensor, cursor: ImageCursor) -> None:
        self.weights = [
            (weight, weight.permute(2, 3, 1, 0).flatten(0, 2).contiguous())
            for weight in layer.row_weights(cursor.symmetry)
        ]
        self.size = layer.size
        self.layer, self.centre = layer, layer.centre
        if layer.size != (1, 1):
            rows, columns = layer.size
            self.canvas = x.new_zeros(len(x), rows, cursor.width + columns - 1, x.shape[1])

    def write(self, x: Tensor, cursor: ImageCursor) -> None:
        """Write x, (batch, inputs, 1, n), at the cursor."""
        if cursor.enters_row(self.layer):
            self.canvas[:, :-1] = self.canvas[:, 1:].clone()
            self.canvas[:, -1] = 0
        first, n = cursor.column + self.centre, x.shape[-1]
        if n == 1:
            self.canvas.select(1, -1).select(1, first).copy_(x.flatten(1))
        else:
            self.canvas[:, -1, first : first + n] = x[:, :, 0].transpose(1, 2)

    def cover(self, x: Tensor, cursor: ImageCursor) -> Tensor:
        """Write x at the cursor; return what the kernel sees for it."""
        if self.size == (1, 1):
            return x
        self.write(x, cursor)
        column, n = cursor.column, x.shape[-1]
        seen = self.canvas[:, :, column : column + n + self.size[1] - 1]
        return seen if n == 1 else seen.permute(0, 3, 1, 2)


def pixel_conv(kind: str, inputs: Tensor, outputs: Tensor, size: int = 1) -> CausalConv2d:
    """Make a PixelCNN's masked size x size, over rows above and pixels to the left; kind A or B."""
    shape, centre = ((size + 1) // 2, size), (size - 1) // 2
    mask = partial(causal_kernel_mask, kind, shape, centre, outputs, inputs)
    return CausalConv2d(len(inputs), len(outputs), shape, centre, mask)


def row_conv(kind: str, inputs: Tensor, outputs: Tensor, size: int) -> CausalConv2d:
    """Make the horizontal 1 x size over the pixel's own row, cropped at the pixel; kind A or B."""
    shape, centre = (1, (size + 1) // 2), (size - 1) // 2
    mask = partial(causal_kernel_mask, kind, shape, centre, outputs, inputs)
    return CausalConv2d(len(inputs), len(outputs), shape, centre, mask)


def rows_conv(inputs: int, outputs: int, size: int) -> CausalConv2d:
    """Make a convolution over the own row and rows above, all columns: a vertical stack's."""
    return CausalConv2d(inputs, outputs, ((size + 1) // 2, size), (size - 1) // 2)


class PixelSteps:
    """One causal convolution of a batch of images, over buffers that are allocated once.

        y[r, c] = base[r, c] + sum_j x[r, c - centre + j] W_j,

    where base[r, c] has the bias, what the rows above give and the projected maps of a condition,
    and j is at most the centre where all rows have the same weights. A pixel writes
    its input to `slots[c]`; the result is `torch.addmm(bases[c], windows[c], matrix)`. For a few
    maps, its time is mostly the overhead of operations.
    """

    @torch.no_grad()
    def __init__(
        self,
        layer: CausalConv2d,
        batch: int,
        cursor: ImageCursor,
        projection: nn.Module | None,
        maps: Tensor | None,
    ) -> None:
        rows, columns = layer.size
        centre, width = layer.centre, cursor.width
        weights = layer.row_weights(cursor.symmetry)
        weight, reach = weights[0], centre + 1 if len(weights) == 1 else columns
        outputs, inputs = weight.shape[:2]
        self.above = weight[:, :, :-1]
        self.matrices = [
            each[:, :, -1, :reach].permute(2, 1, 0).reshape(-1, outputs).contiguous()
            for each in weights
        ]
        self.matrix = self.matrices[0].clone()
        self.added = None if maps is None or projection is None else projection(maps)
        self.bias, self.pad = layer.bias, (centre, columns - 1 - centre)
        canvas = weight.new_zeros(batch, width + reach - 1, inputs)
        self.base = layer.bias.repeat(batch, width, 1)
        self.finished = weight.new_zeros(batch, inputs, rows - 1, centre + width + self.pad[1])
        self.row = canvas[:, centre : centre + width]
        self.slots = self.row.unbind(1)
        self.bases = self.base.unbind(1)
        flat = canvas.flatten(1)
        self.windows = [
            flat[:, column * inputs : (column + reach) * inputs] for column in range(width)
        ]

    @torch.no_grad()
    def start_row(self, row: int, link: Tensor | None = None) -> None:
        """Take in the row that is complete, and compute what is added to this one's products."""
        rows, width = self.finished.shape[2], self.row.shape[1]
        self.matrix.copy_(self.matrices[row % len(self.matrices)])  # a recorded step reads it there
        if row and rows:
            self.finished[:, :, :-1] = self.finished[:, :, 1:].clone()
            last = self.finished[:, :, -1, self.pad[0] : self.pad[0] + width]
            last.copy_(self.row.transpose(1, 2))
            found = conv2d_nhwc(self.finished, self.above, self.bias)
            self.base.copy_(found[:, :, 0].transpose(1, 2))
        else:
            self.base.copy_(self.bias.expand_as(self.base))
        if self.added is not None:
            self.base += self.added[:, :, min(row, self.added.shape[2] - 1)].transpose(1, 2)
        if link is not None:
            self.base += link[:, :, 0].transpose(1, 2)

    def write(self, x: Tensor, cursor: ImageCursor) -> None:
        """Write x, (batch, inputs, 1, 1), at the cursor, as layers' states do."""
        self.slots[cursor.column].copy_(x.flatten(1))


def pointwise(layer: CausalConv2d) -> tuple[Tensor, Tensor]:
    """Return a 1 x 1 convolution's weight, (inputs, outputs), and bias."""
    return layer.masked_weight()[:, :, 0, 0].t().contiguous(), layer.bias


def with_bias(layer: CausalConv2d) -> Tensor:
    """Return a 1 x 1 convolution's weight and bias, (inputs + 1, outputs): its last input is 1."""
    weight, bias = pointwise(layer)
    return torch.cat([weight, bias[None]])
