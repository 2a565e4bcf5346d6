"""Gates with written-out backward passes against their formulas under autograd."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from arcore.primitives import gating

Function = Callable[..., Tensor | tuple[Tensor, ...]]


def gated(a: Tensor) -> Tensor:
    f, g = a.chunk(2, -1)
    return torch.tanh(f) * torch.sigmoid(g)


def multiplicative(h: Tensor, gates: Tensor) -> Tensor:
    g1, g2, g3, u = gates.chunk(4, -1)
    return g1.sigmoid() * torch.tanh(g2.sigmoid() * h + g3.sigmoid() * u.tanh())


def lstm_cell(gates: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
    o, f, i, g = gates.chunk(4, -1)
    c = f.sigmoid() * c + i.sigmoid() * g.tanh()
    return o.sigmoid() * c.tanh(), c


CASES = [
    pytest.param(gating.gated, gated, (2,), id="gated"),
    pytest.param(gating.multiplicative, multiplicative, (1, 4), id="multiplicative"),
    pytest.param(gating.lstm_cell, lstm_cell, (4, 1), id="lstm_cell"),
]


@pytest.fixture(autouse=True)
def pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """Several pieces, of which the last is smaller."""
    monkeypatch.setattr(gating, "PIECE", 700)
    monkeypatch.setattr(gating, "SMALL", 0)


def inputs(gates: tuple[int, ...], dtype: torch.dtype, permuted: bool) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    made = []
    for number in gates:
        x = 2 * torch.randn(3, 5, 31, 7 * number, generator=generator, dtype=torch.float64)
        if permuted:  # maps in another order in memory
            x = x.movedim(-1, 1).contiguous().movedim(1, -1)
        made.append(x.to(dtype).requires_grad_())
    return made


def results(function: Function, given: list[Tensor]) -> tuple[Tensor, ...]:
    """Return the values and the gradients of a weighted sum of them."""
    out = function(*given)
    parts = out if isinstance(out, tuple) else (out,)
    generator = torch.Generator().manual_seed(1)
    weights = [torch.randn(p.shape, generator=generator).to(p.dtype) for p in parts]
    return *parts, *torch.autograd.grad(parts, given, weights)


@pytest.mark.parametrize("permuted", [False, True])
@pytest.mark.parametrize(("ours", "formula", "gates"), CASES)
def test_gates_and_their_gradients_are_the_formulas(
    ours: Function, formula: Function, gates: tuple[int, ...], permuted: bool
) -> None:
    given = inputs(gates, torch.float64, permuted)
    for mine, expected in zip(results(ours, given), results(formula, given), strict=True):
        assert_close(mine, expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(("ours", "formula", "gates"), CASES)
def test_bfloat16_rounds_no_worse_than_the_formula(
    ours: Function, formula: Function, gates: tuple[int, ...]
) -> None:
    coarse = inputs(gates, torch.bfloat16, permuted=False)
    exact = [x.detach().double().requires_grad_() for x in coarse]
    rows = zip(
        results(ours, coarse), results(formula, coarse), results(formula, exact), strict=True
    )
    for mine, plain, expected in rows:
        assert mine.dtype == torch.bfloat16
        errors = [(x.double() - expected).square().mean().sqrt() for x in (mine, plain)]
        assert errors[0] <= errors[1]


@pytest.mark.parametrize(("ours", "formula", "gates"), CASES)
def test_extreme_values_stay_finite(
    ours: Function, formula: Function, gates: tuple[int, ...]
) -> None:
    for sign in (-1, 1):
        given = [
            (0 * x + sign * 1e4).detach().requires_grad_()
            for x in inputs(gates, torch.float32, False)
        ]
        for mine in results(ours, given):
            assert mine.isfinite().all()
