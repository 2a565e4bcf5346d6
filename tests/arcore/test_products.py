"""Products by oneDNN are those of torch, whatever lies how in memory."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from arcore.primitives import products
from arcore.primitives.products import has_fast_onednn, multiply, scored_linear

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
@pytest.mark.parametrize("second", LAYOUTS)
@pytest.mark.parametrize("first", LAYOUTS)
def test_a_product_is_that_of_the_definition(first: str, second: str, dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(0)
    # small integers: their products are exact in every type
    a, b, c = (
        torch.randint(-3, 4, size, generator=generator).to(dtype)
        for size in ((5, 7), (7, 6), (5, 6))
    )
    expected = torch.einsum("mk,kn->mn", a.double(), b.double())
    whole = torch.cat([c, c], 1)
    out = whole[:, :6]
    multiply(LAYOUTS[first](a), LAYOUTS[second](b), out)
    assert torch.equal(out.double(), expected)
    multiply(LAYOUTS[first](a), LAYOUTS[second](b), out, add=True)
    assert torch.equal(out.double(), 2 * expected)
    assert torch.equal(whole[:, 6:], c)


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


@pytest.mark.parametrize(("vendor", "fast"), [("AuthenticAMD", True), ("GenuineIntel", False)])
def test_the_processor_decides(
    vendor: str, fast: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    if not (torch.backends.mkl.is_available() and torch.backends.mkldnn.is_available()):
        pytest.skip("this torch has one of the libraries alone")
    (tmp_path / "cpuinfo").write_text(f"processor\t: 0\nvendor_id\t: {vendor}\n")
    monkeypatch.setattr(products, "_PROCESSORS", tmp_path / "cpuinfo")
    for capability in ("AVX512", "AVX2"):
        monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda c=capability: c)
        assert has_fast_onednn.__wrapped__() is (fast and capability == "AVX512")
    monkeypatch.setattr(products, "_PROCESSORS", tmp_path / "none")
    assert not has_fast_onednn.__wrapped__()
