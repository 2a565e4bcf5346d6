"""Kernels of our own: gates against their formulas, dropout, products by oneDNN."""

import itertools
import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from arcore.primitives import gating, products
from arcore.primitives.dropout import SMALL, dropout
from arcore.primitives.products import has_fast_bfloat16, has_fast_onednn, multiply, scored_linear

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
    out = function(*given)
    parts = out if isinstance(out, tuple) else (out,)
    generator = torch.Generator().manual_seed(1)
    weights = [torch.randn(p.shape, generator=generator).to(p.dtype) for p in parts]
    return *parts, *torch.autograd.grad(parts, given, weights)


every_kernel = pytest.mark.parametrize(("ours", "formula", "gates"), CASES)


@pytest.mark.parametrize("permuted", [False, True])
@every_kernel
def test_gates_and_their_gradients_are_the_formulas(
    ours: Function, formula: Function, gates: tuple[int, ...], permuted: bool
) -> None:
    given = inputs(gates, torch.float64, permuted)
    for mine, expected in zip(results(ours, given), results(formula, given), strict=True):
        assert_close(mine, expected, rtol=1e-10, atol=1e-10)


@every_kernel
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


@every_kernel
def test_extreme_values_stay_finite(
    ours: Function, formula: Function, gates: tuple[int, ...]
) -> None:
    made = inputs(gates, torch.float32, False)
    for value in (-1e4, 1e4):
        given = [torch.full_like(x, value).requires_grad_() for x in made]
        assert all(mine.isfinite().all() for mine in results(ours, given))


VALUES = 1 << 18


@pytest.mark.parametrize("size", [SMALL, VALUES + 3])
@pytest.mark.parametrize("rate", [0.0, 0.1, 0.5, 0.999, 1.0])
def test_drops_at_its_rate_and_keeps_the_mean(rate: float, size: int) -> None:
    torch.manual_seed(0)
    dropped = dropout(torch.ones(size), rate, training=True)
    share = (dropped == 0).double().mean().item()
    assert abs(share - rate) <= 5 * math.sqrt(rate * (1 - rate) / size) + 2**-17
    kept = dropped[dropped != 0]
    torch.testing.assert_close(kept, torch.full_like(kept, 1 / max(1 - rate, 1e-9)))


def test_a_mask_is_made_where_the_values_are() -> None:
    with torch.device("meta"):
        dropped = dropout(torch.ones(SMALL + 9, device="cpu"), 0.5, training=True)
    assert dropped.device.type == "cpu" and 0 < int((dropped == 0).sum()) < SMALL


def test_neighbours_are_independent() -> None:
    torch.manual_seed(0)
    dropped = (dropout(torch.ones(VALUES), 0.3, training=True) == 0).double() - 0.3
    for lag in range(1, 9):
        correlation = (dropped[lag:] * dropped[:-lag]).mean().item() / 0.21
        assert abs(correlation) < 5 / math.sqrt(VALUES), lag


def test_gradient_strides_and_seed_are_those_of_the_values() -> None:
    x = torch.randn(8, 28, 28, 32, dtype=torch.bfloat16).movedim(-1, 1).requires_grad_()
    torch.manual_seed(3)
    dropped = dropout(x, 0.25, training=True)
    assert dropped.stride() == x.stride() and dropped.dtype == x.dtype
    dropped.sum().backward()  # type: ignore[no-untyped-call]
    assert x.grad is not None
    assert torch.equal(x.grad != 0, dropped != 0)
    torch.manual_seed(3)
    assert torch.equal(dropout(x, 0.25, training=True), dropped)
    assert dropout(x, 0.5, training=False) is x


LAYOUTS: dict[str, Callable[[Tensor], Tensor]] = {
    "rows": lambda x: x,
    "columns": lambda x: x.t().contiguous().t(),
    "part": lambda x: torch.cat([x, x], 1)[:, : x.shape[1]],
    "part of columns": lambda x: torch.cat([x, x]).t().contiguous().t()[: len(x)],
}


@pytest.fixture(params=[False, True], ids=["mkl", "onednn"])
def library(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param and not hasattr(torch.ops.mkldnn, "_linear_pointwise"):
        pytest.skip("this torch has no oneDNN")
    monkeypatch.setattr(products, "has_fast_onednn", lambda: request.param)
    monkeypatch.setattr(products, "_LEAST", 0)


@pytest.mark.usefixtures("library")
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_a_product_is_that_of_the_definition(dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(0)
    # small integers: their products are exact in every type
    a, b, c = (
        torch.randint(-3, 4, size, generator=generator).to(dtype)
        for size in ((5, 7), (7, 6), (5, 6))
    )
    expected = torch.einsum("mk,kn->mn", a.double(), b.double())
    for (first, lay_a), (second, lay_b) in itertools.product(LAYOUTS.items(), repeat=2):
        whole = torch.cat([c, c], 1)
        out = whole[:, :6]
        multiply(lay_a(a), lay_b(b), out)
        assert torch.equal(out.double(), expected), (first, second)
        multiply(lay_a(a), lay_b(b), out, add=True)
        assert torch.equal(out.double(), 2 * expected), (first, second)
        assert torch.equal(whole[:, 6:], c), (first, second)


@pytest.mark.usefixtures("library")
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_a_product_over_nothing_is_nought(dtype: torch.dtype) -> None:
    a, b, out = (torch.ones(size, dtype=dtype) for size in ((5, 0), (0, 6), (5, 6)))
    multiply(a, b, out, add=True)
    assert torch.equal(out, torch.ones_like(out))
    multiply(a, b, out)
    assert torch.equal(out, torch.zeros_like(out))
    with torch.no_grad():
        assert torch.equal(scored_linear(a, b.t(), out[0]), out)


@pytest.mark.usefixtures("library")
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_layer_is_the_same_with_and_without_gradients(dtype: torch.dtype) -> None:
    layer = torch.nn.Linear(4, 3).to(dtype)
    x = torch.randn(5, 4, dtype=dtype, generator=torch.Generator().manual_seed(0))
    recorded = scored_linear(x, layer.weight, layer.bias)
    assert recorded.requires_grad
    with torch.no_grad():
        torch.testing.assert_close(scored_linear(x, layer.weight, layer.bias), recorded)
        with torch.autocast("cpu", torch.bfloat16):
            coarse = scored_linear(x, layer.weight, layer.bias)
    assert coarse.dtype == (torch.bfloat16 if dtype == torch.float32 else dtype)


@pytest.mark.parametrize(
    ("words", "onednn", "bfloat16"),
    [
        ("GenuineIntel avx512_bf16 amx_bf16", False, True),
        ("GenuineIntel avx512_bf16", False, False),
        ("AuthenticAMD avx512_bf16", True, True),
        ("AuthenticAMD avx512f", True, False),
        ("asimd bf16 svebf16", False, True),
    ],
)
def test_the_processor_decides(
    words: str, onednn: bool, bfloat16: bool, monkeypatch, tmp_path
) -> None:
    (tmp_path / "cpuinfo").write_text(f"flags\t: fpu {words} sse\n")
    monkeypatch.setattr(products, "_PROCESSORS", tmp_path / "cpuinfo")
    assert has_fast_bfloat16.__wrapped__() is bfloat16
    both = torch.backends.mkl.is_available() and torch.backends.mkldnn.is_available()
    for capability in ("AVX512", "AVX2"):
        monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda c=capability: c)
        assert has_fast_onednn.__wrapped__() is (both and onednn and capability == "AVX512")
    monkeypatch.setattr(products, "_PROCESSORS", tmp_path / "none")
    assert not has_fast_onednn.__wrapped__() and not has_fast_bfloat16.__wrapped__()
