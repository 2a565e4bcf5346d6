"""Frozen hyperparameters of models."""

from __future__ import annotations

import dataclasses
import difflib
import warnings
from collections.abc import Collection, Mapping
from typing import Any

from arcore.primitives.checks import require

CONDITION_FIELDS = (
    "num_classes", "condition_size", "condition_sequence", "condition_shape", "local_classes",
    "local_size",
)  # fmt: skip


@dataclasses.dataclass(frozen=True, kw_only=True)
class Hyperparameters:
    """Base of each model's hyperparameters: plain types only, validated on construction."""

    def asked_conditions(self) -> dict[str, Any]:
        """Return the conditions asked for: the fields of `CONDITION_FIELDS` that are set."""
        found = {name: getattr(self, name, None) for name in CONDITION_FIELDS}
        return {name: value for name, value in found.items() if value is not None}

    def idle_fields(self) -> dict[str, str]:
        """Return the fields that have no effect as the others are, and what would give them one."""
        found = {}
        if getattr(self, "ordering", "random") != "random":
            found["ordering_seed"] = "ordering: random"
        if getattr(self, "head", "logistic_mixture") != "logistic_mixture":
            found["num_mixtures"] = "head: logistic_mixture"
        return found

    def warn_of_idle(self, given: Collection[str]) -> None:
        """Warn of what was given, is not the default, and has no effect."""
        defaults = {field.name: field.default for field in dataclasses.fields(self)}
        for name, wanted in self.idle_fields().items():
            value = getattr(self, name)
            if name in given and value != defaults[name]:
                text = f"{name}: {value!r} has no effect without {wanted}"
                warnings.warn(text, stacklevel=4)  # where the model is created

    def require_numbers(self) -> None:
        """Refuse true and false, which Python counts among the integers, and endless sizes.

        Raises:
            ValueError: naming the field.
        """
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


def build_hyperparameters(
    kind: type[Hyperparameters], given: Mapping[str, Any], model: str
) -> Hyperparameters:
    """Build a model's hyperparameters; lists become tuples. Warns of those without an effect.

    Raises:
        ValueError: for a name that the model does not have (with the nearest one), or a value
            that its hyperparameters refuse.
    """
    known = [field.name for field in dataclasses.fields(kind)]
    for key in given:
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1)
            hint = f" (did you mean {near[0]!r}?)" if near else ""
            raise ValueError(
                f"{model}: expected hyperparameters among {', '.join(known)}, got {key!r}{hint}"
            )
    plain = {
        key: tuple(value) if isinstance(value, list) else value for key, value in given.items()
    }
    built = kind(**plain)
    built.warn_of_idle(plain)
    return built
