"""Columns of a table: names, integers or reals."""

import collections
import math
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from arcore.primitives.checks import require, require_int, require_positive


def number_of(text: str) -> float:
    """Return the number that a text says, in ASCII and without `_`; NaN if it says none.

    Example:
        >>> number_of("1e3"), number_of("1_000"), number_of("x")
        (1000.0, nan, nan)
    """
    try:
        return math.nan if "_" in text or not text.isascii() else float(text)
    except ValueError:
        return math.nan


def _is_finite(value: object) -> bool:
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return is_number and abs(value) <= sys.float_info.max  # type: ignore[arg-type]


def find_atoms(values: Sequence[float], share: float) -> tuple[float, ...]:
    """Return the values that at least a share of all are, but none that is there once.

    Example:
        >>> find_atoms([0.0, 0.0, 0.0, 1.5, 2.5, 9.0, 9.0], 0.25)
        (0.0, 9.0)
    """
    counts = collections.Counter(values)
    least = max(2.0, share * len(values))
    return tuple(sorted(value for value, count in counts.items() if count >= least))


@dataclass(frozen=True, kw_only=True)
class Column:
    """One column of a table.

    A cell is a number in tensors: a name its place in the list, an integer i its level i - low,
    and a real itself, in the units of the file.

    Arguments:
        name: of the column.
        levels: the list of names; or for integers their number k, from `low` on; None for reals.
        low: the least integer.
        mean: of reals, which networks see standardised.
        deviation: of reals, likewise.
        unit: of the numbers, for readers.
        atoms: values of a column of reals that have a probability each: zero, a limit, a value that
            repeats. All others share a density.

    Example:
        >>> Column(name="colour", levels=["red", "blue"]).count, Column(name="price").count
        (2, 0)
    """

    name: str
    levels: Sequence[str] | int | None = None
    low: int = 0
    mean: float = 0.0
    deviation: float = 1.0
    unit: str = ""
    atoms: Sequence[float] = ()

    def __post_init__(self) -> None:
        require(isinstance(self.name, str), "name", "text", self.name)
        require(isinstance(self.unit, str), "unit", "text", self.unit)
        levels = self.levels
        if isinstance(levels, (list, tuple)):
            fits = all(isinstance(one, str) for one in levels) and len(set(levels)) == len(levels)
            require(fits and len(levels) > 1, "levels", "two or more different names", levels)
            object.__setattr__(self, "levels", tuple(levels))
        elif levels is not None:
            require_int(levels, "levels", 2)
        fits = type(self.low) is int and (self.low == 0 or isinstance(self.levels, int))
        require(fits, "low", "an integer, 0 but for a column of integers", self.low)
        require(_is_finite(self.mean), "mean", "a finite number", self.mean)
        require_positive(self.deviation, "deviation")
        fits = isinstance(self.atoms, (list, tuple)) and len(set(self.atoms)) == len(self.atoms)
        fits = fits and all(_is_finite(atom) for atom in self.atoms)
        fits = fits and not (self.atoms and self.count)
        expected = "different finite numbers, none but for a column of reals"
        require(fits, "atoms", expected, self.atoms)
        object.__setattr__(self, "atoms", tuple(map(float, self.atoms)))

    @property
    def names(self) -> tuple[str, ...]:
        """The names; none where cells are numbers."""
        return self.levels if isinstance(self.levels, tuple) else ()

    @property
    def count(self) -> int:
        """Number of levels; 0 for reals."""
        return self.levels if isinstance(self.levels, int) else len(self.names)

    @property
    def num_outcomes(self) -> int:
        """Number of levels; of reals the atoms, and the density as one outcome."""
        return self.count or 1 + len(self.atoms)

    def to_dict(self) -> dict[str, object]:
        """Describe the column with plain types."""
        described = asdict(self)
        if not self.atoms:
            del described["atoms"]
        return described
