"""What is modelled: binary, k-level, gray or real events of a shape, and rows of tables.

An event is one datum. Discrete events travel as integer levels in [0, num_levels).
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeGuard, TypeVar

import torch
from torch import Tensor

from arcore.columns import Column
from arcore.primitives.checks import require, require_dense, require_positive

Shape = tuple[int | None, ...]
MOST_DESCRIBED = 1 << 24  # dimensions of an event of a file
Number = TypeVar("Number", float, Tensor)


def _is_int(value: object, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def _checked_shape(shape: Sequence[int | None]) -> Shape:
    fits = isinstance(shape, Sequence) and not isinstance(shape, (str, bytes)) and len(shape) > 0
    require(fits, "shape", "a non-empty sequence of positive integers", shape)
    fits = all(extent is None or _is_int(extent, 1) for extent in shape)
    require(fits, "shape", "positive integers (or None for any length)", tuple(shape))
    return tuple(shape)


@dataclass(frozen=True)
class Event:
    """An event of a given shape; use `Binary`, `Levels`, `Real`, `Gray` or `Table`."""

    shape: Shape

    def __post_init__(self) -> None:
        object.__setattr__(self, "shape", _checked_shape(self.shape))

    @property
    def extents(self) -> tuple[int, ...]:
        """The shape; a ValueError if a dimension of it is open (None)."""
        require(None not in self.shape, "shape", "every dimension fixed", self.shape)
        return tuple(extent for extent in self.shape if extent is not None)

    @property
    def is_open(self) -> bool:
        """Whether a dimension of the shape may have any length."""
        return None in self.shape

    @property
    def bin_width(self) -> float | None:
        """Width of a level's bin where reals are dequantised levels, None elsewhere."""
        return None

    @property
    def size(self) -> int:
        """Number of dimensions D, sub-pixels counted apart; a ValueError if one is open."""
        return math.prod(self.extents)

    @property
    def step_shape(self) -> tuple[int, ...]:
        """The shape of a step of the first dimension, which may be open."""
        return tuple(extent for extent in self.shape[1:] if extent is not None)

    @property
    def size_of_step(self) -> int:
        """Number of dimensions of such a step."""
        return math.prod(self.step_shape)

    def to_dict(self) -> dict[str, Any]:
        """Describe the event with plain types; `arcore.events.from_dict` reads it back."""
        return {"kind": type(self).__name__.lower(), "shape": list(self.shape)}

    def check(self, x: Tensor, name: str = "x") -> Tensor:
        """Return `x` if it is a batch (N, *shape) of this event.

        Raises:
            ValueError: naming the argument, the expected shape or range, and what came.
        """
        require_dense(x, name)
        if x.dim() != len(self.shape) + 1 or any(
            want is not None and want != got
            for want, got in zip(self.shape, x.shape[1:], strict=True)
        ):
            wanted = ", ".join("any" if n is None else str(n) for n in self.shape)
            raise ValueError(f"{name}: expected shape (batch, {wanted}), got {tuple(x.shape)}")
        return x


@dataclass(frozen=True)
class Levels(Event):
    """A discrete event: integers in [0, num_levels).

    A list of numbers makes the event a vector, a row of a table say, whose dimension d has integers
    in [0, num_levels[d]); only a model that `takes_uneven_levels` models it. `num_levels` is then
    the largest, and `uneven` holds the numbers (None where they do not differ).

    Example:
        >>> table = Levels([2, 5, 17])
        >>> table.shape, table.num_levels, table.uneven
        ((3,), 17, (2, 5, 17))
    """

    num_levels: int
    uneven: tuple[int, ...] | None = field(default=None, repr=False)

    def __init__(
        self, num_levels: int | Sequence[int], shape: Sequence[int | None] | None = None
    ) -> None:
        shape = None if shape is None else _checked_shape(shape)
        several = isinstance(num_levels, (list, tuple))
        counts: tuple[Any, ...] = tuple(num_levels) if several else (num_levels,)  # type: ignore[arg-type]
        fits = len(counts) > 0 and all(_is_int(count, 2) and count < 2**63 for count in counts)
        require(fits, "num_levels", "an integer in [2, 2**63), or a list of them", num_levels)
        if several:
            own = (len(counts),)
            require(shape in (None, own), "shape", f"{own}, as num_levels", shape)
            shape = own
        require(shape is not None, "shape", "positive integers for one num_levels", shape)
        object.__setattr__(self, "num_levels", max(counts))
        object.__setattr__(self, "uneven", counts if len(set(counts)) > 1 else None)
        object.__setattr__(self, "shape", shape)

    def __repr__(self) -> str:
        if self.uneven is not None:
            return f"Levels({list(self.uneven)})"
        return f"{type(self).__name__}(shape={self.shape}, num_levels={self.num_levels})"

    @property
    def levels_by_dimension(self) -> tuple[int, ...]:
        """Number of levels of each of the D dimensions."""
        return self.uneven or (self.num_levels,) * self.size

    def to_dict(self) -> dict[str, Any]:
        """Describe the event with plain types."""
        counts: int | list[int] = self.num_levels if self.uneven is None else list(self.uneven)
        levels = {"num_levels": counts} if type(self) is Levels else {}
        return super().to_dict() | levels

    def check(self, x: Tensor, name: str = "x") -> Tensor:
        """Check shape, integral values and range of a batch of levels (any dtype)."""
        super().check(x, name)
        if x.is_complex():
            raise ValueError(f"{name}: expected integer levels, got dtype {x.dtype}")
        if x.numel():
            if x.is_floating_point() and not torch.equal(x, x.round()):
                raise ValueError(f"{name}: expected integer levels, got fractional values")
            values = x if x.is_floating_point() else x.long()
            low, high = (float(v) for v in torch.aminmax(values))
            if low < 0 or high >= self.num_levels:
                raise ValueError(
                    f"{name}: expected levels in [0, {self.num_levels}), "
                    f"got values in [{low:g}, {high:g}]"
                )
            if self.uneven is not None:
                self._check_each(values, name)
        return x

    def _check_each(self, values: Tensor, name: str) -> None:
        """Check the range of each dimension of a vector."""
        assert self.uneven is not None
        for dimension, (count, high) in enumerate(zip(self.uneven, values.amax(0), strict=True)):
            if high >= count:
                raise ValueError(
                    f"{name}: expected levels in [0, {count}) in dimension {dimension}, "
                    f"got {high:g}"
                )


@dataclass(frozen=True)
class Binary(Levels):
    """A binary event: values 0 and 1."""

    def __init__(self, shape: Sequence[int | None]) -> None:
        super().__init__(2, shape)


@dataclass(frozen=True)
class Gray(Levels):
    """Gray levels in [0, 256) that are read as the probabilities z = level / 255 of bits.

    What models score is the cross-entropy of Bernoulli conditionals with these targets,

        -log_prob(x) = -sum_d [z_d ln p_d + (1 - z_d) ln(1 - p_d)]    (nats),

    the published protocol of Moving MNIST: no likelihood of gray levels, and never below `entropy`.
    On x of 0 and 255 alone it is the exact likelihood of bits, which are what is drawn.

    Reference:
        Kalchbrenner et al., "Video Pixel Networks", ICML 2017, section 5.1.

    Example:
        >>> round(Gray((2,)).entropy(torch.tensor([[0, 51]])).item(), 4)  # of a bit of p = 1 / 5
        0.5004
    """

    def __init__(self, shape: Sequence[int | None]) -> None:
        super().__init__(256, shape)

    def entropy(self, x: Tensor) -> Tensor:
        """Return the least cross-entropy that targets (batch, *shape) allow, (batch,) in nats."""
        z = self.check(x).to(torch.float64).flatten(1) / (self.num_levels - 1)
        return -torch.xlogy(z, z).sum(1) - torch.xlogy(1 - z, 1 - z).sum(1)


@dataclass(frozen=True)
class Real(Event):
    """A real-valued event.

    Arguments:
        shape: its extents.
        bin_width: where values are levels plus uniform noise (x = (level + u) bin_width, u in
            [0, 1)), the width of a level's bin. A density then bounds the levels' probability:
            P(level) = E[p(x) bin_width^D] >= exp E[ln p(x)] bin_width^D. None elsewhere.
    """

    bin_width: float | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        width = self.bin_width
        if width is not None:
            require_positive(width, "bin_width")
            object.__setattr__(self, "bin_width", float(width))

    def to_dict(self) -> dict[str, Any]:
        """Describe the event with plain types."""
        return super().to_dict() | ({} if self.bin_width is None else {"bin_width": self.bin_width})

    def check(self, x: Tensor, name: str = "x") -> Tensor:
        """Check the shape of a batch of finite floating-point values."""
        super().check(x, name)
        if not x.is_floating_point():
            raise ValueError(f"{name}: expected floating-point values, got dtype {x.dtype}")
        if not bool(torch.isfinite(x).all()):
            raise ValueError(f"{name}: expected finite values, got NaN or infinity")
        return x


@dataclass(frozen=True)
class Table(Event):
    """A row of a table, whose columns are names, integers or reals.

    A batch is a tensor (N, D) of the cells' numbers (`Column`), float64 where reals need it. What
    models score is one density: with respect to the counting measure on columns of names and of
    integers and on the atoms of reals, and to the Lebesgue measure on other reals, in the units of
    the file. It sums and integrates to 1 over all columns together, and compares with scores of the
    same columns alone: another unit of a real (metres for feet) shifts all of them by the same
    number of nats, where none has atoms.

    Example:
        >>> cars = Table([Column(name="colour", levels=["red", "blue"]), Column(name="price")])
        >>> cars
        Table(1 column of levels, 1 of reals)
        >>> cars.size, [column.count for column in cars.columns]
        (2, [2, 0])
    """

    columns: tuple[Column, ...]

    def __init__(self, columns: Sequence[Column]) -> None:
        fits = isinstance(columns, (list, tuple)) and len(columns) > 0
        fits = fits and all(isinstance(column, Column) for column in columns)
        require(fits, "columns", "a non-empty list of arcore.columns.Column", columns)
        names = [column.name for column in columns]
        require(len(set(names)) == len(names), "columns", "different names", names)
        object.__setattr__(self, "columns", tuple(columns))
        object.__setattr__(self, "shape", (len(columns),))

    def __repr__(self) -> str:
        discrete = sum(column.count > 0 for column in self.columns)
        what = f"{discrete} column{'s' * (discrete != 1)} of levels"
        return f"Table({what}, {self.size - discrete} of reals)"

    def to_dict(self) -> dict[str, Any]:
        """Describe the event with plain types."""
        return super().to_dict() | {"columns": [column.to_dict() for column in self.columns]}

    def check(self, x: Tensor, name: str = "x") -> Tensor:
        """Check that cells are finite, and that names and integers are levels of their column."""
        super().check(x, name)
        fits = not x.is_complex() and bool(torch.isfinite(x).all())
        require(fits, name, "finite numbers (impute or marginalise missing cells)", "others")
        cells_of = (x if x.is_floating_point() else x.long()).unbind(1)
        for column, cells in zip(self.columns, cells_of, strict=True):
            if column.count and len(cells):
                low, high = (float(value) for value in torch.aminmax(cells))
                fits = 0 <= low and high < column.count and bool((cells == cells.round()).all())
                expected = f"levels in [0, {column.count}) in column {column.name!r}"
                require(fits, name, expected, f"values in [{low:g}, {high:g}]")
        return x


def is_levels(event: Event) -> TypeGuard[Levels]:
    """Tell whether events are discrete (bits, levels or gray targets)."""
    return isinstance(event, Levels)


def is_gray(event: Event) -> TypeGuard[Gray]:
    """Tell whether events are gray targets, whose scores are cross-entropies."""
    return isinstance(event, Gray)


def is_real(event: Event) -> TypeGuard[Real]:
    """Tell whether events are real-valued, so that their scores are of a density."""
    return isinstance(event, Real)


def is_table(event: Event) -> TypeGuard[Table]:
    """Tell whether events are rows of a table with columns of several kinds."""
    return isinstance(event, Table)


def resized(event: Levels, shape: Sequence[int | None]) -> Levels:
    """Return the same kind of discrete event with another shape.

    Example:
        >>> resized(Binary((2, 3)), (3,))
        Binary(shape=(3,), num_levels=2)
    """
    require(event.uneven is None, "event", "one number of levels", event)
    if isinstance(event, Gray):
        return Gray(shape)
    return Binary(shape) if isinstance(event, Binary) else Levels(event.num_levels, shape)


def after_frames(event: Event, context: int) -> Event:
    """Return the event that remains of a clip (T, ...) when its first frames are given.

    Example:
        >>> after_frames(Gray((20, 1, 64, 64)), 10).size
        40960
    """
    if context == 0:
        return event
    frames = event.extents[0]
    fits = isinstance(event, Levels) and 0 < context < frames
    require(fits, "context", f"0 <= frames given < {frames}", context)
    assert isinstance(event, Levels)
    return resized(event, (frames - context, *event.shape[1:]))


def to_dict(event: Event) -> dict[str, Any]:
    """Describe an event with plain types; `from_dict` reads it back."""
    return event.to_dict()


def _table_from(columns: object, shape: object) -> Table:
    fits = isinstance(columns, list) and all(isinstance(one, Mapping) for one in columns)
    require(fits, "columns", "a list of mappings", columns)
    assert isinstance(columns, list)
    fits = isinstance(shape, list | tuple) and [*map(repr, shape)] == [repr(len(columns))]
    require(fits, "shape", f"[{len(columns)}], of the columns", shape)
    try:
        return Table([Column(**one) for one in columns])
    except TypeError as error:  # of other fields
        raise ValueError(f"columns: {error}") from None


def from_dict(described: Mapping[str, Any]) -> Event:
    """Build the event that `to_dict` described.

    Raises:
        ValueError: for an unknown kind, missing fields or endless sizes.
    """
    require(isinstance(described, Mapping), "event", "a mapping", type(described).__name__)
    kinds: dict[str, type[Event]] = {
        "binary": Binary, "gray": Gray, "levels": Levels, "real": Real, "table": Table,
    }  # fmt: skip
    fields = dict(described)
    name = fields.pop("kind", None)
    require(isinstance(name, str) and name in kinds, "event kind", f"one of {sorted(kinds)}", name)
    assert isinstance(name, str)
    own = {"levels": {"num_levels"}, "table": {"columns"}}
    expected = {"shape"} | own.get(name, set())
    got = set(fields) - ({"bin_width"} if name == "real" else set())
    require(got == expected, "event", f"fields {sorted(expected)}", sorted(map(str, got)))
    shape = fields["shape"]
    if name == "table":
        return _table_from(fields["columns"], shape)
    require(isinstance(shape, list | tuple), "shape", "a list of integers", shape)
    event = kinds[name](**{**fields, "shape": tuple(shape)})
    size = math.prod(extent or 1 for extent in event.shape)
    require(size <= MOST_DESCRIBED, "shape", f"at most {MOST_DESCRIBED:,} dimensions", size)
    return event
