"""Tables as pandas data frames: names, integers and reals in the units of the file.

Example:
    >>> import arcore, pandas
    >>> frame = pandas.DataFrame({"colour": ["red", "blue", "red"], "price": [1.5, 2.0, 4.0]})
    >>> model = arcore.create_model("any_order_transformer", table_of(frame))
    >>> log_prob(model, frame.assign(price=None)).shape, sample(model, 5).shape  # nats of colours
    (torch.Size([3]), (5, 2))
    >>> impute(model, frame.assign(price=None))["colour"].tolist()
    ['red', 'blue', 'red']
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from numbers import Integral, Rational, Real
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from arcore.columns import Column, find_atoms, number_of
from arcore.events import Table, is_table
from arcore.model import AutoregressiveModel
from arcore.primitives.checks import require
from arcore.primitives.precision import summed

if TYPE_CHECKING:
    import pandas as pd

EXACT = 2.0**53  # smaller integers are floats
MOST_LEVELS = 256  # of a column that `table_of` takes for names or integers


def table_of(frame: pd.DataFrame, atoms: float = 0.0) -> Table:
    """Guess the columns of a table from its training rows, which standardise reals.

    Text and categories are names. Booleans and whole numbers with a range below 256 are integers,
    other numbers reals. A column of one value or of too many names is a ValueError, and so is one
    whose cells are of other kinds (dates, decimals, fractions, complex numbers) or of several.
    A value of a column of reals that at least a share `atoms` of its cells have is one of the
    column's atoms; 0 for none.
    """
    fits = isinstance(atoms, (int, float)) and not isinstance(atoms, bool) and 0 <= atoms <= 1
    require(fits, "atoms", "a share in [0, 1]", atoms)
    columns = [_column_of(str(name), cells.dropna()) for name, cells in _checked(frame).items()]
    for place, column in enumerate(columns):
        if atoms and not column.count:
            values = frame.iloc[:, place].dropna().astype("float64").tolist()
            columns[place] = dataclasses.replace(column, atoms=find_atoms(values, atoms))
    return Table(columns)


def _column_of(name: str, cells: pd.Series[Any]) -> Column:
    where = f"column {name!r}"
    if cells.dtype.kind not in "biuf":
        kinds = {_kind(cell) or type(cell).__name__ for cell in cells}
        expected = "names alone, or numbers and booleans alone"
        require(kinds <= {"name"} or kinds <= {"number"}, where, expected, sorted(kinds))
        if kinds == {"name"} or cells.dtype == "category" and all(map(_is_whole, cells)):
            names, expected = sorted({*cells.map(str)}), f"2 to {MOST_LEVELS} different names"
            require(1 < len(names) <= MOST_LEVELS, where, expected, len(names))
            return Column(name=name, levels=names)
        cells = cells.astype(object).map(lambda cell: math.nan if _real(cell) is None else cell)
    values = cells.astype("float64")
    low, high = float(values.min()), float(values.max())
    fits = low < high and math.isfinite(high - low) and not bool(values.isna().any())
    fits = fits and (cells.dtype.kind not in "iu" or max(-low, high) < EXACT)
    require(fits, where, "different finite numbers, integers below 2^53", [low, high])
    if high - low < MOST_LEVELS and bool((values == values.round()).all()):
        return Column(name=name, levels=int(high - low) + 1, low=int(low))
    deviation = float(values.std(ddof=0))
    expected = "numbers whose variance is one above 0 (another unit may do)"
    require(0 < deviation < math.inf, where, expected, [low, high])
    return Column(name=name, mean=float(values.mean()), deviation=deviation)


def _kind(cell: object) -> str | None:
    """Say whether a cell is a name or a number; None for what is neither."""
    if isinstance(cell, str):
        return "name"
    of_numpy = type(cell).__module__ == "numpy" and type(cell).__name__ in ("bool", "bool_")
    is_number = isinstance(cell, Real) and (not isinstance(cell, Rational) or _is_whole(cell))
    return "number" if is_number or of_numpy else None


def _is_whole(cell: object) -> bool:
    return isinstance(cell, Integral) and type(cell).__name__ != "timedelta64"


def _real(cell: object) -> float | None:
    """Return a number as a float; None for an integer that is no float."""
    if _is_whole(cell) and abs(int(cell)) >= EXACT:  # type: ignore[call-overload]
        return None
    return float(cell)  # type: ignore[arg-type]


def _checked(frame: pd.DataFrame) -> pd.DataFrame:
    import pandas as pd

    fits = isinstance(frame, pd.DataFrame)
    require(fits, "frame", "a pandas data frame", type(frame).__name__)
    return frame


def places_of(table: Table, names: Sequence[str], where: str = "frame") -> list[int]:
    """Return the place of each of a table's columns among names, which may be in any order.

    A ValueError names a column that is missing, doubled or not the table's.
    """
    wanted = [column.name for column in table.columns]
    for name in wanted:
        found = names.count(name)
        require(found == 1, where, f"one column {name!r}", f"{found} of that name")
    for name in names:
        require(name in wanted, where, f"the model's {len(wanted)} columns alone", name)
    return [names.index(name) for name in wanted]


def to_tensor(frame: pd.DataFrame, table: Table, where: str = "frame") -> Tensor:
    """Return the numbers of a data frame's rows, (N, D) float64, NaN for missing cells.

    Columns are found by their names, in any order. A ValueError names a column that is missing,
    doubled or not the table's, or the row and column of a wrong cell.
    """
    names, numbers = [str(name) for name in _checked(frame).columns], []
    for place, column in zip(places_of(table, names, where), table.columns, strict=True):
        cells = frame.iloc[:, place]
        for row, cell, missing in zip(cells.index, cells, cells.isna(), strict=True):
            number = math.nan if missing else _number(cell, column)
            cell_of = f"{where}: row {row}, column {column.name!r}"
            require(number is not None, cell_of, _expected(column), cell)
            numbers.append(number)
    shape = (table.size, len(frame))
    return torch.tensor(numbers, dtype=torch.float64).view(shape).t().contiguous()


def _expected(column: Column) -> str:
    if column.names:
        return f"one of {', '.join(column.names[:8])}"
    if not column.count:
        return "a finite number, integers to 2^53"
    return f"an integer in [{column.low}, {column.low + column.count})"


def _number(cell: object, column: Column) -> float | None:
    kind = _kind(cell)
    if column.names:
        is_name = kind == "name" or _is_whole(cell)  # of categories that are integers
        return column.names.index(str(cell)) if is_name and str(cell) in column.names else None
    if kind is None:
        return None
    value = number_of(str(cell)) if kind == "name" else _real(cell)
    if value is None:
        return None
    number = value - column.low
    fits = not column.count or (number.is_integer() and 0 <= number < column.count)
    return number if math.isfinite(number) and fits else None


def to_frame(x: Tensor, table: Table) -> pd.DataFrame:
    """Return rows (N, D) as a data frame of names, integers and reals."""
    import pandas as pd

    found = {}
    for column, cells in zip(table.columns, table.check(x).t().tolist(), strict=True):
        if column.count:
            levels = map(int, cells)
            cells = [column.names[i] if column.names else i + column.low for i in levels]
        found[column.name] = cells
    return pd.DataFrame(found)


@torch.no_grad()
def log_prob(
    model: AutoregressiveModel,
    rows: pd.DataFrame | Tensor,
    condition: Tensor | None = None,
    num_draws: int | None = None,
) -> Tensor:
    """Return ln p of the known cells of each row, (N,), in nats and the file's units.

    Rows are a data frame, or its numbers as of `to_tensor`, NaN for missing cells.
    An any-order model, or a mixture of some, marginalises missing cells exactly. Another single
    model needs `num_draws`, and estimates ln E prod_{d known} p(x_d | x_<d), where missing cells
    before d are drawn from their conditionals: the estimate of p is unbiased, so that its logarithm
    is low on average.
    """
    x = rows if isinstance(rows, Tensor) else to_tensor(rows, _table(model))
    x = x.to(model.device)
    if bool((known := ~x.isnan()).all()):
        return model.log_prob(x, condition)
    if model.gives_marginals or not model.generates:
        return model.log_marginal(x, known, condition)
    what = f"a number, since {type(model).__name__} has one order and cells are missing"
    require(type(num_draws) is int and num_draws > 0, "num_draws", what, num_draws)
    terms = []
    for _ in range(num_draws or 0):
        drawn = model.impute(x, known, condition)
        given = model.conditionals(drawn, condition).log_prob(drawn)
        terms.append(summed(torch.where(known, given, 0)))
    return torch.stack(terms).logsumexp(0) - math.log(len(terms))


def sample(
    model: AutoregressiveModel,
    n: int,
    condition: Tensor | None = None,
    generator: torch.Generator | None = None,
) -> pd.DataFrame:
    """Draw n rows."""
    return to_frame(model.sample(n, condition, generator), _table(model))


def impute(
    model: AutoregressiveModel,
    frame: pd.DataFrame,
    condition: Tensor | None = None,
    generator: torch.Generator | None = None,
) -> pd.DataFrame:
    """Draw missing cells, as `model.impute` does; columns are the table's, rows the frame's."""
    x = to_tensor(frame, _table(model))
    drawn = model.impute(x, ~x.isnan(), condition, generator)
    return to_frame(drawn, _table(model)).set_index(frame.index)


def _table(model: AutoregressiveModel) -> Table:
    require(is_table(model.event), "model", "one of an event Table", model.event)
    assert isinstance(model.event, Table)
    return model.event
