"""Frozen hyperparameters of models."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from arcore.primitives.checks import (
    near,
    require,
    require_dropout,
    require_int,
    require_odd,
    require_one_of,
    require_seed,
    require_sizes,
)
from arcore.primitives.orderings import ORDERINGS

CONDITION_FIELDS = (
    "num_classes", "condition_size", "condition_sequence", "condition_shape", "local_classes",
    "local_size",
)  # fmt: skip

# Of hyperparameters that several models have.
CHOICES: Mapping[str, Sequence[str]] = {
    "head": ("softmax", "logistic_mixture", "mcgsm"), "inputs": ("scaled", "one_hot"),
    "ordering": ORDERINGS,
}  # fmt: skip


@dataclasses.dataclass(frozen=True, kw_only=True)
class Hyperparameters:
    """Base of each model's hyperparameters: plain types only, validated on construction."""

    def asked_conditions(self) -> dict[str, Any]:
        """Return the conditions asked for: the fields of `CONDITION_FIELDS` that are set."""
        found = {name: getattr(self, name, None) for name in CONDITION_FIELDS}
        return {name: value for name, value in found.items() if value is not None}

    def require_numbers(self) -> None:
        """Refuse true and false, which Python counts among the integers, and endless sizes."""
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            values = value if isinstance(value, tuple) else (value,)
            is_bool = any(isinstance(one, bool) for one in values)
            if is_bool and "bool" not in str(field.type):
                require(False, field.name, "a number", value)
            most = 31 if "seed" in field.name else 24
            fits = all(not isinstance(one, int) or abs(one) < 1 << most for one in values)
            require(fits, field.name, f"integers below 2^{most}", value)

    def to_dict(self) -> dict[str, Any]:
        """Return the hyperparameters as plain types (tuples become lists)."""
        return {
            key: list(value) if isinstance(value, tuple) else value
            for key, value in dataclasses.asdict(self).items()
        }


@dataclasses.dataclass(frozen=True, kw_only=True)
class CheckedHyperparameters(Hyperparameters):
    """Hyperparameters of a network. Each field is checked by its type and its name.

    A class names the `choices` for fields of its own, the `least` of integers that is not 1 (0 for
    a list: it may be empty), and which kernels are centred (`odd`, with their least size).
    """

    choices: ClassVar[Mapping[str, Sequence[str]]] = {}
    least: ClassVar[Mapping[str, int]] = {}
    odd: ClassVar[Mapping[str, int]] = {"kernel": 1, "first_kernel": 3}  # a first of 1 sees nothing

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):  # a type is text where annotations are postponed
            name, value = field.name, getattr(self, field.name)
            if known := self.choices.get(name) or CHOICES.get(name):
                require_one_of(value, name, known)
            elif name.endswith("_seed"):
                require_seed(value, name)
            elif name == "dropout":
                require_dropout(value)
            elif name in self.odd:
                require_odd(value, name, self.odd[name])
            elif field.type in ("bool", bool):
                require(isinstance(value, bool), name, "true or false", value)
            elif field.type in ("int", int):
                require_int(value, name, self.least.get(name, 1))
            elif field.type in ("tuple[int, ...]", tuple[int, ...]):
                require_sizes(value, name, empty=self.least.get(name) == 0)


def build_hyperparameters(
    kind: type[Hyperparameters], given: Mapping[str, Any], model: str
) -> Hyperparameters:
    """Build a model's hyperparameters; lists become tuples."""
    known = [field.name for field in dataclasses.fields(kind)]
    for key in given:
        if key not in known:
            expected = f"hyperparameters among {', '.join(known)}"
            raise ValueError(f"{model}: expected {expected}, got {key!r}{near(key, known)}")
    plain = {
        key: tuple(value) if isinstance(value, list) else value for key, value in given.items()
    }
    return kind(**plain)
