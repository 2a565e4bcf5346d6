"""What every use is: a frozen dataclass of its settings, which runs and gives an outcome."""

import abc
import copy
import dataclasses
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from torch import Tensor

from pipeline.core.errors import require, require_seed
from pipeline.evaluation.scoring import mean_and_error
from pipeline.uses.use_context import UseContext
from pipeline.uses.use_records import Number, UseOutcome

T = TypeVar("T")
WORDS, LEAST = "words", "least"
MOST = 1_000_000  # of any setting but the seed


def setting(default: T, words: str, least: float | None = None) -> T:
    """Declare a setting of a use, and the smallest value of it, or of each element of a list."""
    metadata = {WORDS: words, LEAST: least}
    return dataclasses.field(default_factory=lambda: copy.copy(default), metadata=metadata)


@dataclass(frozen=True, kw_only=True)
class Use(abc.ABC):
    """A use of a trained model; its fields are its settings."""

    seed: int = setting(0, "of all random choices: rows, noise and draws")

    def __post_init__(self) -> None:
        require_seed(self.seed, "seed")
        for field in dataclasses.fields(self):
            _require_least(field, getattr(self, field.name))

    def run(self, context: UseContext, folder: Path) -> UseOutcome:
        """Write files into a folder, and return what they show."""
        outcome = self._run(context, folder)
        for number in outcome.numbers:
            fits = math.isfinite(number.value) and math.isfinite(number.stderr or 0.0)
            got = f"{number.value} +- {number.stderr}"
            require(fits, f"{context.experiment}: {number.name}", "finite numbers", got)
        return outcome

    @abc.abstractmethod
    def _run(self, context: UseContext, folder: Path) -> UseOutcome: ...

    @classmethod
    def settings_text(cls) -> str:
        """Return a line for each setting: its name, its default and what it is."""
        lines = []
        for field in dataclasses.fields(cls):
            assert field.default_factory is not dataclasses.MISSING  # as `setting` declares it
            lines.append(f"  {field.name}={field.default_factory()}: {field.metadata[WORDS]}")
        return "\n".join(lines)

    def settings(self) -> dict[str, object]:
        """Return the settings as plain types, the seed last."""
        values = dataclasses.asdict(self)
        values["seed"] = values.pop("seed")
        return values


def _require_least(field: dataclasses.Field[object], value: Any) -> None:
    least = field.metadata[LEAST]
    if least is None:
        return
    expected = f"{'a number' if field.type in ('float', float) else 'an integer'} >= {least}"
    if isinstance(value, list):
        expected = f"integers >= {least}"
    elif "None" in str(field.type):
        expected += " or null"
    for one in value if isinstance(value, list) else [value]:
        require(one is None or one >= least, field.name, expected, one)
        require(one is None or one <= MOST, field.name, f"at most {MOST:,}", one)


def share_of(name: str, holds: Tensor) -> Number:
    """Return the share of rows where something holds, (rows,) bool, with its standard error.

    Where it holds of all rows or of none, that error would be 0, which says nothing.
    """
    share = float(holds.double().mean())
    error = math.sqrt(share * (1 - share) / len(holds)) if 0 < share < 1 else None
    return Number(name=name, value=share, stderr=error)


def mean_of(name: str, values: Tensor, unit: str = "", sign: str = "") -> Number:
    """Return the mean over rows, (rows,), with its standard error where there are several."""
    mean, error = mean_and_error(values.double())
    return Number(
        name=name, value=mean, stderr=error if len(values) > 1 else None, unit=unit, sign=sign
    )
