"""How a condition enters a network over images."""

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate, one_hot, relu

from arcore.conditions import Classes, Condition, Map, Vector
from arcore.layers.convolutions import Conv2d
from arcore.layers.cursor import ImageCursor, LayerCall, full_image


class ConditionMaps(nn.Module):
    """Turns a condition into maps, (batch, channels, 1, 1) or (batch, channels, height, width).

    A class becomes its indicator and a vector itself, so that each layer's own projection is its
    own embedding. A map passes a small network that brings it to the image's resolution.
    """

    def __init__(self, kind: Condition, size: tuple[int, int], width: int) -> None:
        super().__init__()
        self.kind, self.size = kind, size
        if isinstance(kind, Map):
            self.coarse = Conv2d(kind.shape[0], width, 3, padding=1)
            self.fine = Conv2d(width, width, 3, padding=1)
            self.channels = width
        else:
            assert isinstance(kind, (Classes, Vector))
            self.channels = kind.num_classes if isinstance(kind, Classes) else kind.size

    def forward(self, condition: Tensor, dtype: torch.dtype) -> Tensor:
        """Return the maps of a checked condition."""
        if isinstance(self.kind, Classes):
            return one_hot(condition, self.kind.num_classes).to(dtype)[:, :, None, None]
        if isinstance(self.kind, Vector):
            return condition.to(dtype)[:, :, None, None]
        maps = relu(self.coarse(condition.to(dtype)))
        if maps.shape[-2:] != self.size:
            maps = interpolate(maps, self.size, mode="nearest")
        return relu(self.fine(maps))


class ConditionProjection(nn.Module):
    """Adds a 1 x 1 projection of condition maps to a layer's maps.

    `zero_initialised` begins at zero, so that a network learns what all classes have in common as
    fast as without a condition. Not for maps from a network, which would have no gradient at first.
    """

    def __init__(self, channels: int, outputs: int, zero_initialised: bool = False) -> None:
        super().__init__()
        self.project = Conv2d(channels, outputs, 1, bias=False)
        if zero_initialised:
            nn.init.zeros_(self.project.weight)

    def forward(self, maps: Tensor) -> Tensor:
        """Map (batch, channels, h, w) to (batch, outputs, h, w)."""
        return self.project(maps)

    def step(self, maps: Tensor, cursor: ImageCursor) -> Tensor:
        """Project the whole maps once; return the piece at the cursor."""
        whole, row = cursor.state(self, lambda: ((found := self(maps)), found[:, :, :1].clone()))
        if cursor.enters_row(self) and whole.shape[2] > 1:
            row.copy_(whole[:, :, cursor.row : cursor.row + 1])  # a recorded step reads it there
        return cursor.piece(row)


def conditioned(
    a: Tensor, projection: nn.Module | None, maps: Tensor | None, call: LayerCall = full_image
) -> Tensor:
    """Add a projection of condition maps to a layer's maps, if there are any."""
    return a if maps is None or projection is None else a + call(projection, maps)
