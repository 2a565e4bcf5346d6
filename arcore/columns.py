"""Columns of a table: names, integers or reals."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from arcore.primitives.checks import require, require_int, require_positive


@dataclass(frozen=True, kw_only=True)
class Column:
    """One column of a table.

    A cell is a number in tensors: a name its place in the list, an integer i its level i - low,
    and a real itself, in the units of the file.

    Arguments:
        name: of the column.
        levels: the list of names; or for integers their number k, from `low` on; None for reals.
        low: the least integer.
        mean, deviation: of reals, by which networks see them standardised.
        unit: of the numbers, for readers.

    Example:
        >>> Column(name="colour", levels=["red", "blue"]).count, Column(name="price").count
        (2, 0)
    """

    name: str
    levels: tuple[str, ...] | int | None = None
    low: int = 0
    mean: float = 0.0
    deviation: float = 1.0
    unit: str = ""

    def __post_init__(self) -> None:
        for field in ("name", "unit"):
            fits = isinstance(getattr(self, field), str)
            require(fits, field, "text", getattr(self, field))
        levels = self.levels
        if isinstance(levels, (list, tuple)):
            fits = all(isinstance(one, str) for one in levels) and len(set(levels)) == len(levels)
            require(fits and len(levels) > 1, "levels", "two or more different names", levels)
            object.__setattr__(self, "levels", tuple(levels))
        elif levels is not None:
            require_int(levels, "levels", 2)
            require(levels < 1 << 24, "levels", "an integer below 2^24", levels)
        is_int = isinstance(self.low, int) and not isinstance(self.low, bool)
        require(is_int and abs(self.low) < 1 << 52, "low", "an integer below 2^52", self.low)
        fits = self.low == 0 or (levels is not None and not self.is_named)
        require(fits, "low", "0 but for integers", self.low)
        is_number = isinstance(self.mean, (int, float)) and not isinstance(self.mean, bool)
        require(is_number and math.isfinite(self.mean), "mean", "a finite number", self.mean)
        require_positive(self.deviation, "deviation")

    @property
    def is_named(self) -> bool:
        """Whether cells are names."""
        return isinstance(self.levels, tuple)

    @property
    def count(self) -> int:
        """Number of levels; 0 for reals."""
        return len(self.levels) if isinstance(self.levels, tuple) else self.levels or 0

    def to_dict(self) -> dict[str, Any]:
        """Describe what differs from the defaults, with plain types."""
        found = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        found["levels"] = list(self.levels) if isinstance(self.levels, tuple) else self.levels
        default = {field.name: field.default for field in dataclasses.fields(self)}
        return {key: value for key, value in found.items() if value != default[key]}

    @classmethod
    def from_dict(cls, described: object) -> Column:
        """Build the column that `to_dict` described."""
        known = {field.name for field in dataclasses.fields(cls)}
        fits = isinstance(described, Mapping) and "name" in described and set(described) <= known
        require(fits, "column", f"a mapping with name, of {sorted(known)}", described)
        assert isinstance(described, Mapping)
        return cls(**described)
