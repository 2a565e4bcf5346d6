"""Tables: one density over columns of several kinds."""

import dataclasses
import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch.testing import assert_close

import arcore
from arcore.columns import Column
from arcore.distributions.table_row import TableRow
from arcore.events import Table, from_dict
from tests.arcore.cases import cases_where
from tests.support.cases import Case
from tests.support.events import COLUMNS, TABLE
from tests.support.refusals import refuses
from tests.support.statistics import quadrature

STATES = torch.cartesian_prod(*(torch.arange(n, dtype=torch.float64) for n in (3, 1, 4)))


@cases_where(lambda case: isinstance(case.event, Table))
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


def test_a_saved_model_has_its_columns(tmp_path: Path) -> None:
    arcore.save(arcore.create_model("made", TABLE, hidden=[4]), tmp_path / "made")
    model = arcore.load(tmp_path / "made")
    assert model.event == TABLE == from_dict(TABLE.to_dict())
    assert model.event.columns[1].unit == "EUR" and model.event.columns[2].low == 2


BAD: list[tuple[Callable[[], object], list[str]]] = [
    (lambda: Table([]), ["columns", "a non-empty list of arcore.columns.Column"]),
    (lambda: Table([COLUMNS[0]] * 2), ["columns", "different names", "colour"]),
    (lambda: Column(name="a", levels=("x", "x")), ["levels", "two or more different names"]),
    (lambda: Column(name="a", levels=1), ["levels", "an integer >= 2", "1"]),
    (lambda: Column(name="a", deviation=0.0), ["deviation", "a number > 0"]),
    (lambda: Column(name="a", mean=math.nan), ["mean", "a finite number", "nan"]),
    (lambda: Column(name="a", low=3), ["low", "0 but for a column of integers", "3"]),
    (lambda: Column(name=3), ["name", "text", "3"]),
    (lambda: TABLE.check(torch.tensor([[0.0, math.nan, 1]])), ["x", "finite numbers"]),
    (lambda: Column(name="a", mean=10**400), ["mean", "a finite number"]),
    (lambda: TABLE.check(torch.tensor([[3.0, 0, 1]])), ["x", "[0, 3)", "'colour'", "[3, 3]"]),
    (lambda: TABLE.check(torch.tensor([[0.5, 0, 1]])), ["x", "levels in [0, 3)", "'colour'"]),
    (lambda: from_dict({"kind": "table", "shape": [1], "columns": [{}]}), ["columns", "name"]),
    (lambda: from_dict({"kind": "table", "shape": [2]}), ["columns", "a list of mappings"]),
    (lambda: from_dict(TABLE.to_dict() | {"shape": [9]}), ["shape", "[3], of the columns", "[9]"]),
    (lambda: arcore.create_model("rnade", TABLE), ["event", "RNADE expects Real"]),
]


@pytest.mark.parametrize(("call", "parts"), BAD)
def test_bad_tables_are_one_clear_line(call: Callable[[], object], parts: list[str]) -> None:
    refuses(call, parts)
