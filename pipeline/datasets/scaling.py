"""How values were standardised, kept so that it can be undone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt


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
