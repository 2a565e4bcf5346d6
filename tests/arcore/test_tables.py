"""Tables: densities over columns of several kinds, and data frames in and out."""

import dataclasses
import itertools
import math
from collections.abc import Callable
from datetime import date
from decimal import Decimal
from fractions import Fraction
from pathlib import Path

import pandas as pd
import pytest
import torch
from torch.testing import assert_close

import arcore
from arcore.columns import Column
from arcore.distributions.table_row import TableRow
from arcore.events import Real, Table, from_dict
from arcore.families.any_order import AnyOrderModel
from arcore.inference import data_frames
from tests.arcore.cases import cases_where
from tests.support.cases import Case
from tests.support.events import ATOMS, COLUMNS, TABLE
from tests.support.refusals import refuses
from tests.support.statistics import quadrature

FRAME = pd.DataFrame(
    {"doors": [2, None, 5], "colour": ["red", "blue", None], "price": [1.5, -2.0, 3.0]},
    index=[7, 8, 9],
)
STATES = torch.cartesian_prod(*(torch.arange(n, dtype=torch.float64) for n in (3, 1, 4)))


@cases_where(lambda case: case.event == TABLE)
@torch.no_grad()
def test_densities_sum_and_integrate_to_one_in_any_unit(case: Case) -> None:
    model = case.build()
    for condition in case.conditions(1):
        label = None if condition is None else condition.expand(len(STATES))
        given = model.conditionals(STATES, label)
        assert isinstance(given, TableRow)
        z, weights = quadrature(given.mixture.select(torch.tensor([1])))
        x = STATES.repeat_interleave(z.shape[1], 0)
        x[:, 1] = 1 + 2 * z.flatten()
        label = None if condition is None else condition.expand(len(x))
        density = model.log_prob(x, label).exp().view_as(z)
        assert (density * weights * 2).sum().item() == pytest.approx(1, abs=1e-6)
    price = dataclasses.replace(COLUMNS[1], mean=500.0, deviation=1000.0)
    cents = dataclasses.replace(case, event=Table([COLUMNS[0], price, COLUMNS[2]])).build()
    x, condition = case.values(5), case.condition(5)
    shifted = x * torch.tensor([1, 500, 1])
    assert_close(cents.log_prob(shifted, condition), model.log_prob(x, condition) - math.log(500))


@cases_where(lambda case: case.event == ATOMS)
@torch.no_grad()
def test_atoms_and_the_density_make_up_the_whole(case: Case, generator: torch.Generator) -> None:
    """And draws fall on atoms as often as they should."""
    model = case.build()
    given = model.conditionals(STATES)
    z, weights = quadrature(given.mixture.select(torch.tensor([1])))
    x = STATES.repeat_interleave(z.shape[1], 0)
    x[:, 1] = 1 + 2 * z.flatten()
    dense = (model.log_prob(x).exp().view_as(z) * weights * 2).sum()
    at = torch.cat([STATES.index_fill(1, torch.tensor([1]), 0.0) for _ in range(3)])
    atoms = torch.tensor(ATOMS.columns[1].atoms, dtype=torch.float64)
    at[:, 1] = atoms.repeat_interleave(len(STATES))
    masses = model.log_prob(at).exp().view(3, -1).sum(1)
    assert float(dense + masses.sum()) == pytest.approx(1, abs=1e-6)
    drawn = model.sample(4000, generator=generator)[:, 1]
    for atom, mass in zip(atoms, masses, strict=True):
        share = float((drawn == atom).double().mean())
        assert share == pytest.approx(float(mass), abs=4 * math.sqrt(float(mass) / 4000))


@cases_where(lambda case: case.event == TABLE)
@torch.no_grad()
def test_missing_names_are_summed_over(case: Case, generator: torch.Generator) -> None:
    """Exactly by models of any order, and from draws by others."""
    model, condition, draws = case.build().eval(), case.condition(4), None
    whole = data_frames.sample(model, 4, condition, generator)
    last, some = model, whole.assign(colour=None)
    if isinstance(model, AnyOrderModel):
        last = model.under(torch.cat([model.order[model.order != 0], torch.tensor([0])]))
    elif case.name == "made-table":
        draws = 500
    else:
        expected = f"num_draws: expected a number, since {type(model).__name__} has one order"
        return refuses(lambda: data_frames.log_prob(model, some, condition), [expected])
    torch.manual_seed(0)
    found = data_frames.log_prob(model, some, condition, draws)
    x = data_frames.to_tensor(whole, TABLE)
    rows = [torch.cat([torch.full((4, 1), level), x[:, 1:]], 1) for level in range(3)]
    joint = torch.stack([last.log_prob(row, condition) for row in rows])
    assert_close(found, joint.logsumexp(0), rtol=0, atol=0.2 if draws else 1e-9)


@cases_where(lambda case: isinstance(case.event, Table))
@torch.no_grad()
def test_a_loss_of_rows_with_holes_is_of_their_known_cells(case: Case) -> None:
    """Its mean over all draws is that of -ln p of the known cells over all their orders."""
    model = case.build().double()
    if not isinstance(model, AnyOrderModel):
        return
    x, condition = case.values(3), case.condition(3)
    x[0, 1] = x[1, 0] = x[1, 2] = math.nan
    known = ~x.isnan()
    whole, other = model.validation_loss(x, condition), x.clone()
    other[1] = torch.tensor([math.nan, 2.0, math.nan])
    assert_close(model.validation_loss(other, condition)[[0, 2]], whole[[0, 2]])
    orders = [torch.tensor(order) for order in itertools.permutations(range(3))]
    exact = -torch.stack([model.under(o).log_marginal(x, known, condition) for o in orders]).mean(0)
    rows = 4000
    many = x.repeat(rows, 1), None if condition is None else condition.repeat(rows)
    torch.manual_seed(0)
    losses = model.train()(*many).view(rows, 3)
    error = losses.std(0) / math.sqrt(rows)
    assert bool(((losses.mean(0) - exact).abs() <= 4 * error + 1e-6).all())


def test_frames_come_back_as_they_were(tmp_path: Path, generator: torch.Generator) -> None:
    arcore.save(arcore.create_model("made", TABLE, hidden=[4]), tmp_path / "made")
    model = arcore.load(tmp_path / "made")
    assert model.event == TABLE == from_dict(TABLE.to_dict())
    assert model.event.columns[1].unit == "EUR" and model.event.columns[2].low == 2
    found = data_frames.impute(model, FRAME, generator=generator)
    assert found.index.equals(FRAME.index)
    assert found.columns.tolist() == ["colour", "price", "doors"]
    assert found["price"].tolist() == [1.5, -2.0, 3.0] and found["colour"][8] == "blue"
    assert found["doors"].between(2, 5).all() and found["colour"].isin(COLUMNS[0].levels).all()
    drawn = data_frames.sample(model, 50, generator=generator)
    again = data_frames.to_frame(data_frames.to_tensor(drawn, TABLE), TABLE)
    assert again.equals(drawn) and data_frames.log_prob(model, drawn).isfinite().all()


def test_columns_are_guessed() -> None:
    frame = FRAME.assign(new=[True, False, True], doors=FRAME["doors"].astype(object))
    table = data_frames.table_of(frame)
    assert [column.levels for column in table.columns] == [
        4, ("blue", "red"), None, 2
    ]  # fmt: skip
    doors, _, price, *_ = table.columns
    assert doors.low == 2 and price.mean == pytest.approx(2.5 / 3)


def of(*cells: object) -> pd.DataFrame:
    return pd.DataFrame({"a": pd.Series(cells, dtype=object)})


DAYS = pd.date_range("2020", periods=2)
NO_CELLS = [
    (Decimal("1.5"), Decimal("2.5")),
    (Fraction(1, 2), Fraction(1, 3)),
    (1 + 2j, 2.0),
    (date(2020, 1, 1), date(2021, 1, 1)),
    (*DAYS,),
    (*DAYS.tz_localize("UTC"),),
    (*DAYS.to_period("D"),),
    (*(DAYS - DAYS[0]),),
    (*pd.interval_range(0, 2),),
    (b"1.5", b"2.5"),
    ("1.0", 1.0),
    ("a", True),
    ((1,), (2,)),
]


@pytest.mark.parametrize("cells", NO_CELLS, ids=lambda cells: type(cells[0]).__name__)
def test_cells_that_are_neither_names_nor_numbers_are_refused(cells: tuple[object, ...]) -> None:
    """Whatever column of them would have been guessed, and also as cells of a column of reals."""
    for frame in (of(*cells), of(*cells).infer_objects()):
        refuses(lambda frame=frame: table_of(frame), ["column 'a': expected names alone, or num"])
    if not isinstance(cells[0], str):
        expected = ["frame: row 0, column 'a': expected a finite number"]
        refuses(lambda: to_tensor(of(*cells), table_of(of(0.5, 1.5))), expected)


@pytest.mark.parametrize("text", ["1_0.5", "\u0661.\u0665", "\uff11.5", "0x10", "nan", "inf", ""])
def test_texts_are_numbers_by_the_rule_of_csv_files(text: str) -> None:
    assert to_tensor(of("1.5", "+1.5", "1e1", 2), table_of(of(0.5, 1.5))).flatten().tolist() == [
        1.5, 1.5, 10, 2
    ]  # fmt: skip
    expected = ["frame: row 0, column 'a': expected a finite number", repr(text)]
    refuses(lambda: to_tensor(of(text), table_of(of(0.5, 1.5))), expected)


@pytest.mark.parametrize(
    ("cells", "levels"),
    [
        (pd.array([1, 2], dtype="Int64"), 2),
        (pd.array([1.5, 2], dtype="Float64"), None),
        (pd.array([True, None, False], dtype="boolean"), 2),
        (pd.array(["a", "b"], dtype="string"), ("a", "b")),
        (pd.array([1, 2], dtype="int64[pyarrow]"), 2),
        (pd.Categorical([10, 20]), ("10", "20")),
        (pd.Categorical([0.5, 1.5]), None),
        ([True, 2, 3.5], None),
    ],
)
def test_columns_of_every_usual_kind_come_back(cells: object, levels: object) -> None:
    frame = pd.DataFrame({"a": cells})
    table = table_of(frame)
    assert table.columns[0].levels == levels
    x = to_tensor(frame, table)
    known = frame.dropna().index.tolist()
    again = to_tensor(data_frames.to_frame(x[known], table), table)
    assert torch.equal(again, x[known])


def test_atoms_are_values_that_repeat() -> None:
    frame = pd.DataFrame({"rain": [0.0] * 12 + [None, 2.5, 2.5] + [n + 0.25 for n in range(17)]})
    (column,) = table_of(frame, atoms=0.1).columns
    assert column.atoms == (0.0,) and table_of(frame).columns[0].atoms == ()
    assert table_of(frame, atoms=0.01).columns[0].atoms == (0.0, 2.5)
    x = to_tensor(frame, table_of(frame, atoms=0.1))
    assert float(x[0]) == 0.0


to_tensor, table_of = data_frames.to_tensor, data_frames.table_of
BAD: list[tuple[Callable[[], object], list[str]]] = [
    (lambda: Table([]), ["columns", "a non-empty list of arcore.columns.Column"]),
    (lambda: Table([COLUMNS[0]] * 2), ["columns", "different names", "colour"]),
    (lambda: Column(name="a", levels=("x", "x")), ["levels", "two or more different names"]),
    (lambda: Column(name="a", levels=1), ["levels", "an integer >= 2", "1"]),
    (lambda: Column(name="a", deviation=0.0), ["deviation", "a number > 0"]),
    (lambda: Column(name="a", mean=math.nan), ["mean", "a finite number", "nan"]),
    (lambda: Column(name="a", low=3), ["low", "0 but for a column of integers", "3"]),
    (lambda: Column(name=3), ["name", "text", "3"]),
    (lambda: Column(name="a", atoms=[0.0, 0.0]), ["atoms", "different finite numbers"]),
    (lambda: Column(name="a", atoms=[math.inf]), ["atoms", "different finite numbers", "inf"]),
    (lambda: Column(name="a", atoms=[True]), ["atoms", "different finite numbers", "True"]),
    (lambda: Column(name="a", levels=2, atoms=[0.0]), ["atoms", "none but for a column of reals"]),
    (lambda: from_dict({**ATOMS.to_dict(), "shape": [2]}), ["shape", "[3], of the columns"]),
    (lambda: TABLE.check(torch.tensor([[0.0, math.nan, 1]])), ["x", "finite numbers"]),
    (lambda: Column(name="a", mean=10**400), ["mean", "a finite number"]),
    (lambda: TABLE.check(torch.tensor([[3.0, 0, 1]])), ["x", "[0, 3)", "'colour'", "[3, 3]"]),
    (lambda: TABLE.check(torch.tensor([[0.5, 0, 1]])), ["x", "levels in [0, 3)", "'colour'"]),
    (lambda: from_dict({"kind": "table", "shape": [1], "columns": [{}]}), ["columns", "name"]),
    (lambda: from_dict({"kind": "table", "shape": [2]}), ["event", "fields ['columns', 'shape']"]),
    (lambda: from_dict(TABLE.to_dict() | {"rows": 3}), ["event", "['columns', 'shape']", "'rows'"]),
    (lambda: from_dict(TABLE.to_dict() | {"columns": 3}), ["columns", "a list of mappings"]),
    (
        lambda: from_dict(TABLE.to_dict() | {"shape": [3.0]}),
        ["shape", "[3], of the colum", "3.0"],
    ),
    (lambda: from_dict(TABLE.to_dict() | {"shape": [9]}), ["shape", "[3], of the columns", "[9]"]),
    (lambda: arcore.create_model("rnade", TABLE), ["event", "RNADE expects Real"]),
    (
        lambda: data_frames.log_prob(arcore.create_model("rnade", Real((2,))), FRAME),
        ["model", "one of an event Table", "Real"],
    ),
    (lambda: to_tensor(FRAME[["colour"]], TABLE), ["frame", "one column 'price'"]),
    (
        lambda: to_tensor(FRAME.replace("blue", "by"), TABLE),
        ["frame: row 8, column 'colour'", "red"],
    ),
    (lambda: to_tensor(FRAME.replace(5, 6), TABLE), ["frame: row 9, column 'doors'", "got 6.0"]),
    (lambda: to_tensor(FRAME.assign(price="dear"), TABLE), ["frame: row 7, column 'price'", "fin"]),
    (lambda: to_tensor(FRAME.assign(price=1 + 2**53), TABLE), ["frame: row 7", "integers to 2^53"]),
    (lambda: table_of(of(0.5, 1), atoms=1.5), ["atoms", "a share in [0, 1]", "1.5"]),
    (lambda: table_of(of(2**70, 1)), ["column 'a'", "integers below 2^53"]),
    (lambda: table_of(of(1e-300, 1.1e-300)), ["column 'a'", "variance is one above 0"]),
    (lambda: to_tensor(of(1.0), table_of(of("1.0", "x"))), ["frame: row 0", "one of 1.0, x"]),
    (lambda: table_of(FRAME.assign(one=1)), ["column 'one'", "different finite numbers"]),
    (lambda: table_of(FRAME.assign(one=FRAME.index + 2**53)), ["column 'one'", "2^53"]),
    (lambda: table_of(FRAME.assign(one="a")), ["column 'one'", "2 to 256 different"]),
    (lambda: table_of({"price": [1.5]}), ["frame", "a pandas data frame", "dict"]),
]


@pytest.mark.parametrize(("call", "parts"), BAD)
def test_bad_tables_are_one_clear_line(call: Callable[[], object], parts: list[str]) -> None:
    refuses(call, parts)
