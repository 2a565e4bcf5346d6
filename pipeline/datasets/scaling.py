"""How values were standardised, kept so that it can be undone."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pipeline.core.errors import UserError


@dataclass(frozen=True)
class Scaling:
    """What is taken from rows of values and what they are divided by: z = (x - mean) / deviation.

    Arguments:
        mean: over the training rows, float64, of a row's shape.
        deviation: alike, > 0.

    Example:
        >>> scaling = Scaling(np.array([10.0, 0.0]), np.array([2.0, 1.0]))
        >>> scaling.of([[14.0, 3.0]]).tolist(), scaling.undo([[2.0, 3.0]]).tolist()
        ([[2.0, 3.0]], [[14.0, 3.0]])
        >>> round(scaling.nats, 4)
        0.6931
    """

    mean: np.ndarray
    deviation: np.ndarray

    def of(self, values: npt.ArrayLike) -> np.ndarray:
        """Standardise rows of values, (N, *row), float64."""
        scaled: np.ndarray = (np.asarray(values) - self.mean) / self.deviation
        return scaled

    def undo(self, scaled: npt.ArrayLike) -> np.ndarray:
        """Bring standardised rows back to the values' own units, (N, *row), float64."""
        values: np.ndarray = np.asarray(scaled, np.float64) * self.deviation + self.mean
        return values

    @property
    def nats(self) -> float:
        """Nats that a row scores more in its own units: -ln p(x) = -ln p(z) + sum ln deviation."""
        return float(np.log(self.deviation).sum())

    def to_dict(self) -> dict[str, object]:
        """Return plain lists."""
        return {"mean": self.mean.tolist(), "deviation": self.deviation.tolist()}

    @classmethod
    def from_dict(cls, given: Mapping[str, object], shape: tuple[int, ...]) -> Scaling:
        """Read what `to_dict` wrote, of rows of a shape.

        Raises:
            ValueError: for what is no such thing; KeyError: for a list that is missing.
        """
        mean, deviation = (np.array(given[name], np.float64) for name in ("mean", "deviation"))
        fits = mean.shape == deviation.shape == shape and np.isfinite(mean).all()
        if not fits or not (np.isfinite(deviation) & (deviation > 0)).all():
            raise ValueError(f"expected finite means and deviations > 0 of shape {shape}")
        return cls(mean, deviation)


def fit_scaling(
    parts: Callable[[], Iterable[np.ndarray]], where: str, columns: Sequence[str] = ()
) -> Scaling:
    """Find what brings values to mean 0 and variance 1.

    `parts`, called twice, gives the training rows part by part, float64.
    """
    total, count = np.zeros(()), 0
    low, high = np.array(np.inf), np.array(-np.inf)
    for rows in parts():
        total, count = total + rows.sum(0), count + len(rows)
        low, high = np.minimum(low, rows.min(0)), np.maximum(high, rows.max(0))
    mean = total / count
    square = np.zeros_like(mean)
    with np.errstate(over="ignore", invalid="ignore"):  # which is refused below
        for rows in parts():
            square = square + np.square(rows - mean).sum(0)
    deviation = np.sqrt(square / count)
    for place in np.ndindex(mean.shape):
        at = f"column {columns[place[0]]!r}" if columns else name_place(place)
        if low[place] == high[place]:
            raise UserError(
                f"{where}: {at}: expected different values, got {low[place]:g} in all training "
                f"rows; leave it out"
            )
        if not (np.isfinite(deviation[place]) and deviation[place] > 0):
            raise UserError(f"{where}: {at}: expected numbers whose squares are finite and differ")
    return Scaling(mean, deviation)


def name_place(place: Sequence[int]) -> str:
    """Say where in a row a value is."""
    return f"column {place[0]}" if len(place) == 1 else f"place {tuple(map(int, place))}"
