"""Local masks along S-curves: the formula, and which order a step of training takes."""

import math

import pytest
import torch
from torch.nn.functional import pad
from torch.testing import assert_close

from arcore.events import Binary
from arcore.families.cycling import CyclingModel
from arcore.layers.convolutions import LocalConv2d
from arcore.models.gated_pixelcnn import GatedPixelCNN
from arcore.models.pixelcnn import PixelCNN
from arcore.primitives.orderings import SYMMETRIES, transformed
from tests.support.cases import create, randomize

X = torch.arange(24).view(2, 1, 3, 4) % 5 % 2


def model_of(kind: type[CyclingModel], num_orderings: int) -> CyclingModel:
    given = {"ordering": "s_curve", "num_orderings": num_orderings}
    model = create(kind, Binary((1, 3, 4)), **given).double()
    assert isinstance(randomize(model), kind)
    return model


@pytest.mark.parametrize(("kind", "rows"), [("A", 3), ("B", 3), ("A", 1), ("B", 1), (None, 2)])
@pytest.mark.parametrize("curve", range(8))
def test_a_convolution_sees_what_precedes_with_the_same_weights_in_every_order(
    curve: int, kind: str | None, rows: int
) -> None:
    """y_i = b + sum_k W_k m_ik x_{i+k}, in the coordinates of the image as it is.

    Of one row, W is a cross; without a mask, x is moved down one row.
    """
    one, (symmetry, (turns, _)) = torch.zeros(1, dtype=torch.long), list(SYMMETRIES.items())[curve]
    layer = LocalConv2d(kind, one, one, (rows, 5)).double()
    weight = layer.weight.detach()[0, 0]
    if rows == 1:
        arms, weight = weight, torch.zeros(5, 5).double()
        (weight.t() if turns % 2 else weight)[2] = arms[turns % 2]
    x, step = torch.randn(3, 4).double(), model_of(PixelCNN, 8).member(curve).order.argsort()
    step, line = step.view(3, 4), step.view(3, 4) // (3 if turns % 2 else 4)
    expected = torch.zeros(3, 4).double()
    for row, column in torch.cartesian_prod(torch.arange(3), torch.arange(4)).tolist():
        for r, c in torch.cartesian_prod(torch.arange(3), torch.arange(4)).tolist():
            above = line[row, column] - line[r, c]
            before = step[r, c] < step[row, column] + (kind == "B") if kind else above > 0
            if before and abs(c - column) < 3 and (rows > 1 or above == 0):
                expected[row, column] += weight[r - row + 2, c - column + 2] * x[r, c]
    seen = transformed(x, symmetry)[None, None]
    found = layer(seen if kind else pad(seen, (0, 0, 1, -1)), symmetry)[0, 0]
    assert_close(found, transformed(expected, symmetry))


@pytest.mark.parametrize("kind", [PixelCNN, GatedPixelCNN])
def test_training_takes_orders_in_turn_and_scores_mix_them(kind: type[CyclingModel]) -> None:
    model = model_of(kind, 3)
    members = torch.stack([model.member(index).log_prob(X) for index in range(3)])
    for step in range(4):
        assert torch.equal(-model(X), members[step % 3])
    assert torch.equal(model.log_prob(X), members[0]), "a step leaves the order as it was"
    model.set_step(seed=5, step=7)
    assert torch.equal(-model(X), members[1])
    kept = model._kept_step()
    model.eval().train()._take_up_step(kept)  # as after a validation between two steps
    assert torch.equal(-model(X), members[1])
    assert torch.equal(model.eval().log_prob(X), members[0])
    assert_close(model.ensemble(3).log_prob(X), members.logsumexp(0) - math.log(3))


def test_an_order_of_another_kind_is_refused() -> None:
    for given in ({"ordering": "s_curve", "num_orderings": 9}, {"num_orderings": 2}):
        with pytest.raises(ValueError, match="^num_orderings: expected at most "):
            create(PixelCNN, Binary((1, 3, 4)), **given)
    with pytest.raises(ValueError, match="^attention_layers: expected 0 in ordering s_curve, "):
        create(GatedPixelCNN, Binary((1, 3, 4)), attention_layers=1, ordering="s_curve")
