"""What a model may be conditioned on: a class, a vector, a map, or something for each frame."""

from __future__ import annotations

import abc
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from arcore.primitives.checks import require, require_int

if TYPE_CHECKING:
    from arcore.hyperparameters import Hyperparameters


@dataclass(frozen=True)
class Condition(abc.ABC):
    """A kind of condition; use `Classes`, `Vector`, `Map`, `Symbols` or `Frames`."""

    @abc.abstractmethod
    def expected(self, batch: int) -> str:
        """Say in words what a condition for `batch` events is."""

    def check_shape(self, condition: object, batch: int) -> None:
        """Check all but values.

        Raises:
            ValueError: naming what was expected and what came.
        """
        got: object = condition
        if isinstance(condition, Tensor):
            if self._fits(condition, batch):
                return
            got = (condition.dtype, tuple(condition.shape))
        raise ValueError(f"condition: expected {self.expected(batch)}, got {got!r}")

    def check_values(self, condition: Tensor) -> None:
        """Check the values of a condition whose shape fits."""
        if not bool(torch.isfinite(condition).all()):
            raise ValueError("condition: expected finite values, got NaN or infinity")

    @property
    @abc.abstractmethod
    def is_integer(self) -> bool:
        """Whether a condition is int64, not floating-point."""

    @abc.abstractmethod
    def unflatten(self, values: Tensor, batch: int) -> Tensor:
        """Shape all numbers of a condition, row after row, as a condition for `batch` events."""

    @abc.abstractmethod
    def numbers(self, frames: int) -> int:
        """Count the numbers of one event's condition, of `frames` frames where any will do."""

    @abc.abstractmethod
    def _fits(self, condition: Tensor, batch: int) -> bool:
        """Say whether the shape and the kind of numbers fit."""


@dataclass(frozen=True)
class Classes(Condition):
    """A class label for each event, int64 in [0, num_classes)."""

    num_classes: int

    def expected(self, batch: int) -> str:
        """Say in words what labels for `batch` events are."""
        return f"int64 class labels of shape ({batch},)"

    @property
    def is_integer(self) -> bool:
        """Return True."""
        return True

    def unflatten(self, values: Tensor, batch: int) -> Tensor:
        """Shape the numbers of all rows as a condition for `batch` events."""
        return values.reshape(batch)

    def numbers(self, frames: int) -> int:
        """Count the numbers of one event's condition."""
        return 1

    def _fits(self, condition: Tensor, batch: int) -> bool:
        # int64 only, since other integers index as masks or not at all
        return condition.shape == (batch,) and condition.dtype == torch.int64

    def check_values(self, condition: Tensor) -> None:
        """Check the range of labels."""
        if len(condition) and not bool(((condition >= 0) & (condition < self.num_classes)).all()):
            raise ValueError(
                f"condition: expected classes in [0, {self.num_classes}), got {condition!r}"
            )


@dataclass(frozen=True)
class Vector(Condition):
    """A vector for each event, floating-point (batch, size)."""

    size: int

    def expected(self, batch: int) -> str:
        """Say in words what vectors for `batch` events are."""
        return f"floating-point vectors of shape ({batch}, {self.size})"

    @property
    def is_integer(self) -> bool:
        """Return False."""
        return False

    def unflatten(self, values: Tensor, batch: int) -> Tensor:
        """Shape the numbers of all rows as a condition for `batch` events."""
        return values.reshape(batch, self.size)

    def numbers(self, frames: int) -> int:
        """Count the numbers of one event's condition."""
        return self.size

    def _fits(self, condition: Tensor, batch: int) -> bool:
        return condition.shape == (batch, self.size) and condition.is_floating_point()


@dataclass(frozen=True)
class Map(Condition):
    """A map for each event, floating-point (batch, channels, height, width) of any resolution."""

    shape: tuple[int, int, int]

    def expected(self, batch: int) -> str:
        """Say in words what maps for `batch` events are."""
        return f"floating-point maps of shape {(batch, *self.shape)}"

    @property
    def is_integer(self) -> bool:
        """Return False."""
        return False

    def unflatten(self, values: Tensor, batch: int) -> Tensor:
        """Shape the numbers of all rows as a condition for `batch` events."""
        return values.reshape(batch, *self.shape)

    def numbers(self, frames: int) -> int:
        """Count the numbers of one event's condition."""
        return math.prod(self.shape)

    def _fits(self, condition: Tensor, batch: int) -> bool:
        return condition.shape == (batch, *self.shape) and condition.is_floating_point()


@dataclass(frozen=True)
class Symbols(Condition):
    """A symbol for each frame of an event, int64 (batch, frames), behind a class if there are any.

    Arguments:
        num_symbols: symbols are in [0, num_symbols).
        num_classes: classes of the first column, None without that column.
        frames: of an event, None where events have any length.
    """

    num_symbols: int
    num_classes: int | None
    frames: int | None

    def expected(self, batch: int) -> str:
        """Say in words what symbols for `batch` events are."""
        frames = "any" if self.frames is None else str(self.frames)
        if self.num_classes is None:
            return f"int64 symbols of shape ({batch}, {frames})"
        return f"int64 of shape ({batch}, 1 + {frames}), a class and its frames' symbols"

    @property
    def is_integer(self) -> bool:
        """Return True."""
        return True

    def unflatten(self, values: Tensor, batch: int) -> Tensor:
        """Shape the numbers of all rows as a condition for `batch` events."""
        return values.reshape(batch, -1)

    def numbers(self, frames: int) -> int:
        """Count the numbers of one event's condition."""
        return (self.frames or frames) + (self.num_classes is not None)

    def _fits(self, condition: Tensor, batch: int) -> bool:
        if condition.dim() != 2 or len(condition) != batch or condition.dtype != torch.int64:
            return False
        frames = condition.shape[1] - (self.num_classes is not None)
        return frames >= 1 if self.frames is None else frames == self.frames

    def split(self, condition: Tensor) -> tuple[Tensor | None, Tensor]:
        """Return the classes (batch,), None without any, and the symbols (batch, frames)."""
        if self.num_classes is None:
            return None, condition
        return condition[:, 0], condition[:, 1:]

    def check_values(self, condition: Tensor) -> None:
        """Check the range of classes and of symbols."""
        classes, symbols = self.split(condition)
        if classes is not None and self.num_classes is not None:
            Classes(self.num_classes).check_values(classes)
        if symbols.numel() and not bool(((symbols >= 0) & (symbols < self.num_symbols)).all()):
            low, high = (int(value) for value in torch.aminmax(symbols))
            raise ValueError(
                f"condition: expected symbols in [0, {self.num_symbols}), got [{low}, {high}]"
            )


@dataclass(frozen=True)
class Frames(Condition):
    """Features for each frame of an event, floating-point (batch, frames, size).

    Arguments:
        size: features per frame.
        frames: of an event, None where events have any length.
    """

    size: int
    frames: int | None

    def expected(self, batch: int) -> str:
        """Say in words what features for `batch` events are."""
        frames = "any" if self.frames is None else str(self.frames)
        return f"floating-point features of shape ({batch}, {frames}, {self.size})"

    @property
    def is_integer(self) -> bool:
        """Return False."""
        return False

    def unflatten(self, values: Tensor, batch: int) -> Tensor:
        """Shape the numbers of all rows as a condition for `batch` events."""
        return values.reshape(batch, -1, self.size)

    def numbers(self, frames: int) -> int:
        """Count the numbers of one event's condition."""
        return (self.frames or frames) * self.size

    def _fits(self, condition: Tensor, batch: int) -> bool:
        if condition.dim() != 3 or not condition.is_floating_point():
            return False
        count, frames, size = condition.shape
        return count == batch and size == self.size and frames == (self.frames or max(frames, 1))


def condition_from(hyperparameters: Hyperparameters) -> Condition | None:
    """The condition that hyperparameters ask for by one of the names below.

    Raises:
        ValueError: for more than one of them, or one that is out of range.
    """
    names = ("num_classes", "condition_size", "condition_sequence", "condition_shape")
    given = {n: v for n in names if (v := getattr(hyperparameters, n, None)) is not None}
    if not given:
        return None
    require(len(given) == 1, " and ".join(given), "one of them at most", given)
    ((name, value),) = given.items()
    extents = {
        "condition_shape": "three extents: channels, height, width",
        "condition_sequence": "two extents: frames, size",
    }
    if name in extents:
        fits = isinstance(value, tuple) and len(value) == (3 if name == "condition_shape" else 2)
        require(fits, name, extents[name], value)
        for extent in value:
            require_int(extent, name, 1)
        return Map(value) if name == "condition_shape" else Frames(value[1], value[0])
    require_int(value, name, 1)
    return Classes(value) if name == "num_classes" else Vector(value)
