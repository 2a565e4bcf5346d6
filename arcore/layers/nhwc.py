"""Convolutions whose maps lie channel by channel at each pixel (NHWC), which processors prefer.

Shapes stay (batch, channels, height, width); the order in memory alone is another, and every
pointwise layer keeps it.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d


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
