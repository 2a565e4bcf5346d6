"""Causal convolutions, which also run at one place of an image at a time."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from arcore.derived_buffers import DerivedBuffers
from arcore.layers.cursor import ImageCursor
from arcore.layers.nhwc import conv2d_nhwc
from arcore.primitives.masks import causal_kernel_mask


class CausalConv2d(DerivedBuffers):
    """A convolution whose kernel ends on the pixel's own row; images keep their size.

    y[r, c] = b + sum_{i, j} (W * M)[i, j] x[r - (rows - 1) + i, c - centre + j], zero outside.

    The mask is applied at every forward pass, so no optimiser can revive a masked weight. The
    kernel holds no rows below the pixel, which a square kernel would hold as zeros.

    Arguments:
        inputs, outputs: numbers of feature maps.
        size: rows and columns of the kernel.
        centre: the pixel's own column in the kernel.
        mask: makes (outputs, inputs, rows, columns) bool; None for a full kernel.

    Example:
        >>> CausalConv2d(2, 4, (2, 3), centre=1)(torch.ones(5, 2, 8, 8)).shape
        torch.Size([5, 4, 8, 8])
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
        seen = self.weight[0].numel()
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
        if x.shape[-1] > 1:
            return conv2d_nhwc(state.cover(x, cursor), state.weight, self.bias)
        seen = x.flatten(1) if self.size == (1, 1) else state.cover(x, cursor).flatten(1)
        return torch.addmm(self.bias, seen, state.matrix).view(len(x), len(self.bias), 1, 1)

    def write_cache(self, x: Tensor, cursor: ImageCursor) -> None:
        """Take in a piece of a row at the cursor."""
        if self.size != (1, 1):
            cursor.state(self, lambda: _ConvState(self, x, cursor)).write(x, cursor)


class _ConvState:
    """The padded input so far, (batch, rows, columns, inputs), and the masked weight."""

    def __init__(self, layer: CausalConv2d, x: Tensor, cursor: ImageCursor) -> None:
        self.weight = layer.masked_weight()
        self.matrix = self.weight.permute(2, 3, 1, 0).flatten(0, 2).contiguous()
        self.size = layer.size
        self.centre, self.right, self.above, _ = layer.padding
        if layer.size != (1, 1):
            height, width = cursor.height + self.above, cursor.width + self.centre + self.right
            self.canvas = x.new_zeros(len(x), height, width, x.shape[1])

    def write(self, x: Tensor, cursor: ImageCursor) -> None:
        """Write x, (batch, inputs, 1, n), at the cursor."""
        row, first, n = cursor.row + self.above, cursor.column + self.centre, x.shape[-1]
        if n == 1:
            self.canvas.select(1, row).select(1, first).copy_(x.flatten(1))
        else:
            self.canvas[:, row, first : first + n] = x[:, :, 0].transpose(1, 2)

    def cover(self, x: Tensor, cursor: ImageCursor) -> Tensor:
        """Write x at the cursor; return what the kernel sees for it.

        Of one pixel that is (batch, rows, columns, inputs), else (batch, inputs, rows, columns).
        """
        if self.size == (1, 1):
            return x
        self.write(x, cursor)
        row, column, n = cursor.row, cursor.column, x.shape[-1]
        seen = self.canvas[:, row : row + self.size[0], column : column + n + self.size[1] - 1]
        return seen if n == 1 else seen.permute(0, 3, 1, 2)


def pixel_conv(kind: str, inputs: Tensor, outputs: Tensor, size: int = 1) -> CausalConv2d:
    """Make a convolution over rows above and pixels to the left: a PixelCNN's masked size x size.

    Arguments:
        kind: A (without the pixel itself) or B, see `arcore.primitives.masks.causal_kernel_mask`.
        inputs: the colour of each input map, as `arcore.primitives.masks.channel_groups` shares
            them out.
        outputs: the colour of each output map.
        size: of the square kernel that it stands for, odd.
    """
    shape, centre = ((size + 1) // 2, size), (size - 1) // 2
    mask = partial(causal_kernel_mask, kind, shape, centre, outputs, inputs)
    return CausalConv2d(len(inputs), len(outputs), shape, centre, mask)


def row_conv(kind: str, inputs: Tensor, outputs: Tensor, size: int) -> CausalConv2d:
    """Make a convolution over the pixel's own row: the horizontal 1 x size, cropped at the pixel.

    Arguments as of `pixel_conv`.
    """
    shape, centre = (1, (size + 1) // 2), (size - 1) // 2
    mask = partial(causal_kernel_mask, kind, shape, centre, outputs, inputs)
    return CausalConv2d(len(inputs), len(outputs), shape, centre, mask)


def rows_conv(inputs: int, outputs: int, size: int) -> CausalConv2d:
    """Make a convolution over the own row and rows above, all columns: a vertical stack's.

    Arguments:
        inputs: number of maps below.
        outputs: number of maps.
        size: of the square kernel whose upper half it is, odd.
    """
    return CausalConv2d(inputs, outputs, ((size + 1) // 2, size), (size - 1) // 2)
