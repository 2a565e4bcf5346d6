"""PixelCNN's blocks with fewer passes over memory against the same layers one by one."""

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import relu

import arcore
from arcore.layers import residual_conv as fused_blocks
from arcore.layers.convolutions import CausalConv2d, pixel_conv
from arcore.layers.residual_conv import has_residual_conv, residual_conv
from arcore.models import pixelcnn
from arcore.primitives.activation_checkpointing import checkpointed_blocks
from arcore.primitives.masks import channel_groups

needed = pytest.mark.skipif(not fused_blocks._has_onednn(torch.bfloat16), reason="no bfloat16 here")


def block(colours: int = 1, size: int = 3) -> tuple[CausalConv2d, CausalConv2d, CausalConv2d]:
    torch.manual_seed(0)
    wide, narrow = channel_groups(12, colours), channel_groups(6, colours)
    layers = (
        pixel_conv("B", wide, narrow),
        pixel_conv("B", narrow, narrow, size),
        pixel_conv("B", narrow, wide),
    )
    for layer in layers:
        torch.nn.init.normal_(layer.bias)
    return layers


def one_by_one(u: Tensor, layers: tuple[CausalConv2d, ...]) -> Tensor:
    """The block's formula in the type of u."""
    reduce, core, expand = layers
    return u + expand(relu(core(relu(reduce(relu(u))))))


def maps(height: int = 7, width: int = 5) -> Tensor:
    u = torch.randn(16, 12, height, width, generator=torch.Generator().manual_seed(1))
    return u.to(memory_format=torch.channels_last)


def distance(a: Tensor, b: Tensor) -> float:
    return float((a.double() - b.double()).norm() / b.double().norm())


@needed
@pytest.mark.parametrize("size", [1, 3, 5])
@pytest.mark.parametrize("colours", [1, 3])
@pytest.mark.parametrize(
    ("own", "tolerance", "pixels"),
    [(torch.bfloat16, 0.01, 10_000), (torch.float32, 1e-6, 10_000), (torch.float32, 5e-6, 1)],
)
def test_a_block_and_its_gradients_are_those_of_its_layers(
    own: torch.dtype, tolerance: float, pixels: int, colours: int, size: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """As near to float64 as the type is, layer by layer, however gradients are computed."""
    monkeypatch.setattr(fused_blocks, "LEAST_PIXELS", pixels)
    layers = block(colours, size)
    parameters = [p for layer in layers for p in layer.parameters()]

    def results(dtype: torch.dtype, fused: bool) -> list[Tensor]:
        u = maps().to(own).to(dtype).requires_grad_()
        with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
            entered = u.clone()
            assert not fused or has_residual_conv(entered)
            y = residual_conv(entered, *layers) if fused else one_by_one(entered, layers)
        weights = torch.linspace(-1, 1, y.numel(), dtype=torch.float64).view(y.shape)
        return [y.detach(), *torch.autograd.grad((y * weights).sum(), [u, *parameters])]

    fused, plain = results(own, True), results(own, False)
    for layer in layers:
        layer.double()
    exact = results(torch.float64, False)
    for ours, theirs, wanted in zip(fused, plain, exact, strict=True):
        assert ours.shape == wanted.shape
        assert distance(ours, wanted) < max(tolerance, 1.5 * distance(theirs, wanted))
    for layer in layers:  # a masked weight gets no gradient at all
        if layer.mask is not None:
            position = 2 + [id(p) for p in parameters].index(id(layer.weight))
            assert not fused[position][~layer.mask].any()


@needed
def test_what_is_not_a_number_stays_so() -> None:
    for value in (float("nan"), -float("nan"), float("inf")):
        u = maps().bfloat16().requires_grad_().clone()
        with torch.no_grad():
            u[1, 2, 3, 4] = value
        y = residual_conv(u, *block())
        assert not y[1, 2, 3, 4].isfinite()
        assert y[0].isfinite().all()


def test_only_maps_with_gradients_are_taken() -> None:
    u = maps().bfloat16().requires_grad_()
    assert has_residual_conv(u.clone()) == fused_blocks._has_onednn(u.dtype)
    assert has_residual_conv(u.float()) == fused_blocks._has_onednn(torch.float32)
    with checkpointed_blocks():
        assert not has_residual_conv(u.clone())  # whose block runs twice
    assert not has_residual_conv(u)  # which it would write over
    assert not has_residual_conv(u.detach())
    assert not has_residual_conv(u[1:].float())
    assert not has_residual_conv(u.double())
    assert not has_residual_conv(u.contiguous())
    assert not has_residual_conv(u[:0].clone())
    with torch.no_grad():
        assert not has_residual_conv(u.clone())


@needed
@pytest.mark.parametrize("settings", [{}, {"dropout": 0.5}], ids=["plain", "dropout"])
def test_pixelcnn_trains_with_it(settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """And with dropout, whose masks it does not draw, without it."""
    calls = []

    def counted(*arguments: Any) -> Tensor:
        calls.append(arguments)
        return residual_conv(*arguments)

    monkeypatch.setattr(pixelcnn, "residual_conv", counted)
    model = arcore.create_model("pixelcnn", arcore.events.Binary((1, 6, 6)), **settings)
    x = torch.zeros(2, 1, 6, 6)
    model(x)
    assert not calls
    with torch.autocast("cpu", torch.bfloat16):
        model(x).mean().backward()
    assert len(calls) == (0 if settings else 5)
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
