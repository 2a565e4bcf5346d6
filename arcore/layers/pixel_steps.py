"""Causal convolutions at one pixel after the other, over buffers that are allocated once.

For a few maps, a pixel's time is mostly the overhead of operations: of cutting windows out of maps,
of copies and of new tensors. Here what rows above add to a row's pixels is one convolution per row,
and on the pixel's own row windows, results and their views are made once for all rows.
"""

from __future__ import annotations

import torch
from torch import Tensor

from arcore.layers.cursor import ImageCursor
from arcore.layers.masked_conv import CausalConv2d
from arcore.layers.nhwc import conv2d_nhwc


class PixelSteps:
    """One causal convolution of a batch of images.

        y[r, c] = base[r, c] + sum_{j <= centre} x[r, c - centre + j] W_j,

    where base[r, c] has the bias, what the rows above give and what is added to all pixels. A pixel
    writes its input to `slots[c]`; the result is `torch.addmm(bases[c], windows[c], matrix)`.

    Arguments:
        layer: of which no weight sees pixels to the right on the own row.
        batch: images side by side.
        width: pixels of a row.
        added: (batch, outputs, height or 1, width or 1), what a condition adds, or None.
    """

    @torch.no_grad()
    def __init__(
        self, layer: CausalConv2d, batch: int, width: int, added: Tensor | None = None
    ) -> None:
        rows, columns = layer.size
        centre, weight = layer.centre, layer.masked_weight()
        outputs, inputs = weight.shape[:2]
        own, self.above = weight[:, :, -1, : centre + 1], weight[:, :, :-1]
        self.matrix = own.permute(2, 1, 0).reshape(-1, outputs).contiguous()
        self.added = added
        self.bias, self.pad = layer.bias, (centre, columns - 1 - centre)
        canvas = weight.new_zeros(batch, width + centre, inputs)
        self.base = layer.bias.repeat(batch, width, 1)
        self.finished = weight.new_zeros(batch, inputs, rows - 1, centre + width + self.pad[1])
        self.row = canvas[:, centre:]
        self.slots = self.row.unbind(1)
        self.bases = self.base.unbind(1)
        flat = canvas.flatten(1)
        self.windows = [
            flat[:, column * inputs : (column + centre + 1) * inputs] for column in range(width)
        ]

    @torch.no_grad()
    def start_row(self, row: int, link: Tensor | None = None) -> None:
        """Take in the row that is complete, and compute what is added to this one's products."""
        rows, width = self.finished.shape[2], self.row.shape[1]
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
