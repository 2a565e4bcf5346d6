"""What a model may be conditioned on: a class, a vector, a map, or something for each frame."""

from __future__ import annotations

import abc
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor

from arcore.primitives.checks import require, require_int

if TYPE_CHECKING:
    from arcore.hyperparameters import Hyperparameters


@dataclass(frozen=True)
class Condition(abc.ABC):
    """A kind of condition; use `Classes`, `Vector`, `Map`, `Symbols` or `Frames`.

    Attributes:
        is_integer: whether a condition is int64, not floating-point.
        noun: what it is called in errors.
    """

    is_integer: ClassVar[bool] = False
    noun: ClassVar[str]

    @property
    @abc.abstractmethod
    def extents(self) -> tuple[int | None, ...]:
        """Shape of one event's condition; None where any number of frames will do."""

    def numbers(self, frames: int) -> int:
        """Count the numbers of one event's condition, of `frames` frames where any will do."""
        return math.prod(frames if extent is None else extent for extent in self.extents)

    def expected(self, batch: int) -> str:
        """Say in words what a condition for `batch` events is."""
        kind = "int64" if self.is_integer else "floating-point"
        shape = [str(batch), *("any" if n is None else str(n) for n in self.extents)]
        shown = ", ".join(shape) if len(shape) > 1 else f"{batch},"
        return f"{kind} {self.noun} of shape ({shown})"

    def unflatten(self, values: Tensor, batch: int) -> Tensor:
        """Shape all numbers of a condition, row after row, as a condition for `batch` events."""
        return values.reshape(batch, *(-1 if n is None else n for n in self.extents))

    def check_shape(self, condition: object, batch: int) -> None:
        """Check all but values."""
        got: object = condition
        if isinstance(condition, Tensor):
            is_dense = condition.layout == torch.strided
            require(is_dense, "condition", "a dense tensor", condition.layout)
            if self._fits(condition, batch):
                return
            got = (condition.dtype, tuple(condition.shape))
        raise ValueError(f"condition: expected {self.expected(batch)}, got {got!r}")

    def _fits(self, condition: Tensor, batch: int) -> bool:
        # int64 only, since other integers index as masks or not at all
        is_int64 = condition.dtype == torch.int64
        if not (is_int64 if self.is_integer else condition.is_floating_point()):
            return False
        if condition.dim() != 1 + len(self.extents) or len(condition) != batch:
            return False
        shape = condition.shape[1:]
        fits = all(n in (None, got) for n, got in zip(self.extents, shape, strict=True))
        return fits and math.prod(shape) >= self.numbers(1)

    def check_values(self, condition: Tensor) -> None:
        """Check the values of a condition whose shape fits."""
        if not bool(torch.isfinite(condition).all()):
            raise ValueError("condition: expected finite values, got NaN or infinity")


@dataclass(frozen=True)
class Classes(Condition):
    """A class label for each event, int64 in [0, num_classes)."""

    num_classes: int
    is_integer = True
    noun = "class labels"

    @property
    def extents(self) -> tuple[int | None, ...]:
        """Of a label, none."""
        return ()

    def check_values(self, condition: Tensor) -> None:
        """Check the range of labels."""
        _require_range(condition, "classes", self.num_classes)


@dataclass(frozen=True)
class Vector(Condition):
    """A vector for each event, floating-point (batch, size)."""

    size: int
    noun = "vectors"

    @property
    def extents(self) -> tuple[int | None, ...]:
        """Length of a vector."""
        return (self.size,)


@dataclass(frozen=True)
class Map(Condition):
    """A map for each event, floating-point (batch, channels, height, width) of any resolution."""

    shape: tuple[int, int, int]
    noun = "maps"

    @property
    def extents(self) -> tuple[int | None, ...]:
        """Channels, height and width."""
        return self.shape


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
    is_integer = True
    noun = "symbols"

    @property
    def extents(self) -> tuple[int | None, ...]:
        """Frames, and the class."""
        return (None if self.frames is None else self.numbers(self.frames),)

    def numbers(self, frames: int) -> int:
        """Count the frames, and the class."""
        return (self.frames or frames) + (self.num_classes is not None)

    def expected(self, batch: int) -> str:
        """Say in words what symbols for `batch` events are."""
        if self.num_classes is None:
            return super().expected(batch)
        frames = "any" if self.frames is None else str(self.frames)
        return f"int64 of shape ({batch}, 1 + {frames}), a class and its frames' symbols"

    def split(self, condition: Tensor) -> tuple[Tensor | None, Tensor]:
        """Return the classes (batch,), None without any, and the symbols (batch, frames)."""
        if self.num_classes is None:
            return None, condition
        return condition[:, 0], condition[:, 1:]

    def check_values(self, condition: Tensor) -> None:
        """Check the range of classes and of symbols."""
        classes, symbols = self.split(condition)
        if classes is not None and self.num_classes is not None:
            _require_range(classes, "classes", self.num_classes)
        _require_range(symbols, "symbols", self.num_symbols)


@dataclass(frozen=True)
class Frames(Condition):
    """Features for each frame of an event, floating-point (batch, frames, size).

    Arguments:
        size: features per frame.
        frames: of an event, None where events have any length.
    """

    size: int
    frames: int | None
    noun = "features"

    @property
    def extents(self) -> tuple[int | None, ...]:
        """Frames and features."""
        return (self.frames, self.size)


def _require_range(values: Tensor, noun: str, count: int) -> None:
    if values.numel() and not bool(((values >= 0) & (values < count)).all()):
        low, high = (int(value) for value in torch.aminmax(values))
        raise ValueError(f"condition: expected {noun} in [0, {count}), got [{low}, {high}]")


def condition_from(hyperparameters: Hyperparameters) -> Condition | None:
    """The condition that hyperparameters ask for by one of the names below."""
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
