"""Dropout: the rate, unbiased values, independent neighbours, the gradient of what was drawn."""

from __future__ import annotations

import math

import pytest
import torch

from arcore.primitives.dropout import SMALL, dropout

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


def test_without_training_it_is_the_identity() -> None:
    x = torch.randn(VALUES)
    assert dropout(x, 0.5, training=False) is x
