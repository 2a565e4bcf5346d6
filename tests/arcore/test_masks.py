"""MADE's degrees and masks."""

from __future__ import annotations

import pytest
import torch

from arcore.layers.masked_linear import MaskedLinear
from arcore.primitives.masks import hidden_degrees, hidden_mask, output_mask


@pytest.mark.parametrize("drawn", [False, True], ids=["even", "drawn"])
@pytest.mark.parametrize("size", [1, 2, 3, 12])
@pytest.mark.parametrize("widths", [(1,), (3, 1, 5), (40, 40)], ids=str)
def test_degrees_stay_in_range(size: int, widths: tuple[int, ...], drawn: bool) -> None:
    for seed in range(20 if drawn else 1):
        source = torch.Generator().manual_seed(seed) if drawn else None
        degrees = hidden_degrees(size, widths, source)
        low = min(1, size - 1)
        assert [len(layer) for layer in degrees] == list(widths)
        for layer in degrees:
            assert low <= layer.min() and layer.max() <= max(size - 1, 0)
            low = int(layer.min())


def test_drawn_degrees_are_uniform(generator: torch.Generator) -> None:
    (layer,) = hidden_degrees(4, [30_000], generator)
    counts = torch.bincount(layer, minlength=4)[1:]
    assert counts.sum() == 30_000  # a standard deviation is sqrt(30000 * 1/3 * 2/3) = 82
    assert (counts - 10_000).abs().max() < 400


def test_masks_by_their_definition() -> None:
    a, b = torch.tensor([3, 1, 2]), torch.tensor([2, 1])
    assert hidden_mask(a, b).tolist() == [[x >= y for y in (2, 1)] for x in (3, 1, 2)]
    assert output_mask(a, b).tolist() == [[x > y for y in (2, 1)] for x in (3, 1, 2)]


@pytest.mark.parametrize("drawn", [False, True], ids=["even", "drawn"])
def test_paths_through_masks_are_strictly_lower_triangular(
    drawn: bool, generator: torch.Generator
) -> None:
    positions = torch.arange(1, 8)
    below, paths = positions, torch.eye(7).long()
    for degrees in hidden_degrees(7, [20, 15, 20], generator if drawn else None):
        paths, below = hidden_mask(degrees, below).long() @ paths, degrees
    seen = output_mask(positions, below).long() @ paths > 0
    earlier = positions[:, None] > positions[None, :]
    assert not (seen & ~earlier).any()
    assert drawn or torch.equal(seen, earlier)


@pytest.mark.parametrize("conditioning", [False, True])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("outputs", [112, 17, 16, 3])  # 112: all rows of a group see as much
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_groups_of_rows_give_the_full_product(
    conditioning: bool,
    bias: bool,
    outputs: int,
    dtype: torch.dtype,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("SMALLEST_GROUP", "LEAST_WEIGHTS"):
        monkeypatch.setattr(MaskedLinear, name, 1)
    layer = MaskedLinear(6, outputs, conditioning, bias).to(dtype)
    mask = hidden_mask(torch.arange(outputs) * 7 // outputs, torch.arange(1, 7))  # row 0 is empty
    x = torch.randn(5, 6, dtype=dtype, requires_grad=True)
    weights = [x, *layer.parameters()]
    layer.set_mask(mask)
    assert not layer.reaches
    plain = layer(x)
    gradients = torch.autograd.grad(plain.square().sum(), weights, retain_graph=True)
    layer.set_mask(mask, sorted_rows=True)
    assert layer.reaches
    grouped = layer(x)
    torch.testing.assert_close(grouped, plain)
    found = torch.autograd.grad(grouped.square().sum(), weights)
    for gradient, expected in zip(found, gradients, strict=True):
        torch.testing.assert_close(gradient, expected)

    expected = x @ (layer.weight * mask).t()
    if conditioning:
        expected = expected + (layer.conditioning * mask).sum(1)
    if bias:
        expected = expected + layer.bias
    torch.testing.assert_close(plain, expected)
