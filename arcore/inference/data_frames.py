"""Tables as pandas data frames: their columns, and scores, draws and missing cells of models.

Frames have the names, integers and units of the file; `log_prob` is a density in these units
(`arcore.events.Table`).
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from arcore.columns import Column
from arcore.events import Table, is_table
from arcore.families.any_order import AnyOrderModel, OrderlessEnsemble
from arcore.model import AutoregressiveModel
from arcore.primitives.checks import require, require_int
from arcore.primitives.precision import summed

if TYPE_CHECKING:
    import pandas as pd

    Cells = pd.Series[Any]

MOST_LEVELS = 256  # of a column that `table_of` takes for names or integers


def table_of(frame: pd.DataFrame, units: Mapping[str, str] | None = None) -> Table:
    """Guess the columns of a table from the training rows.

    Text and categories are names. Whole numbers with a range below 256 are integers. Other numbers
    are reals, which the rows' mean and deviation standardise for networks.

    Arguments:
        frame: training rows.
        units: of some columns, by their names.

    Raises:
        ValueError: for a column of one value, or of too many names.
    """
    units = units or {}
    return Table([_column_of(frame[name], units.get(str(name), "")) for name in frame.columns])


def _column_of(cells: Cells, unit: str) -> Column:
    name, known = str(cells.name), cells.dropna()
    is_number, different = known.dtype.kind in "biuf", known.nunique()
    wanted = "different numbers" if is_number else f"2 to {MOST_LEVELS} names"
    fits = different > 1 and (is_number or different <= MOST_LEVELS)
    require(fits, f"column {name!r}", wanted, f"{different} of them")
    if not is_number:
        names = getattr(known.dtype, "categories", None)
        levels = sorted({*known.map(str)}) if names is None else [str(one) for one in names]
        return Column(name=name, levels=tuple(levels), unit=unit)
    values = known.astype("float64")
    low, high = float(values.min()), float(values.max())
    require(math.isfinite(high - low), f"column {name!r}", "finite numbers", "infinity")
    if high - low < MOST_LEVELS and bool((values == values.round()).all()):
        return Column(name=name, levels=int(high - low) + 1, low=int(low), unit=unit)
    deviation = float(values.std(ddof=0))
    return Column(name=name, mean=float(values.mean()), deviation=deviation, unit=unit)


def to_tensor(frame: pd.DataFrame, table: Table, where: str = "frame") -> Tensor:
    """Return the numbers of a data frame's rows, (N, D) float64, NaN for missing cells.

    Columns that the table does not have are ignored.

    Raises:
        ValueError: naming the column that is missing, or the row and column of a wrong cell.
    """
    absent = [column.name for column in table.columns if column.name not in frame.columns]
    given = ", ".join(map(str, frame.columns[:8]))
    require(not absent, where, f"a column {absent[0] if absent else ''!r}", given)
    numbers = [_numbers(frame[column.name], column, where) for column in table.columns]
    return torch.tensor(numbers, dtype=torch.float64).t().contiguous()


def _numbers(cells: Cells, column: Column, where: str) -> list[float]:
    names, found = column.levels if isinstance(column.levels, tuple) else (), []
    places = {name: float(place) for place, name in enumerate(names)}
    for row, cell, is_missing in zip(cells.index, cells, cells.isna(), strict=True):
        if is_missing:
            number: float | None = math.nan
        else:
            number = places.get(str(cell)) if column.is_named else _number(cell, column)
        if number is None:
            wanted = _wanted(column, str(cell))
            raise ValueError(
                f"{where}: row {row}, column {column.name!r}: expected {wanted}, got {cell!r}"
            )
        found.append(number)
    return found


def _number(cell: object, column: Column) -> float | None:
    """Return the number of a cell of integers or reals, None if it is none."""
    try:
        is_plain = not isinstance(cell, str) or (cell.isascii() and "_" not in cell)
        number = float(cell) - column.low if is_plain else math.nan  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        return None
    fits = not column.count or (number.is_integer() and 0 <= number < column.count)
    return number if math.isfinite(number) and fits else None


def _wanted(column: Column, cell: str) -> str:
    if not isinstance(column.levels, tuple):
        last = column.low + column.count
        return f"an integer in [{column.low}, {last})" if column.count else "a finite number"
    near = difflib.get_close_matches(cell, column.levels, n=1)
    hint = f" (did you mean {near[0]!r}?)" if near else ""
    return f"one of {', '.join(column.levels[:8])}{', ...' * (column.count > 8)}{hint}"


def to_frame(x: Tensor, table: Table) -> pd.DataFrame:
    """Return rows (N, D) as a data frame of names, integers and reals."""
    import pandas as pd

    columns = zip(table.columns, table.check(x).t().tolist(), strict=True)
    return pd.DataFrame({column.name: _cells(column, numbers) for column, numbers in columns})


def _cells(column: Column, numbers: Sequence[float]) -> list[Any]:
    if isinstance(column.levels, tuple):
        return [column.levels[int(number)] for number in numbers]
    return [int(number) + column.low if column.count else number for number in numbers]


def sample(model: AutoregressiveModel, n: int, **options: Any) -> pd.DataFrame:
    """Draw n rows; `options` are those of `model.sample`."""
    return to_frame(model.sample(n, **options), _table(model))


def impute(model: AutoregressiveModel, frame: pd.DataFrame, **options: Any) -> pd.DataFrame:
    """Draw the missing cells of a frame; `options` are those of `model.impute`.

    An any-order model draws given all known cells of the row; another model given those that come
    first in its order.
    """
    x = to_tensor(frame, _table(model)).to(model.device)
    drawn = to_frame(model.impute(x, ~x.isnan(), **options), _table(model))
    return drawn.set_index(frame.index)


def log_prob(
    model: AutoregressiveModel,
    frame: pd.DataFrame,
    condition: Tensor | None = None,
    num_draws: int | None = None,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Return ln p of the known cells of each row, (N,), in nats and the frame's units.

    An any-order model marginalises missing cells exactly. Another model needs `num_draws`, and
    estimates

        ln p(x_known) = ln E prod_{d known} p(x_d | x_<d),

    where the missing cells before d are drawn from their conditionals: an unbiased estimate of p,
    so that its logarithm is low on average.

    Raises:
        ValueError: for missing cells of a model of one order without `num_draws`.
    """
    x = to_tensor(frame, _table(model)).to(model.device)
    known = ~x.isnan()
    with torch.no_grad():
        if bool(known.all()):
            return model.log_prob(x, condition)
        if isinstance(model, (AnyOrderModel, OrderlessEnsemble)):
            return model.log_marginal(x, known, condition)
        expected = f"a number, since {type(model).__name__} has one order and cells are missing"
        require(num_draws is not None, "num_draws", expected, num_draws)
        require_int(num_draws, "num_draws", 1)
        assert num_draws is not None
        terms = []
        for _ in range(num_draws):
            drawn = model.impute(x, known, condition, generator)
            given = model.conditionals(drawn, condition).log_prob(drawn)
            terms.append(summed(torch.where(known, given, 0)))
        return torch.stack(terms).logsumexp(0) - math.log(num_draws)


def _table(model: AutoregressiveModel) -> Table:
    require(is_table(model.event), "model", "one of an event Table", model.event)
    assert isinstance(model.event, Table)
    return model.event
