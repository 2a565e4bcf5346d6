"""Valid convolutions followed by their mirror images, full ones; also at a single pixel."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from arcore.layers.conditioning import embedded
from arcore.layers.incremental_mlp import activate
from arcore.layers.nhwc import conv2d_nhwc
from arcore.primitives.dropout import dropout


class ConvBranch(nn.Module):
    """Convolutional network over a map, whose output has the map's height and width.

    Layer l has channels[l] outputs and a square kernel of kernels[l], without padding (valid), so
    that a side of n becomes n - k + 1; then the same in reverse with padding k - 1 (full), where n
    becomes n + k - 1. Kernels are cut down to the maps that they meet, so that any map fits.

    Reference:
        Uria, Cote, Gregor, Murray and Larochelle, "Neural Autoregressive Distribution Estimation",
        JMLR 2016.

    Arguments:
        inputs: channels of the map.
        outputs: channels of the output.
        extents: height and width of the map.
        channels: of each valid convolution, at least one.
        kernels: sides of their kernels, as many.
        activation: relu or tanh, after all but the last layer.
        rate: probability of dropping a hidden unit in training.
        condition_rows: classes of a condition, or the length of a vector that is one, which
            shifts the first layer's channels.

    Example:
        >>> net = ConvBranch(2, 1, (28, 28), [64, 64, 64, 64], [8, 4, 6, 7])
        >>> [tuple(layer.weight.shape[1:]) for layer in net.layers][3:5]
        [(64, 7, 7), (64, 7, 7)]
        >>> maps = torch.ones(3, 2, 28, 28)
        >>> torch.allclose(net(maps)[:, :, 5, 9], net.at(maps, 5, 9), atol=1e-6)
        True
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        extents: tuple[int, int],
        channels: Sequence[int],
        kernels: Sequence[int],
        activation: str = "relu",
        rate: float = 0.0,
        condition_rows: int | None = None,
    ) -> None:
        super().__init__()
        self.activation, self.rate = activation, rate
        shapes = []
        side = extents
        for kernel in kernels:
            shapes.append((min(kernel, side[0]), min(kernel, side[1])))
            side = (side[0] - shapes[-1][0] + 1, side[1] - shapes[-1][1] + 1)
        widths = [inputs, *channels, *channels[-2::-1], outputs]
        self.layers = nn.ModuleList(
            nn.Conv2d(a, b, shape)
            for a, b, shape in zip(widths, widths[1:], shapes + shapes[::-1], strict=False)
        )
        down = [(0, 0)] * len(shapes)
        self.paddings = down + [(height - 1, width - 1) for height, width in reversed(shapes)]
        self.shapes = shapes + shapes[::-1]
        self.extents = extents
        if condition_rows is not None:
            self.class_channels = nn.Parameter(torch.zeros(condition_rows, channels[0]))

    def forward(self, maps: Tensor, condition: Tensor | None = None) -> Tensor:
        """Map (batch, inputs, height, width) to (batch, outputs, height, width)."""
        borders = [(width, width, height, height) for height, width in self.paddings]
        return self._run(maps, condition, borders)

    def at(self, maps: Tensor, row: int, column: int, condition: Tensor | None = None) -> Tensor:
        """Return the outputs at one pixel, (batch, outputs), from what they depend on alone."""
        window, borders = (row, row + 1, column, column + 1), []
        sides = self._input_sides()
        for index in reversed(range(len(self.layers))):
            (kh, kw), (ph, pw), (height, width) = (
                self.shapes[index], self.paddings[index], sides[index],
            )  # fmt: skip
            top, bottom = window[0] - ph, window[1] - ph + kh - 1
            left, right = window[2] - pw, window[3] - pw + kw - 1
            window = (max(top, 0), min(bottom, height), max(left, 0), min(right, width))
            across, along = (
                (window[2] - left, right - window[3]),
                (window[0] - top, bottom - window[1]),
            )
            borders.append((*across, *along))
        # a copy, since autograd keeps it while the caller goes on filling maps
        part = maps[:, :, window[0] : window[1], window[2] : window[3]].clone()
        return self._run(part, condition, borders[::-1])[:, :, 0, 0]

    def _input_sides(self) -> list[tuple[int, int]]:
        sides = [self.extents]
        for (kh, kw), (ph, pw) in zip(self.shapes, self.paddings, strict=True):
            sides.append((sides[-1][0] + 2 * ph - kh + 1, sides[-1][1] + 2 * pw - kw + 1))
        return sides[:-1]

    def _run(
        self, h: Tensor, condition: Tensor | None, borders: list[tuple[int, int, int, int]]
    ) -> Tensor:
        layers = cast(list[nn.Conv2d], list(self.layers))
        for index, (layer, border) in enumerate(zip(layers, borders, strict=True)):
            if index:
                h = dropout(activate(h, self.activation), self.rate, self.training)
            symmetric = border[0] == border[1] and border[2] == border[3]
            if not symmetric:
                h = pad(h, border)
            padding = (border[2], border[0]) if symmetric else (0, 0)
            h = conv2d_nhwc(h, layer.weight, layer.bias, padding=padding)
            if index == 0 and condition is not None:
                h = h + embedded(self.class_channels, condition)[:, :, None, None]
        return h
