"""What running a use gives: numbers and files, and means of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from pipeline.evaluation.scoring import mean_and_error
from pipeline.uses.records import Number, Shown


@dataclass(frozen=True)
class Outcome:
    """What came out.

    Attributes:
        numbers, shown: as in a `pipeline.uses.records.UseRecord`.
        notes: what to know of the numbers.
        earlier_seconds: that an earlier start, which was cut short, spent on them.
        others, other_datasets: as in a `UseRecord`.
    """

    numbers: Sequence[Number]
    shown: Sequence[Shown]
    notes: str
    earlier_seconds: float = 0.0
    others: dict[str, str] | None = None
    other_datasets: dict[str, str] | None = None


def share_of(name: str, holds: Tensor) -> Number:
    """Return the share of rows of which something holds, (rows,) bool, with its standard error.

    Where it holds of all rows or of none, that error would be 0, which says nothing.

    Example:
        >>> import torch
        >>> share_of("right", torch.tensor([True, False, True, True])).stderr
        0.21650635094610965
        >>> share_of("right", torch.tensor([True, True])).stderr is None
        True
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
