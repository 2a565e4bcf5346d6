"""Evaluating a network at one place of an image at a time.

A network that takes its layers by a function, `call(layer, x)`, is written once and runs in two
ways: `full_image` evaluates it over whole images, an `ImageCursor` at one pixel or one row, where
each layer keeps what later places need. The cost of a pixel is then one product per layer.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, TypeVar, cast

from torch import Tensor, nn

State = TypeVar("State")


class LayerCall(Protocol):
    """How a network evaluates a layer."""

    def __call__(self, layer: nn.Module, x: Tensor) -> Tensor:
        """Return what the layer makes of x."""
        ...


class Reader(Protocol):
    """A layer that reads the features of the image, which are known after it was evaluated."""

    def write_cache(self, x: Tensor, cursor: ImageCursor) -> None:
        """Take in the features at the cursor."""
        ...


def full_image(layer: nn.Module, x: Tensor) -> Tensor:
    """Evaluate a layer over whole images, (batch, channels, height, width)."""
    return layer(x)


class ImageCursor:
    """A place in a batch of images, and the states of the layers that were evaluated there.

    Rows come in order, and in each row pixels or the whole row (`span` is 1 or the width). The same
    place may be evaluated again with another input, which replaces what it left before. Images are
    transformed by `symmetry`, for layers whose weights depend on the order.
    """

    def __init__(self, height: int, width: int, symmetry: str = "identity") -> None:
        self.height, self.width, self.symmetry = height, width, symmetry
        self.row, self.column, self.span = 0, 0, 1
        self._states: dict[nn.Module, Any] = {}
        self._rows: dict[nn.Module, int] = {}

    def __call__(self, layer: nn.Module, x: Tensor) -> Tensor:
        """Evaluate a layer on the piece of a row at the cursor, (batch, channels, 1, span)."""
        return cast(Tensor, layer.step(x, self))  # type: ignore[operator]

    def at(self, row: int, column: int, span: int = 1) -> ImageCursor:
        """Move to a place."""
        self.row, self.column, self.span = row, column, span
        return self

    def piece(self, maps: Tensor) -> Tensor:
        """Cut the piece of a row at the cursor out of maps of full or of unit extent."""
        rows = slice(self.row, self.row + 1) if maps.shape[-2] > 1 else slice(None)
        columns = slice(self.column, self.column + self.span)
        return maps[:, :, rows, columns if maps.shape[-1] > 1 else slice(None)]

    def enters_row(self, layer: nn.Module) -> bool:
        """Tell whether a layer asks for the first time at the cursor's row."""
        before, self._rows[layer] = self._rows.get(layer), self.row
        return before != self.row

    def state(self, layer: nn.Module, make: Callable[[], State]) -> State:
        """Return a layer's state, made at its first use."""
        if layer not in self._states:
            self._states[layer] = make()
        return cast(State, self._states[layer])
