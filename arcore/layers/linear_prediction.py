"""Linear predictions of a pixel from its neighbours, to which a mixture's means are relative.

In a photograph a pixel is nearly a linear function of those around it, to a part of a level. A
network that is to say so passes it through all its layers; one whose means are relative to the
prediction says what is left. In the parameters' own precision, autocast or not: half precision has
eight bits, and the levels have as many.
"""

from functools import partial

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d

from arcore.layers.convolutions import CausalConv2d
from arcore.layers.cursor import ImageCursor
from arcore.primitives.masks import causal_kernel_mask, channel_groups
from arcore.primitives.pyramids import Group


class CausalPrediction(CausalConv2d):
    """A prediction of each colour from the pixels before in raster order.

        y^[c, row, column] = b_c + sum_{c', i, j} (W * M)[c, c', i, j] y[c', row + i, column + j],

    starting at 3/4 (left + above) - 1/2 above left, of the same colour, zero beyond the edge.

    Arguments:
        colours: C.
        size: of the square kernel whose causal part it sees, odd, at least 3.
    """

    def __init__(self, colours: int, size: int) -> None:
        shape, centre = ((size + 1) // 2, size), (size - 1) // 2
        same = channel_groups(colours, 1)  # none sees the pixel itself
        mask = partial(causal_kernel_mask, "A", shape, centre, same, same)
        super().__init__(colours, colours, shape, centre, mask)

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Start from the three nearest pixels."""
        nn.init.zeros_(self.weight)
        for colour in range(len(self.weight)):
            kernel = self.weight[colour, colour]
            kernel[-1, self.centre - 1] = kernel[-2, self.centre] = 0.75
            kernel[-2, self.centre - 1] = -0.5

    def forward(self, x: Tensor) -> Tensor:
        """Map (batch, C, height, width) in [-1, 1] to predictions of it."""
        with torch.autocast(x.device.type, enabled=False):
            return super().forward(x)

    def step(self, x: Tensor, cursor: ImageCursor) -> Tensor:
        """Map the pixel at the cursor, (batch, C, 1, 1), to its prediction."""
        with torch.autocast(x.device.type, enabled=False):
            return super().step(x, cursor)


class GroupPrediction(nn.Module):
    """A prediction of a group's pixels from other groups on all sides.

    It starts at the mean of the two or four known ones at a distance of one, zero beyond the edge;
    `size` is of the kernel on a group's grid, odd, at least 3.
    """

    def __init__(self, known: list[Group], group: Group, colours: int, size: int) -> None:
        super().__init__()
        self.size = size
        self.weight = nn.Parameter(torch.zeros(colours, len(known) * colours, size, size))
        self.bias = nn.Parameter(torch.zeros(colours))
        near = [
            (index, row, column)
            for index, one in enumerate(known)
            for row in range(size)
            for column in range(size)
            if _distance(one, group, row - size // 2, column - size // 2) == 1
        ]
        same = torch.arange(colours)
        with torch.no_grad():
            for index, row, column in near:
                self.weight[same, index * colours + same, row, column] = 1 / len(near)

    def forward(self, known: Tensor) -> Tensor:
        """Map the known groups' pixels (batch, known C, height, width) to predictions."""
        with torch.autocast(known.device.type, enabled=False):
            return conv2d(known, self.weight, self.bias, padding=self.size // 2)


def _distance(known: Group, group: Group, rows: int, columns: int) -> int:
    """Count steps on the finer grid from a group's pixel to a known one some cells away."""
    step = group.stride // 2
    down = known.row - group.row + rows * group.stride
    across = known.column - group.column + columns * group.stride
    return (abs(down) + abs(across)) // step
