"""Orderings, and MADE's degrees and masks."""

import math

import pytest
import torch

import arcore
from arcore.events import Levels
from arcore.layers import masked_linear
from arcore.layers.masked_linear import MaskedLinear
from arcore.primitives.masks import hidden_degrees, hidden_mask, output_mask
from arcore.primitives.orderings import ORDERINGS, inverse, make_ordering, random_ordering
from tests.support.refusals import refuses

SHAPES = [(1,), (7,), (3, 4), (1, 1, 1), (1, 3, 4), (3, 4, 3), (2, 3, 2, 4), (2, 2, 1, 3, 2)]
PICTURES = {
    "raster": [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 11]],
    "reverse": [[11, 10, 9, 8], [7, 6, 5, 4], [3, 2, 1, 0]],
    "column": [[0, 3, 6, 9], [1, 4, 7, 10], [2, 5, 8, 11]],
    "snake": [[0, 1, 2, 3], [7, 6, 5, 4], [8, 9, 10, 11]],
    "spiral": [[0, 1, 2, 3], [9, 10, 11, 4], [8, 7, 6, 5]],
}


@pytest.mark.parametrize("name", ORDERINGS)
def test_every_ordering_is_a_permutation(name: str) -> None:
    for shape in SHAPES:
        order = make_ordering(name, shape, seed=3)
        assert order.dtype == torch.int64
        assert sorted(order.tolist()) == list(range(math.prod(shape))), shape
        assert torch.equal(order[inverse(order)], torch.arange(len(order)))


@pytest.mark.parametrize("name", PICTURES)
def test_pictures_show_the_step_of_each_pixel(name: str) -> None:
    for shape in ((3, 4), (1, 3, 4)):
        assert inverse(make_ordering(name, shape)).view(3, 4).tolist() == PICTURES[name]


@pytest.mark.parametrize("name", PICTURES)
def test_a_pixels_channels_are_neighbours_and_frames_follow(name: str) -> None:
    frames, channels, height, width = 2, 3, 3, 4
    order = make_ordering(name, (frames, channels, height, width))
    pixels = make_ordering(name, (height, width))
    steps = order.view(frames, height * width, channels)
    plane = height * width
    for frame in range(frames):
        for channel in range(channels):
            offset = (frame * channels + channel) * plane
            assert torch.equal(steps[frame, :, channel], offset + pixels)


@pytest.mark.parametrize("name", ORDERINGS)
def test_image_models_draw_a_pixels_colours_one_after_the_other(name: str) -> None:
    model = arcore.create_model("pixelcnn", Levels(2, (3, 2, 4)), ordering=name)
    planes, places = (torch.cat(model.schedule) // 8, torch.cat(model.schedule) % 8)
    assert torch.equal(planes.view(8, 3), torch.arange(3).expand(8, 3))
    assert torch.equal(places.view(8, 3), make_ordering(name, (2, 4)).view(8, 1).expand(8, 3))


def test_random_orderings_are_a_function_of_the_seed() -> None:
    assert torch.equal(random_ordering(50, 1), random_ordering(50, 1))
    assert not torch.equal(random_ordering(50, 1), random_ordering(50, 2))
    assert torch.equal(make_ordering("random", (5, 10), seed=1), random_ordering(50, 1))


BAD = [
    (("zigzag", (2, 2)), ["ordering", "raster, ", "'zigzag'"]),
    (("raster", ()), ["shape", "a non-empty list of integers >= 1", "()"]),
    (("raster", (-1,)), ["shape", ">= 1", "-1"]),
    (("raster", None), ["shape", "a non-empty list", "None"]),
    *((("random", (3,), seed), ["ordering_seed", "[0, 2^31)"]) for seed in (None, 1.5, "1", -1)),
]


@pytest.mark.parametrize(("arguments", "parts"), BAD)
def test_bad_arguments_are_named(arguments: tuple, parts: list[str]) -> None:
    refuses(lambda: make_ordering(*arguments), parts)


@pytest.mark.parametrize("seed", [None, 1.5, "1", -1])
def test_a_random_ordering_needs_a_seed(seed: object) -> None:
    refuses(lambda: random_ordering(3, seed), ["seed", "an integer >= 0", repr(seed)])


@pytest.mark.parametrize("size", [1, 2, 3, 12])
@pytest.mark.parametrize("widths", [(1,), (3, 1, 5), (40, 40)], ids=str)
def test_degrees_stay_in_range(size: int, widths: tuple[int, ...]) -> None:
    drawn = [torch.Generator().manual_seed(seed) for seed in range(20)]
    for source in (None, *drawn):
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
def test_paths_through_masks_are_strictly_lower_triangular(drawn: bool, generator) -> None:
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
    conditioning: bool, bias: bool, outputs: int, dtype: torch.dtype, monkeypatch
) -> None:
    for name in ("SMALLEST_GROUP", "LEAST_WEIGHTS"):
        monkeypatch.setattr(MaskedLinear, name, 1)
    monkeypatch.setattr(masked_linear, "has_fast_onednn", lambda: True)
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
