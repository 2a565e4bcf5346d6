"""PixelRNNs: layers against loops from the papers' equations, what they see, and both scales."""

import itertools
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

import arcore
from arcore.events import Levels
from arcore.layers.cursor import ImageCursor
from arcore.layers.image_lstms import DiagonalLSTMLayer, RowLSTMLayer, SpatialLSTMLayer
from arcore.model import AutoregressiveModel
from tests.support.cases import Case, randomize
from tests.support.dependence import influence

TIGHT = {"rtol": 1e-10, "atol": 1e-10}
SIZES = [(1, 1), (1, 5), (4, 1), (3, 3), (2, 5), (5, 3)]
Pixels = dict[tuple[int, int], Tensor]


def filled(layer: nn.Module) -> nn.Module:
    generator = torch.Generator().manual_seed(1)
    layer = layer.double()
    for parameter in layer.parameters():
        parameter.data.normal_(generator=generator)
    return layer


def cell(gates: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
    """Equation 3: [o, f, i, g] = sigm, sigm, sigm, tanh; c' = f c + i g; h' = o tanh(c')."""
    o, f, i, g = gates.chunk(4, 1)
    c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
    return torch.sigmoid(o) * torch.tanh(c), c


def stacked(pixels: Pixels, height: int, width: int) -> Tensor:
    rows = [torch.stack([pixels[r, c] for c in range(width)], -1) for r in range(height)]
    return torch.stack(rows, -2)


def row_lstm(layer: RowLSTMLayer, x: Tensor) -> Tensor:
    """Pixel by pixel: the state of (r, c) from those of (r - 1, c - 1), (r - 1, c), (r - 1, c + 1),
    zeros beside the image and learned states above it.
    """
    batch, _, height, width = x.shape
    h: Pixels = {(-1, c): layer.initial_h[0, c].expand(batch, -1) for c in range(width)}
    cells: Pixels = {(-1, c): layer.initial_c[0, c].expand(batch, -1) for c in range(width)}
    for r in range(height):
        for c in range(width):
            gates = x[:, :, r, c]
            for j in range(layer.kernel):
                above = (r - 1, c - layer.kernel // 2 + j)
                if above in h:
                    gates = gates + h[above] @ layer.weight[j, 0]
            h[r, c], cells[r, c] = cell(gates, cells[r - 1, c])
    return stacked(h, height, width)


def diagonal_bilstm(layer: DiagonalLSTMLayer, x: Tensor) -> Tensor:
    """Pixel by pixel, in raster order, which is another order than along diagonals: the state of
    (r, c) from those of (r, c - 1), or a learned one, and (r - 1, c), or zero. The second LSTM does
    so on the mirrored map; what it leaves moves one row down.
    """
    batch, _, height, width = x.shape
    total = x.new_zeros(batch, layer.hidden, height, width)
    for d, inputs in enumerate(x.split(4 * layer.hidden, 1)):
        inputs = inputs.flip(-1) if d else inputs
        h: Pixels = {(r, -1): layer.initial_h[d, r].expand(batch, -1) for r in range(height)}
        cells: Pixels = {(r, -1): layer.initial_c[d, r].expand(batch, -1) for r in range(height)}
        for r in range(height):
            for c in range(width):
                gates = inputs[:, :, r, c] + h[r, c - 1] @ layer.weight[0, d]
                if r > 0:
                    gates = gates + h[r - 1, c] @ layer.weight[1, d]
                h[r, c], cells[r, c] = cell(gates, cells[r, c - 1])
        states = stacked(h, height, width)
        if d:
            zero = torch.zeros_like(states[:, :, :1])
            states = torch.cat([zero, states.flip(-1)[:, :, :-1]], 2)
        total = total + states
    return total


def spatial_lstm(layer: SpatialLSTMLayer, x: Tensor) -> Tensor:
    """Pixel by pixel, equations 5 to 8: [g, o, i, f, u] of x, of the state to the left and of that
    above; c = g i + c_left f + c_above u, h = tanh(c o).
    """
    batch, _, height, width = x.shape
    zero = x.new_zeros(batch, layer.hidden)
    h: Pixels = {}
    cells: Pixels = {}
    for r in range(height):
        for c in range(width):
            left, above = (r, c - 1), (r - 1, c)
            states = torch.cat([h.get(left, zero), h.get(above, zero)], 1)
            g, o, i, f, u = (x[:, :, r, c] + states @ layer.weight).chunk(5, 1)
            kept = torch.sigmoid(f) * cells.get(left, zero)
            kept = kept + torch.sigmoid(u) * cells.get(above, zero)
            cells[r, c] = torch.tanh(g) * torch.sigmoid(i) + kept
            h[r, c] = torch.tanh(cells[r, c] * torch.sigmoid(o))
    return stacked(h, height, width)


Layer = Callable[[tuple[int, int]], nn.Module]
LAYERS = [
    pytest.param(lambda size: RowLSTMLayer(3, size[1]), row_lstm, id="row"),
    pytest.param(lambda size: RowLSTMLayer(2, size[1], 5), row_lstm, id="row-5"),
    pytest.param(lambda size: RowLSTMLayer(2, size[1], 1), row_lstm, id="row-1"),
    pytest.param(lambda size: DiagonalLSTMLayer(3, size), diagonal_bilstm, id="diagonal"),
    pytest.param(lambda size: SpatialLSTMLayer(3), spatial_lstm, id="spatial"),
]


def inputs_of(layer: nn.Module, size: tuple[int, int], batch: int = 4) -> Tensor:
    maps = layer.weight.shape[-1] * getattr(layer, "directions", 1)
    generator = torch.Generator().manual_seed(2)
    return torch.randn(batch, maps, *size, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(("make", "reference"), LAYERS)
def test_layers_and_their_gradients_equal_loops_over_pixels(
    make: Layer, reference: Callable, size: tuple[int, int]
) -> None:
    layer = filled(make(size))
    x = inputs_of(layer, size).requires_grad_()
    ours, wanted = layer(x), reference(layer, x)
    assert_close(ours, wanted, **TIGHT)
    weights = torch.randn(ours.shape, dtype=torch.float64)
    leaves = [x, *layer.parameters()]
    slow = torch.autograd.grad((wanted * weights).sum(), leaves, materialize_grads=True)
    fast = torch.autograd.grad((ours * weights).sum(), leaves)
    for a, b in zip(fast, slow, strict=True):
        assert_close(a, b, **TIGHT)


@torch.no_grad()
def stepped(layer: nn.Module, x: Tensor, twice: bool = False) -> Tensor:
    """Its states pixel by pixel, or each pixel after a try with another input."""
    size = x.shape[2:]
    found, cursor = {}, ImageCursor(*size)
    for r, c in itertools.product(*map(range, size)):
        cursor.at(r, c)
        if twice:
            layer.step(torch.randn(len(x), x.shape[1], 1, 1).double(), cursor)
        found[r, c] = layer.step(cursor.piece(x), cursor)[:, :, 0, 0]
    return stacked(found, *size)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(("make", "reference"), LAYERS)
def test_layers_pixel_by_pixel_may_take_a_pixel_twice(
    make: Layer, reference: Callable, size: tuple[int, int]
) -> None:
    layer = filled(make(size))
    x = inputs_of(layer, size)
    assert_close(stepped(layer, x, twice=True), reference(layer, x), **TIGHT)


def reach(layer: nn.Module, maps: slice, size: tuple[int, int]) -> Tensor:
    """Which pixels of the given input maps change which states: (H, W, H, W) bool."""
    x = inputs_of(layer, size, batch=1)
    jacobian = torch.autograd.functional.jacobian(layer, x)
    return (jacobian[0, :, :, :, 0, maps] != 0).any(0).any(2)


def pixels(height: int, width: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Row and column of a state, then of an input, as broadcasting axes."""
    axes = [torch.arange(n) for n in (height, width, height, width)]
    r, c, r_in, c_in = torch.meshgrid(*axes, indexing="ij")
    return r, c, r_in, c_in


def test_the_second_direction_never_sees_its_own_row() -> None:
    size, h = (4, 5), 2
    layer = filled(DiagonalLSTMLayer(h, size))
    r, c, r_in, c_in = pixels(*size)
    first, second = (reach(layer, maps, size) for maps in (slice(4 * h), slice(4 * h, None)))
    assert torch.equal(first, (r_in <= r) & (c_in <= c))
    assert torch.equal(second, (r_in < r) & (c_in >= c))


@pytest.mark.parametrize("kernel", [1, 3, 5])
def test_a_row_lstm_sees_a_triangle(kernel: int) -> None:
    size = (4, 6)
    r, c, r_in, c_in = pixels(*size)
    seen = reach(filled(RowLSTMLayer(2, size[1], kernel)), slice(None), size)
    triangle = (c_in - c).abs() <= (r - r_in) * (kernel // 2)
    assert torch.equal(seen, triangle & (r_in <= r))


@pytest.mark.parametrize("shape", [(1, 4, 9), (2, 3, 6), (1, 9, 2)])
def test_a_diagonal_bilstm_sees_everything_before_a_pixel_and_nothing_after(
    shape: tuple[int, int, int],
) -> None:
    hyperparameters = {"hidden": 8, "head_width": 24, "first_kernel": 3}
    case = Case("diagonal_bilstm", Levels(3, shape), hyperparameters)
    seen = influence(case.build(), case.values(64), None)
    assert torch.equal(seen, torch.ones_like(seen).tril(-1))


def test_a_spatial_lstm_sees_what_is_above_and_to_the_left() -> None:
    r, c, r_in, c_in = pixels(4, 5)
    seen = reach(filled(SpatialLSTMLayer(2)), slice(None), (4, 5))
    assert torch.equal(seen, (r_in <= r) & (c_in <= c))


@pytest.mark.parametrize(
    "make", [RowLSTMLayer, lambda *_: DiagonalLSTMLayer(4, (4, 5)), lambda *_: SpatialLSTMLayer(3)]
)
def test_layers_pixel_by_pixel_are_as_fine_as_at_once_under_autocast(make: Callable) -> None:
    layer = filled(make(3, 5)).float()
    x = inputs_of(layer, (4, 5)).float()
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        assert_close(stepped(layer, x), layer(x), rtol=1e-5, atol=1e-5)


# -- two scales


def scales(shape: tuple[int, ...], **hyperparameters: object) -> AutoregressiveModel:
    small = {"hidden": 6, "base_hidden": 6, "num_layers": 1, "base_num_layers": 1}
    model = arcore.create_model("multiscale_pixelrnn", Levels(3, shape), **small, **hyperparameters)
    return randomize(model.double())


@pytest.mark.parametrize("core", ["diagonal_bilstm", "row_lstm"])
@pytest.mark.parametrize(
    ("shape", "factor", "small"),
    [((1, 4, 4), 2, (1, 2, 2)), ((2, 5, 3), 2, (2, 3, 2)), ((1, 5, 7), 3, (1, 2, 3)),
     ((7,), 4, (1, 1, 2)), ((2, 3), 5, (1, 1, 1))],
)  # fmt: skip
def test_both_scales_are_counted_once(
    core: str, shape: tuple[int, ...], factor: int, small: tuple[int, ...]
) -> None:
    """ln p(x) = ln p(x_s) + sum over other pixels of ln p(x_i | x_<i, x_s), x_s = x[::f, ::f]."""
    model = scales(shape, factor=factor, core=core)
    x = torch.randint(3, (4, *shape), generator=torch.Generator().manual_seed(0))
    image = x.view(4, *model.image)
    x_s = image[..., ::factor, ::factor]
    assert model.base.event.shape == small == x_s.shape[1:]
    maps = model.detail_maps(x_s, None)
    assert maps.shape[2:] == image.shape[2:]
    terms = model.detail.conditionals_given(image, maps).log_prob(image).clone()
    terms[..., ::factor, ::factor] = 0
    assert_close(model.log_prob(x), model.base.log_prob(x_s) + terms.flatten(1).sum(1), **TIGHT)


def test_the_small_image_comes_first_and_knows_nothing_else() -> None:
    model = scales((2, 3, 4))
    order = torch.cat(model.schedule).tolist()
    first = [0, 12, 2, 14, 8, 20, 10, 22]  # of rows 0 and 2, columns 0 and 2, colour by colour
    assert order[:8] == first
    assert order[8:] == [i for p in range(12) for i in (p, p + 12) if i not in first]

    x = torch.randint(3, (6, 2, 3, 4), generator=torch.Generator().manual_seed(0))
    other = (x + 1) % 3
    other[..., ::2, ::2] = x[..., ::2, ::2]
    before, after = (model.conditionals(v).logits[..., ::2, ::2, :] for v in (x, other))
    assert torch.equal(before, after)
    assert_close(before, model.base.conditionals(x[..., ::2, ::2]).logits, rtol=0, atol=0)
