"""Valid convolutions followed by their mirror images, full ones; also pixel by pixel."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from arcore.layers.convolutions import conv2d_nhwc
from arcore.layers.incremental_mlp import activate
from arcore.layers.level_features import condition_weight, embedded
from arcore.primitives.dropout import dropout

Window = tuple[int, int, int, int]  # first row, end of rows, first column, end of columns
Border = tuple[int, int, int, int]  # left, right, top, bottom


class ConvBranch(nn.Module):
    """Convolutional network over a map, whose output has the map's height and width.

    Layer l has channels[l] outputs and a square kernel of kernels[l], without padding (valid), so
    that a side of n becomes n - k + 1; then the same in reverse with padding k - 1 (full), where n
    becomes n + k - 1. Kernels are cut down to the maps that they meet, so that any map fits.

    Arguments:
        inputs, outputs: channels of the map and of the output.
        extents: height and width of the map.
        channels, kernels: of each valid convolution, at least one, and sides of their kernels.
        activation: relu or tanh, after all but the last layer.
        rate: probability of dropping a hidden unit in training.
        condition_rows: classes of a condition, or the length of a vector that is one, which
            shifts the first layer's channels.
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
        self._sides = [extents]  # of each layer's input, and of the output
        for (kh, kw), (ph, pw) in zip(self.shapes, self.paddings, strict=True):
            height, width = self._sides[-1]
            self._sides.append((height + 2 * ph - kh + 1, width + 2 * pw - kw + 1))
        # how many valid layers to keep in step with the input, where pixels take turns
        costs = self._costs()
        self.split = costs.index(min(costs))
        self.class_channels = condition_weight(condition_rows, channels[0])

    def forward(self, maps: Tensor, condition: Tensor | None = None) -> Tensor:
        """Map (batch, inputs, height, width) to (batch, outputs, height, width)."""
        borders = [(width, width, height, height) for height, width in self.paddings]
        return self._run(maps, condition, borders)

    def at(self, maps: Tensor, row: int, column: int, condition: Tensor | None = None) -> Tensor:
        """Return the outputs at one pixel, (batch, outputs), from what they depend on alone."""
        windows, borders = self._reads(row, column)
        # a copy, since autograd keeps it while the caller goes on filling maps
        part = maps[:, :, *_slices(windows[0])].clone()
        return self._run(part, condition, borders)[:, :, 0, 0]

    def shown(self) -> ShownMaps:
        """Return what computes pixels one after the other, without gradients."""
        return ShownMaps(self)

    def _reads(self, row: int, column: int) -> tuple[list[Window], list[Border]]:
        """Return what each layer must read for an output pixel, and the zeros beyond the edges."""
        window, windows, borders = (row, row + 1, column, column + 1), [], []
        for index in reversed(range(len(self.layers))):
            (kh, kw), (ph, pw) = self.shapes[index], self.paddings[index]
            height, width = self._sides[index]
            top, bottom = window[0] - ph, window[1] - ph + kh - 1
            left, right = window[2] - pw, window[3] - pw + kw - 1
            window = (max(top, 0), min(bottom, height), max(left, 0), min(right, width))
            windows.append(window)
            across = window[2] - left, right - window[3]
            borders.append((*across, window[0] - top, bottom - window[1]))
        return windows[::-1], borders[::-1]

    def _changes(self, row: int, column: int) -> list[Window]:
        """Return the outputs of each valid layer that a pixel of the input has a part in."""
        window, windows = (row, row + 1, column, column + 1), []
        count = len(self.shapes) // 2
        for (kh, kw), (height, width) in zip(self.shapes[:count], self._sides[1:], strict=False):
            window = (
                max(window[0] - kh + 1, 0), min(window[1], height),
                max(window[2] - kw + 1, 0), min(window[3], width),
            )  # fmt: skip
            windows.append(window)
        return windows

    def _costs(self) -> list[int]:
        """Return the multiplications for all pixels in turn, by how many layers are kept."""
        layers = cast(list[nn.Conv2d], list(self.layers))
        rows, columns = self._lines(0), self._lines(1)
        changed, read = (
            [
                rows[kind][index] * columns[kind][index] * layer.weight.numel()
                for index, layer in enumerate(layers)
            ]
            for kind in (0, 1)
        )
        splits = range(len(layers) // 2 + 1)
        return [sum(changed[:split]) + sum(read[split:]) for split in splits]

    def _lines(self, axis: int) -> tuple[list[int], list[int]]:
        """Return the lines of each layer's output that are changed and read, over all pixels."""
        count = len(self.layers)
        changed, read = [0] * count, [0] * count
        for place in range(self.extents[axis]):
            pixel = (place, 0) if axis == 0 else (0, place)
            windows = self._reads(*pixel)[0]
            outputs = [*windows[1:], (pixel[0], pixel[0] + 1, pixel[1], pixel[1] + 1)]
            for index, window in enumerate(outputs):
                read[index] += window[2 * axis + 1] - window[2 * axis]
            for index, window in enumerate(self._changes(*pixel)):
                changed[index] += window[2 * axis + 1] - window[2 * axis]
        return changed, read

    def _run(
        self, h: Tensor, condition: Tensor | None, borders: Sequence[Border], first: int = 0
    ) -> Tensor:
        """Compute as many layers as borders from `first` on; all but the first activate theirs."""
        layers = cast(list[nn.Conv2d], list(self.layers))[first : first + len(borders)]
        for index, (layer, border) in enumerate(zip(layers, borders, strict=True), first):
            if index > first:
                h = dropout(_activated(h, self.activation), self.rate, self.training)
            symmetric = border[0] == border[1] and border[2] == border[3]
            if not symmetric:
                h = pad(h, border)
            padding = (border[2], border[0]) if symmetric else (0, 0)
            h = conv2d_nhwc(h, layer.weight, layer.bias, padding=padding)
            if index == 0 and condition is not None and self.class_channels is not None:
                h = h + embedded(self.class_channels, condition)[:, :, None, None]
        return h


class ShownMaps:
    """The first layers' activations for a map that is shown pixel by pixel; not differentiable.

    Showing a pixel changes a window of each layer, and reading one takes a window of each: the
    first `split` layers are kept in step with what is shown, where that costs less.
    """

    def __init__(self, branch: ConvBranch) -> None:
        self._branch = branch
        self._kept: list[Tensor] = []
        self._pending: list[tuple[int, int]] = []

    def show(self, row: int, column: int) -> None:
        """Take note that the map is another at a pixel."""
        self._pending.append((row, column))

    def at(self, maps: Tensor, row: int, column: int, condition: Tensor | None = None) -> Tensor:
        """Return the outputs at a pixel of the map as it is now, as `ConvBranch.at` does."""
        branch, split = self._branch, self._branch.split
        if not split:
            return branch.at(maps, row, column, condition)
        self._catch_up(maps, condition)
        windows, borders = branch._reads(row, column)
        part = self._kept[-1][:, :, *_slices(windows[split])]
        return branch._run(part, condition, borders[split:], split)[:, :, 0, 0]

    def _catch_up(self, maps: Tensor, condition: Tensor | None) -> None:
        branch = self._branch
        if not self._kept:
            h = maps
            for index in range(branch.split):
                h = self._layer(index, h, condition)
                self._kept.append(h)
        else:
            for pixel in self._pending:
                for index, window in enumerate(branch._changes(*pixel)[: branch.split]):
                    below = self._kept[index - 1] if index else maps
                    kh, kw = branch.shapes[index]
                    top, bottom, left, right = window
                    read = (top, bottom + kh - 1, left, right + kw - 1)
                    h = self._layer(index, below[:, :, *_slices(read)], condition)
                    self._kept[index][:, :, *_slices(window)] = h
        self._pending = []

    def _layer(self, index: int, h: Tensor, condition: Tensor | None) -> Tensor:
        h = self._branch._run(h, condition, [(0, 0, 0, 0)], index)
        return _activated(h, self._branch.activation)


def _activated(h: Tensor, activation: str) -> Tensor:
    """Activate a convolution's outputs, in place where no gradient is recorded."""
    if torch.is_grad_enabled():
        return activate(h, activation)
    return h.relu_() if activation == "relu" else h.tanh_()


def _slices(window: Window) -> tuple[slice, slice]:
    return slice(window[0], window[1]), slice(window[2], window[3])
