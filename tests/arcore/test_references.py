"""Whole networks against loops over pixels or samples, written from the papers' equations.

Only the names of weights are the library's: shifts, centres, masks, gates and connections are
written out here. Kernels hold no rows below the pixel and, of its own row, no columns after it.
"""

import itertools
from collections.abc import Callable, Mapping, Sequence

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

import arcore
from arcore.events import Levels
from tests.support.cases import randomize

Weights = Mapping[str, Tensor]
Pixels = Mapping[tuple[int, int], Tensor]
LEVELS, CLASSES = 4, 3
TIGHT = {"rtol": 1e-10, "atol": 1e-10}


def scaled(level: int) -> Tensor:
    """A level as an input: the range of levels is mapped to [-1, 1]."""
    return torch.tensor([2 * level / (LEVELS - 1) - 1], dtype=torch.float64)


def one_by_one(weights: Weights, layer: str, x: Tensor) -> Tensor:
    return weights[f"{layer}.weight"].flatten(1) @ x + weights[f"{layer}.bias"]


def convolved(
    weights: Weights,
    layer: str,
    x: Pixels,
    place: tuple[int, int],
    without_itself: bool = False,
    whole_row: bool = False,
) -> Tensor:
    """A kernel whose last row is the pixel's own and whose columns are centred at it, or end."""
    kernel, total = weights[f"{layer}.weight"], weights[f"{layer}.bias"].clone()
    rows, columns = kernel.shape[2:]
    centre = columns // 2 if rows > 1 else columns - 1
    for i, j in itertools.product(range(rows), range(columns)):
        up, right = rows - 1 - i, j - centre
        own_row_after = up == 0 and right > 0 and not whole_row
        itself = up == 0 and right == 0
        seen = (place[0] - up, place[1] + right)
        if seen in x and not (itself and without_itself) and not own_row_after:
            total = total + kernel[:, :, i, j] @ x[seen]
    return total


def pixelcnn(weights: Weights, image: Tensor, label: int) -> Tensor:
    """Van den Oord et al. 2016a, table 1 and figure 5: h 1 x 1, h k x k, 2h 1 x 1, added."""
    size = image.shape
    places = list(itertools.product(range(size[0]), range(size[1])))
    x = {place: scaled(int(image[place])) for place in places}
    u = {
        place: convolved(weights, "input", x, place, without_itself=True)
        + weights["input_projection.project.weight"].flatten(1)[:, label]
        for place in places
    }
    for block in ("blocks.0", "blocks.1"):
        reduced = {p: one_by_one(weights, f"{block}.reduce", u[p].relu()).relu() for p in places}
        told = weights[f"{block}.projection.project.weight"].flatten(1)[:, label]
        for p in places:
            core = (convolved(weights, f"{block}.core", reduced, p) + told).relu()
            u[p] = u[p] + one_by_one(weights, f"{block}.expand", core)
    rows = []
    for p in places:
        y = one_by_one(weights, "hidden_head.0", u[p].relu()).relu()
        y = one_by_one(weights, "hidden_head.1", y).relu()
        rows.append(one_by_one(weights, "output", y))
    return torch.stack(rows).view(*size, -1)


def gate(a: Tensor) -> Tensor:
    f, g = a.chunk(2)
    return f.tanh() * g.sigmoid()


def gated_pixelcnn(weights: Weights, image: Tensor, label: int) -> Tensor:
    """Van den Oord et al. 2016b, figure 2 and equation 4: the vertical stack knows rows above."""
    height, width = image.shape
    places = list(itertools.product(range(height), range(width)))
    h = {place: scaled(int(image[place])) for place in places}
    v = {(r + 1, c): value for (r, c), value in h.items() if r + 1 < height}  # one row down
    total: dict[tuple[int, int], Tensor] = {}
    for number in (0, 1):
        layer, last = f"layers.{number}", number == 1
        told = weights[f"{layer}.horizontal_projection.project.weight"].flatten(1)[:, label]
        upper, own = {}, {}
        for p in places:
            a = convolved(weights, f"{layer}.vertical", v, p, whole_row=True)
            link = one_by_one(weights, f"{layer}.link", a)
            z = gate(convolved(weights, f"{layer}.horizontal", h, p, number == 0) + link + told)
            skip = one_by_one(weights, f"{layer}.skip", z)
            total[p] = total[p] + skip if number else skip
            if not last:
                shift = weights[f"{layer}.vertical_projection.project.weight"].flatten(1)[:, label]
                upper[p] = gate(a + shift)
                own[p] = one_by_one(weights, f"{layer}.residual", z)  # no image to add it to
        v, h = upper, own
    rows = []
    for p in places:
        y = one_by_one(weights, "hidden_head", total[p].relu()).relu()
        rows.append(one_by_one(weights, "output", y))
    return torch.stack(rows).view(height, width, -1)


def wavenet(weights: Weights, sound: Tensor, label: int) -> Tensor:
    """Van den Oord et al. 2016c, equation 2 and figure 4; dilations 1, 2, 1, 2, kernels of 2."""
    dilations, length = (1, 2, 1, 2), len(sound)
    width = len(weights["input_bias"])
    newest, older = weights["encoding.weight"].split(width, 1)  # a table a tap, the newest first
    h = []
    for t in range(length):  # sample t sees those before it
        now = weights["input_bias"].clone()
        for tap, back in ((newest, 1), (older, 2)):
            if t - back >= 0:
                now = now + tap[sound[t - back]]
        h.append(now)
    skips: list[list[Tensor]] = [[] for _ in range(length)]
    gates = weights["projection.weight"][label].chunk(len(dilations))
    for number, (dilation, told) in enumerate(zip(dilations, gates, strict=True)):
        layer, following = f"layers.{number}", []
        before, own = weights[f"{layer}.taps.weight"].split(width, 1)
        for t in range(length):
            a = own @ h[t] + weights[f"{layer}.taps.bias"] + told
            if t - dilation >= 0:
                a = a + before @ h[t - dilation]
            z = gate(a)
            skips[t].append(z)
            if number < len(dilations) - 1:
                following.append(h[t] + weights[f"{layer}.residual.weight"] @ z)
        h = following
    rows = []
    for z in skips:
        y = weights["skip.weight"] @ torch.cat(z) + weights["skip.bias"]
        y = weights["hidden_head.weight"] @ y.relu() + weights["hidden_head.bias"]
        rows.append(weights["output.weight"] @ y.relu() + weights["output.bias"])
    return torch.stack(rows)


IMAGE = {"first_kernel": 5, "kernel": 3, "head_width": 4}
SOUND = {"cycle": 2, "num_blocks": 2}
CASES: Sequence[tuple[str, tuple[int, ...], dict[str, object], Callable]] = [
    ("pixelcnn", (1, 4, 5), {"hidden": 3, "num_blocks": 2, **IMAGE}, pixelcnn),
    ("gated_pixelcnn", (1, 4, 5), {"width": 3, "num_layers": 2, **IMAGE}, gated_pixelcnn),
    ("wavenet", (9,), {"width": 3, "gate_width": 2, "skip_width": 4, **SOUND}, wavenet),
]


@pytest.mark.parametrize(
    ("name", "shape", "hyperparameters", "reference"), CASES, ids=["pixelcnn", "gated", "wavenet"]
)
def test_a_network_is_the_papers_equations(
    name: str, shape: tuple[int, ...], hyperparameters: dict[str, object], reference: Callable
) -> None:
    model = arcore.create_model(name, Levels(LEVELS, shape), num_classes=CLASSES, **hyperparameters)
    model = randomize(model.double(), seed=3).eval()
    generator = torch.Generator().manual_seed(0)
    x = torch.randint(LEVELS, (2, *shape), generator=generator)
    labels = torch.tensor([2, 0])
    weights = {key: value.detach() for key, value in model.state_dict().items()}
    expected = [
        reference(weights, row[0] if row.dim() == 3 else row, int(label))
        for row, label in zip(x, labels, strict=True)
    ]
    logits = torch.stack(expected).log_softmax(-1)
    found = model.conditionals(x, labels).logits.detach().log_softmax(-1)
    assert_close(found.reshape(logits.shape), logits, **TIGHT)
    nats = -logits.gather(-1, x.reshape(logits.shape[:-1])[..., None]).flatten(1).sum(1)
    assert_close(-model.log_prob(x, labels).detach(), nats, **TIGHT)
