"""Parallel Multiscale: its groups, what they may see, and what a sample costs."""

import math
from collections.abc import Mapping
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

import arcore
from arcore.events import Binary, Levels
from arcore.families.raster import image_shape
from arcore.layers.group_network import GroupNetwork
from arcore.models.parallel_multiscale import ParallelMultiscale
from arcore.primitives.pyramids import Pyramid
from tests.arcore.cases.images import COARSE
from tests.support.cases import randomize
from tests.support.dependence import influence
from tests.support.statistics import all_levels

IMAGE = Levels(256, (3, 32, 32))
SIZES = [(1, 1), (1, 9), (7, 1), (2, 2), (3, 5), (8, 8), (5, 4), (28, 28), (31, 33), (2, 40)]


def create(event: Levels, **hyperparameters: Any) -> ParallelMultiscale:
    model = arcore.create_model("parallel_multiscale", event, **hyperparameters)
    assert isinstance(model, ParallelMultiscale)
    return model


# -- groups


@pytest.mark.parametrize("base_size", [1, 2, 3, 4])
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_groups_share_out_the_pixels_scale_by_scale(size: tuple[int, int], base_size: int) -> None:
    """A scale is every other row and column of the next."""
    pyramid = Pyramid(size, base_size)
    image = torch.arange(size[0] * size[1]).view(size)
    drawn = [pyramid.base, *(group for scale in pyramid.scales for group in scale[1:])]
    assert sorted(torch.cat([g.of(image).flatten() for g in drawn]).tolist()) == list(
        range(image.numel())
    )
    assert all(tuple(group.of(image).shape) == group.extents(size) for group in drawn)
    merged = torch.full(size, -1)
    for group in drawn:
        assert (group.of(merged) == -1).all()
        group.of(merged).copy_(group.of(image))
    assert torch.equal(merged, image)
    for scale in reversed(pyramid.scales):
        by_hand = [image[::2, ::2], image[::2, 1::2], image[1::2, ::2], image[1::2, 1::2]]
        by_hand = [part for part in by_hand if part.numel()]
        assert len(by_hand) == len(scale) > 1
        whole = torch.arange(size[0] * size[1]).view(size)
        for part, group in zip(by_hand, scale, strict=True):
            assert torch.equal(group.of(whole), part)
        image = by_hand[0]
    assert torch.equal(pyramid.base.of(torch.arange(size[0] * size[1]).view(size)), image)
    assert all(side >= min(whole, base_size) for side, whole in zip(image.shape, size, strict=True))
    halved = [-(-side // 2) for side in image.shape if side > 1]
    assert not halved or min(halved) < base_size


# -- which index may see which

TINY = {**COARSE, "head_width": 32, "width": 16, "num_blocks": 2}
CHAINS = [
    (Binary((5, 6)), {"base_size": 2}),
    (Levels(3, (2, 4, 4)), {"base_size": 2}),
    (Levels(3, (2, 4, 4)), {"base_size": 2, "head": "logistic_mixture"}),
    (Binary((5, 9)), {"base_size": 2, "upscaling": "B", "patch_grid": 2, "patch_kernel": 5}),
    (Levels(3, (3, 4, 4)), {"base_size": 2, "upscaling": "B", "patch_grid": 1, "patch_kernel": 5}),
    (Binary((11,)), {"base_size": 2, "upscaling": "B", "patch_grid": 2, "patch_kernel": 5}),
]


def rank(row: int, column: int, size: tuple[int, int], base_size: int) -> tuple[int, int]:
    """The scale (0 for the base) and group 1 to 4 of a pixel, by halving the image by hand."""
    height, width = size
    shrunk = [(side + 1) // 2 for side in size]
    if size == (1, 1) or any(
        half < base_size for half, side in zip(shrunk, size, strict=True) if side > 1
    ):
        return 0, 1
    if row % 2 == 0 and column % 2 == 0:
        return rank(row // 2, column // 2, (shrunk[0], shrunk[1]), base_size)
    scales, (h, w) = 0, (height, width)
    while all((side + 1) // 2 >= base_size for side in (h, w) if side > 1) and (h, w) != (1, 1):
        scales, h, w = scales + 1, (h + 1) // 2, (w + 1) // 2
    return scales, 1 + 2 * (row % 2) + column % 2


def allowed(event: Levels, p: Mapping[str, Any]) -> Tensor:
    """Which index (column) each index (row) may see, from the definition of the groups."""
    channels, *size = image_shape(event)
    pixels = [(r, c) for r in range(size[0]) for c in range(size[1])]
    ranks = {pixel: rank(*pixel, (size[0], size[1]), p["base_size"]) for pixel in pixels}

    def place(pixel: tuple[int, int]) -> tuple[tuple[int, int], tuple[int, int]]:
        """The patch of a pixel in its group, and its position there."""
        own = [other for other in pixels if ranks[other] == ranks[pixel]]
        sides = [sorted({other[axis] for other in own}) for axis in (0, 1)]
        parts, positions = [], []
        for axis in (0, 1):
            extent = math.ceil(len(sides[axis]) / p.get("patch_grid", 4))
            index = sides[axis].index(pixel[axis])
            parts.append(index // extent if p.get("upscaling") == "B" else index)
            positions.append(index % extent if p.get("upscaling") == "B" else 0)
        return (parts[0], parts[1]), (positions[0], positions[1])

    def sees(one: tuple[int, int], a: int, other: tuple[int, int], b: int) -> bool:
        if ranks[one] != ranks[other]:
            return ranks[one] > ranks[other]
        if one == other:
            return a > b
        if ranks[one] == (0, 1):
            return one > other
        (patch, position), (other_patch, other_position) = place(one), place(other)
        return patch == other_patch and position > other_position

    indices = [(c, pixel) for c in range(channels) for pixel in pixels]
    table = [[sees(one, a, other, b) for b, other in indices] for a, one in indices]
    return torch.tensor(table)


@pytest.mark.parametrize(("event", "given"), CHAINS, ids=str)
def test_an_index_sees_earlier_groups_its_patch_and_nothing_else(
    event: Levels, given: Mapping[str, Any]
) -> None:
    model = create(event, **{**TINY, **given}).double()
    generator = torch.Generator().manual_seed(1)
    expected = allowed(event, given)
    seen = torch.zeros_like(expected)
    order = torch.cat(model.schedule)
    for seed in range(3):  # a rectifier may be off for one draw of the weights
        randomize(model, seed)
        x = torch.randint(event.num_levels, (16, *event.shape), generator=generator)
        found = torch.zeros_like(seen)
        found[order[:, None], order[None, :]] = influence(model, x, None)
        seen |= found
        if torch.equal(seen, expected):
            break
    assert not (seen & ~expected).any(), "leaks"
    missing = (expected & ~seen).nonzero().tolist()
    assert not missing, f"blind spots: {missing}"


# -- likelihood


def test_bits_of_the_base_are_counted(generator: torch.Generator) -> None:
    event = Levels(5, (1, 8, 8))
    model = create(event).double()
    x = torch.randint(5, (4, 1, 8, 8), generator=generator)
    base = model.base.log_prob(x[..., ::2, ::2])
    terms = model.conditionals(x).log_prob(x)
    assert_close(terms[..., ::2, ::2].flatten(1).sum(1), base, rtol=1e-12, atol=0)
    assert_close(model.log_prob(x), terms.flatten(1).sum(1), rtol=1e-12, atol=0)
    for parameter in model.parameters():
        parameter.data.zero_()
    uniform = torch.full((4,), -64 * math.log(5), dtype=torch.float64)
    assert_close(model.log_prob(x), uniform, rtol=1e-12, atol=0)


@pytest.mark.parametrize("upscaling", ["A", "B"])
def test_groups_given_the_base_sum_to_one(upscaling: str) -> None:
    event = Binary((4, 4))
    patches = {"patch_grid": 1} if upscaling == "B" else {}
    model = create(event, **{**TINY, "base_size": 2, "upscaling": upscaling, **patches})
    randomize(model.double(), seed=3)
    states = all_levels(event)
    states = states[(states[:, ::2, ::2] == torch.tensor([[1, 0], [0, 1]])).all((1, 2))]
    assert len(states) == 2**12
    with torch.no_grad():
        total = model.log_prob(states).exp().sum()
        base = model.base.log_prob(states[:1, None, ::2, ::2]).exp()[0]
    assert_close(total, base, rtol=1e-9, atol=0)


def test_lower_resolution_is_a_sample_of_the_base() -> None:
    model = randomize(create(Levels(3, (2, 9, 6)), **{**TINY, "base_size": 3}).double())
    assert isinstance(model, ParallelMultiscale)
    draws = [torch.Generator().manual_seed(4) for _ in range(2)]
    whole, base = model.sample(6, generator=draws[0]), model.base.sample(6, generator=draws[1])
    assert model.base.event.extents == (2, 5, 3)
    assert torch.equal(whole[..., ::2, ::2], base)


# -- cost


@pytest.mark.parametrize(
    ("event", "given", "expected"),
    [
        (IMAGE, {}, 48 + 3 * 3 * 3),
        (IMAGE, {"head": "logistic_mixture"}, 16 + 3 * 3),
        (IMAGE, {"upscaling": "B"}, 48 + 3 * 3 * (1 + 4 + 16)),
        (IMAGE, {"upscaling": "B", "head": "logistic_mixture"}, 16 + 3 * (1 + 4 + 16)),
        (IMAGE, {"base_size": 8}, 3 * 64 + 2 * 3 * 3),
        (Levels(17, (1, 8, 8)), {}, 16 + 3),
        (Binary((1,)), {}, 1),
    ],
    ids=str,
)
def test_a_sample_takes_the_evaluations_that_the_paper_counts(
    event: Levels, given: Mapping[str, Any], expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = create(event, **{**COARSE, "base_size": 4, **given})
    assert model.num_evaluations == expected
    calls = {"base": 0, "head": 0, "context": 0}
    for name, kind, method in (
        ("base", type(model.base), "_network_at"),
        ("head", GroupNetwork, "pixels"),
        ("context", GroupNetwork, "context"),
    ):
        inner = getattr(kind, method)

        def counted(*arguments: Any, name: str = name, inner: Any = inner) -> Any:
            calls[name] += 1
            return inner(*arguments)

        monkeypatch.setattr(kind, method, counted)
    decoder = model.decoder(1)
    for block in decoder.blocks:
        decoder.next()
        decoder.push(torch.zeros(1, len(block)).long())
    assert calls["base"] + calls["head"] == expected
    assert calls["context"] == sum(len(scale) - 1 for scale in model.pyramid.scales)
