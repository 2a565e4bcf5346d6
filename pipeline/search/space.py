"""The space of a search: typed parameters, checked before anything starts.

    space:
      model.ordering: {choice: [raster, snake, random]}
      model.hidden: {choice: [[200], [500, 500]]}
      trainer.optimizer.learning_rate: {loguniform: [0.0003, 0.01]}

`choice` draws an option and `grid` runs each; `uniform`, `loguniform` (floats), `randint` and
`lograndint` (integers) draw from [low, high): the high end is left out, as in NumPy.
"""

import json
import math
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from pipeline.core.errors import UserError, unknown_name

LISTS = ("choice", "grid")
FLOATS = ("uniform", "loguniform")
INTEGERS = ("randint", "lograndint")
LOGARITHMIC = ("loguniform", "lograndint")
KINDS = (*LISTS, *FLOATS, *INTEGERS)
GROUPS = ("model", "trainer")


@dataclass(frozen=True)
class Parameter:
    """One dimension of a space: a dotted name, one of KINDS, and its options or (low, high)."""

    name: str
    kind: str
    values: tuple[Any, ...]

    def distribution(self) -> BaseDistribution:
        """Return Optuna's distribution. Options are written in JSON, since it wants scalars."""
        if self.kind in LISTS:
            return CategoricalDistribution([json.dumps(value) for value in self.values])
        (low, high), is_log = self.values, self.kind in LOGARITHMIC
        if self.kind in INTEGERS:
            return IntDistribution(int(low), int(high) - 1, log=is_log)
        return FloatDistribution(low, high, log=is_log)

    def decode(self, drawn: str | float) -> object:
        """Return the value that a draw stands for, as a plain type."""
        if self.kind in LISTS:
            value: object = json.loads(str(drawn))
            return value
        return int(drawn) if self.kind in INTEGERS else float(drawn)

    def encode(self, value: Any) -> str | float:
        """Return what is drawn for a value; the inverse of `decode`."""
        if self.kind in LISTS:
            option = self._option(value)
            return json.dumps(value if option is None else option[0])
        number: float = value
        return number

    def examples(self) -> list[object]:
        """Return values that must do for all to do: each option, or both ends of a range.

        Of floats one is no integer, which most draws are not.
        """
        if self.kind in LISTS:
            return list(self.values)
        low, high = self.values
        if self.kind in INTEGERS:
            return [low, high - 1]
        return [float(low), float(high), low + (high - low) / math.pi]

    def contains(self, value: object) -> bool:
        """Tell whether a draw may give the value."""
        if self.kind in LISTS:
            return self._option(value) is not None
        low, high = self.values
        if not isinstance(value, int | float) or isinstance(value, bool):
            return False
        return bool(low <= value < high)

    def _option(self, value: object) -> tuple[object] | None:
        """Return the option that a value is, 0 being 0.0 but not false; None if there is none."""
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        for option in self.values:
            alike = is_number and not isinstance(option, bool) and option == value
            if alike or json.dumps(option) == json.dumps(value):
                return (option,)
        return None


def parse_space(space: object, where: str) -> tuple[Parameter, ...]:
    """Parse and check a space of params.yaml, which errors call `where`."""
    if not isinstance(space, Mapping) or not space:
        raise UserError(f"{where}: expected a mapping of parameters, got {space!r}")
    return tuple(_parse(str(name), given, f"{where}.{name}") for name, given in space.items())


def _parse(name: str, given: object, where: str) -> Parameter:
    group, dot, rest = name.partition(".")
    if group not in GROUPS or not dot or not rest:
        raise UserError(f"{where}: expected a name below 'model.' or 'trainer.', got {name!r}")
    if not isinstance(given, Mapping) or len(given) != 1:
        raise UserError(f"{where}: expected one of {', '.join(KINDS)} with a list, got {given!r}")
    ((kind, values),) = given.items()
    if kind not in KINDS:
        raise unknown_name(f"kind of {where}", kind, KINDS)
    where = f"{where}.{kind}"
    if not isinstance(values, list) or not values:
        raise UserError(f"{where}: expected a list, got {values!r}")
    if kind in LISTS:
        options = [json.dumps(value) for value in values]
        if len(set(options)) < len(options):
            raise UserError(f"{where}: expected distinct options, got {values!r}")
        return Parameter(name, kind, tuple(values))
    wanted = int if kind in INTEGERS else (int, float)
    fits = len(values) == 2 and all(
        isinstance(v, wanted) and not isinstance(v, bool) and abs(v) <= sys.float_info.max
        for v in values
    )
    if not fits or values[0] >= values[1]:
        numbers = "integers" if kind in INTEGERS else "numbers"
        raise UserError(f"{where}: expected two {numbers} [low, high], low < high, got {values!r}")
    if kind in LOGARITHMIC and values[0] <= 0:
        raise UserError(f"{where}: expected low > 0, got {values!r}")
    return Parameter(name, kind, tuple(values))
