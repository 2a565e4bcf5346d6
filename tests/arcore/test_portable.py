"""Portable arithmetic: the same bits whatever adds up, and files that any processor decodes."""

import hashlib
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

import arcore
from arcore import bitstream
from arcore.coding import compress, decompress
from arcore.events import Binary, Event, Levels
from arcore.portable import PortableArithmetic

GOLDEN: list[tuple[str, Event, dict[str, object], str]] = [
    ("nade", Binary((12,)), {"hidden": 5}, "5129896d481de6c2"),
    ("made", Levels(5, (6,)), {"hidden": [8, 8]}, "68a5d7f9b7298ea3"),
    ("pixelcnn", Levels(4, (3, 3, 3)), {}, "3348d9bc3fe92662"),
    ("pixelcnn", Binary((1, 3, 3)), {"ordering": "s_curve"}, "9f75bce67f1b8523"),
    ("gated_pixelcnn", Levels(256, (1, 3, 3)), {"head": "logistic_mixture"}, "94f6e8b1b3b8c059"),
    ("gated_pixelcnn", Levels(4, (1, 3, 3)), {"attention_layers": 1}, "8a958f63face81ba"),
    (
        "any_order_transformer",
        Levels(4, (1, 3, 3)),
        {"width": 8, "num_heads": 2},
        "4ba0841a0d452ca2",
    ),
    ("rnn_nade", Binary((4, 5)), {"hidden": 6, "recurrent": 7}, "7853a6d118f76072"),
]
"""The first of the SHA-256 of the code of ten rows, whichever processor makes it."""


def with_weights(model: arcore.AutoregressiveModel) -> arcore.AutoregressiveModel:
    """Give a model weights that no generator or library decides."""
    with torch.no_grad():
        for parameter in model.parameters():
            numbers = torch.arange(parameter.numel()) * 7919 % 1009
            parameter.copy_((numbers.float() / 1009 - 0.5).view(parameter.shape))
    return model.eval()


FUNCTIONS: list[Callable[[Tensor], Tensor]] = [
    torch.exp,
    torch.expm1,
    torch.sigmoid,
    torch.tanh,
    functional.elu,
    functional.logsigmoid,
    lambda x: functional.softplus(x, threshold=40),
    functional.gelu,
    lambda x: functional.layer_norm(x[:900].view(30, 30), (30,), x[:30], x[30:60]),
    lambda x: torch.log(x.abs()),
    lambda x: torch.log1p(x.abs()),
    lambda x: torch.softmax(x[:30], -1),
    lambda x: torch.log_softmax(x[:30], -1),
    lambda x: torch.logsumexp(x, -1),
    lambda x: torch.logsumexp(torch.stack([x - 40, x.new_full(x.shape, -torch.inf)]), 0),
    lambda x: functional.binary_cross_entropy_with_logits(x, x.sign(), reduction="none"),
]


@pytest.mark.parametrize("function", FUNCTIONS)
def test_functions_are_those_of_torch(function: Callable[[Tensor], Tensor]) -> None:
    x = torch.linspace(-30, 30, 1001, dtype=torch.float64)
    edges = torch.tensor([0.0, 1e-300, 1e10, torch.inf, -torch.inf]).double()
    x = torch.cat([x, edges if function in (torch.exp, torch.sigmoid, torch.tanh) else x[:1]])
    with PortableArithmetic():
        found = function(x)
    torch.testing.assert_close(found, function(x), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("given", [{}, {"is_causal": True}, {"attn_mask": torch.ones(6, 6).tril()}])
def test_attention_is_that_of_torch(given: dict[str, Any]) -> None:
    """To what the rounding of factors leaves."""
    given = {name: one.bool() if isinstance(one, Tensor) else one for name, one in given.items()}
    heads = torch.linspace(-3, 3, 360, dtype=torch.float64).view(3, 2, 2, 6, 5)
    with PortableArithmetic():
        found = functional.scaled_dot_product_attention(*heads, **given)
    expected = functional.scaled_dot_product_attention(*heads, **given)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-4)


def test_sums_have_the_same_bits_in_any_order() -> None:
    generator = torch.Generator().manual_seed(0)
    x, w = (torch.randn(shape, generator=generator).double() for shape in ((40, 999), (999, 30)))
    order = torch.randperm(999, generator=generator)
    assert not torch.equal(x @ w, x[:, order] @ w[order])
    with PortableArithmetic():
        assert torch.equal(x @ w, x[:, order] @ w[order])
        assert torch.equal(x.exp().sum(1), x[:, order].exp().sum(1))
        assert torch.equal(x.cumsum(1)[:, -1], x[:, order].cumsum(1)[:, -1])
        image, kernel = x[:, :990].view(40, 10, 9, 11), w[:90].reshape(30, 10, 3, 3)
        order = torch.randperm(10, generator=generator)
        maps = functional.conv2d(image, kernel, w[-1])
        assert torch.equal(maps, functional.conv2d(image[:, order], kernel[:, order], w[-1]))


@pytest.mark.parametrize(("name", "event", "hyperparameters", "digest"), GOLDEN)
def test_files_are_the_same_everywhere(
    name: str, event: Event, hyperparameters: dict[str, object], digest: str
) -> None:
    """And as short as others to 0.1 %: of weights in either precision, with and without oneDNN."""
    model = with_weights(arcore.create_model(name, event, **hyperparameters))
    assert isinstance(event, Levels)
    rows = torch.arange(10 * event.size).view(10, *event.extents) * 31 % 101 % event.num_levels
    data = compress(model, rows, portable=True, verify=False)
    assert len(data) <= 1.001 * len(compress(model, rows, verify=False))
    assert torch.equal(decompress(model, data), rows)
    torch.backends.mkldnn.set_flags(False, None, None)
    try:
        assert compress(model.double(), rows, portable=True, verify=False) == data
    finally:
        torch.backends.mkldnn.set_flags(True, None, None)
    assert hashlib.sha256(bitstream.split(data)[1][0]).hexdigest()[:16] == digest


def test_what_is_not_portable_is_refused() -> None:
    message = r"model: expected operations that are the same on every processor, got 'cos'"
    with PortableArithmetic(), pytest.raises(ValueError, match=message):
        torch.ones(2, dtype=torch.float64).cos()
    wide = torch.full((2, 3), 2.0**11, dtype=torch.float64)
    with PortableArithmetic(), pytest.raises(ValueError, match="sums of magnitudes below 2,097,"):
        wide @ wide.t()
    with PortableArithmetic(), pytest.raises(ValueError, match="expected mm of float64, got"):
        torch.ones(2, 2) @ torch.ones(2, 2)
