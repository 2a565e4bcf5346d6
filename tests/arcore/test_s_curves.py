"""Local masks along S-curves: the formula, and which order a step of training takes."""

import math

import pytest
import torch
from torch.testing import assert_close

from arcore.events import Binary
from arcore.layers.convolutions import LocalConv2d
from arcore.models.pixelcnn import PixelCNN
from arcore.primitives.orderings import SYMMETRIES, transformed
from tests.support.cases import create, randomize

X = torch.arange(24).view(2, 1, 3, 4) % 5 % 2


def model_of(num_orderings: int) -> PixelCNN:
    given = {"ordering": "s_curve", "num_orderings": num_orderings}
    model = create(PixelCNN, Binary((1, 3, 4)), hidden=4, num_blocks=1, **given).double()
    assert isinstance(randomize(model), PixelCNN)
    return model


@pytest.mark.parametrize("kind", ["A", "B"])
@pytest.mark.parametrize("curve", range(8))
def test_a_convolution_sees_what_precedes_with_the_same_weights_in_every_order(
    curve: int, kind: str
) -> None:
    """y_i = b + sum_k W_k m_ik x_{i+k}, in the coordinates of the image as it is."""
    one, symmetry = torch.zeros(1, dtype=torch.long), list(SYMMETRIES)[curve]
    layer = LocalConv2d(kind, one, one, 5).double()
    x, step = torch.randn(3, 4).double(), model_of(8).member(curve).order.argsort().view(3, 4)
    expected = torch.zeros(3, 4).double()
    for row, column in torch.cartesian_prod(torch.arange(3), torch.arange(4)).tolist():
        for r, c in torch.cartesian_prod(torch.arange(3), torch.arange(4)).tolist():
            if step[r, c] < step[row, column] + (kind == "B") and abs(c - column) < 3:
                weight = layer.weight[0, 0, r - row + 2, c - column + 2]
                expected[row, column] += weight.detach() * x[r, c]
    found = layer(transformed(x, symmetry)[None, None], symmetry)[0, 0]
    assert_close(found, transformed(expected, symmetry))


def test_training_takes_orders_in_turn_and_scores_mix_them() -> None:
    model = model_of(3)
    members = torch.stack([model.member(index).log_prob(X) for index in range(3)])
    for step in range(4):
        assert torch.equal(-model(X), members[step % 3])
    model.set_step(seed=5, step=7)
    assert torch.equal(-model(X), members[1])
    assert torch.equal(model.eval().log_prob(X), members[0])
    assert_close(model.ensemble(3).log_prob(X), members.logsumexp(0) - math.log(3))


def test_an_order_of_another_kind_is_refused() -> None:
    for given in ({"ordering": "s_curve", "num_orderings": 9}, {"num_orderings": 2}):
        with pytest.raises(ValueError, match="^num_orderings: expected at most "):
            create(PixelCNN, Binary((1, 3, 4)), **given)
