"""Linear predictions: where they start, what they see, and what is refused."""

import math

import pytest
import torch
from torch.testing import assert_close

import arcore
from arcore.events import Levels
from arcore.families import raster
from arcore.layers.cursor import ImageCursor
from arcore.layers.linear_prediction import CausalPrediction, GroupPrediction
from arcore.primitives.pyramids import Pyramid


def ramp() -> torch.Tensor:
    """A plane: each colour has another slope, (1, 3, 8, 8)."""
    rows, columns = torch.meshgrid(torch.arange(8.0), torch.arange(8.0), indexing="ij")
    return torch.stack([rows * a + columns * b for a, b in ((1, 2), (-1, 0), (0, 3))])[None] / 40


@pytest.mark.parametrize("size", [3, 5])
def test_a_pixel_starts_at_its_three_neighbours_before(size: int) -> None:
    y = torch.rand(1, 3, 6, 6)
    found = CausalPrediction(3, size)(y)
    expected = 0.75 * (y[..., 1:, :-1] + y[..., :-1, 1:]) - 0.5 * y[..., :-1, :-1]
    assert_close(found[..., 1:, 1:], expected)


def test_groups_start_at_the_mean_of_what_touches_them() -> None:
    """Which foretells a plane, and every group of every scale from two or four pixels."""
    y, touching = ramp(), []
    for groups in Pyramid((8, 8), 2).scales:
        for number in range(1, len(groups)):
            known, group = groups[:number], groups[number]
            layer = GroupPrediction(known, group, 3, 3)
            assert_close(layer.weight.sum((1, 2, 3)), torch.ones(3))
            touching.append(int((layer.weight[0] != 0).sum()))
            found = layer(torch.cat([one.of(y) for one in known], 1))
            inside = found[..., 1:-1, 1:-1]
            assert_close(inside, group.of(y)[..., 1:-1, 1:-1])
    assert touching == [2, 2, 4] * 2


def test_half_precision_leaves_a_prediction_alone() -> None:
    layer, y = CausalPrediction(3, 5), torch.rand(2, 3, 4, 4)
    expected, cursor = layer(y), ImageCursor(4, 4)
    with torch.autocast("cpu", torch.bfloat16):
        assert_close(layer(y), expected, rtol=0, atol=0)
        for row in range(4):
            for column in range(4):
                here = cursor.at(row, column)
                found = here(layer, here.piece(y))
                assert found.dtype == torch.float32
                assert_close(found[..., 0, 0], expected[..., row, column])


@pytest.mark.parametrize("name", ["pixelcnn", "gated_pixelcnn", "parallel_multiscale"])
def test_before_training_a_prediction_saves_bits_on_a_smooth_image(name: str, monkeypatch) -> None:
    """Since means that are relative to it start a tenth as far apart as those of levels."""
    event = Levels(256, (3, 8, 8))
    x = (60 + 300 * ramp()).round().long()  # steps of at most 23 levels from pixel to pixel

    def bits(**hyperparameters: object) -> float:
        torch.manual_seed(0)
        given = {"head": "logistic_mixture", **hyperparameters}
        model = arcore.create_model(name, event, **given)
        return -model.log_prob(x).item() / event.size / math.log(2)

    relative = bits(linear_prediction=3)
    assert relative < bits() - 0.1
    monkeypatch.setattr(raster, "PREDICTED_SPREAD", 1.0)
    assert relative < bits(linear_prediction=3) - 0.1
