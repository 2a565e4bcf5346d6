"""WaveNet: its field, its left context, windows, lengths, conditions and queues."""

import copy

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

import arcore
from arcore.events import Binary, Levels
from arcore.layers import dilated_stack
from arcore.models.wavenet import WaveNet
from arcore.primitives.companding import mu_law_decode, mu_law_encode
from tests.support.cases import compiles_to_the_same, randomize
from tests.support.dependence import influence
from tests.support.refusals import refuses

OPEN = Levels(8, (None,))
SMALL = {"width": 4, "gate_width": 3, "skip_width": 10, "cycle": 3, "num_blocks": 2}
TIGHT = {"rtol": 1e-9, "atol": 1e-9}
CONDITIONS = [
    {},
    {"num_classes": 3},
    {"local_classes": 4, "local_strides": [2, 3]},
    {"num_classes": 3, "local_classes": 4, "local_strides": [2, 3], "upsampling": "repeat"},
    {"local_size": 2, "local_strides": [6]},
]
every_condition = pytest.mark.parametrize("condition", CONDITIONS, ids=lambda c: ",".join(c))


def build(event: Levels = OPEN, **hyperparameters: object) -> WaveNet:
    model = randomize(arcore.create_model("wavenet", event, **SMALL, **hyperparameters).double())
    assert isinstance(model, WaveNet)
    return model


def draw(model: WaveNet, batch: int, length: int) -> tuple[Tensor, Tensor | None]:
    generator = torch.Generator().manual_seed(length)
    p = model.hyperparameters
    x = torch.randint(8, (batch, length), generator=generator)
    frames = -(-length // model.hop)
    if p.local_size is not None:
        shape = (batch, frames, p.local_size)
        return x, torch.randn(shape, generator=generator, dtype=torch.float64)
    classes = torch.arange(batch) % (p.num_classes or 1)
    if p.local_classes is None:
        return x, None if p.num_classes is None else classes
    symbols = torch.randint(p.local_classes, (batch, frames), generator=generator)
    return x, symbols if p.num_classes is None else torch.cat([classes[:, None], symbols], 1)


def from_frame(model: WaveNet, condition: Tensor | None, frame: int) -> Tensor | None:
    p = model.hyperparameters
    if condition is None or (p.local_classes is None and p.local_size is None):
        return condition
    if p.num_classes is None:
        return condition[:, frame:]
    return torch.cat([condition[:, :1], condition[:, 1 + frame :]], 1)


# -- order


@pytest.mark.parametrize(
    ("shape", "field"),
    [
        ({"kernel": 2, "cycle": 3, "num_blocks": 1}, 9),
        ({"kernel": 2, "cycle": 2, "num_blocks": 2}, 8),
        ({"kernel": 3, "cycle": 2, "num_blocks": 1}, 9),
        ({"kernel": 4, "cycle": 1, "num_blocks": 2}, 10),
    ],
)
def test_receptive_field_is_exact(shape: dict[str, int], field: int) -> None:
    event = Binary((field + 4,))
    hyperparameters = {**SMALL, **shape}
    model = randomize(arcore.create_model("wavenet", event, **hyperparameters).double())
    assert isinstance(model, WaveNet) and model.receptive_field == field
    assert f"receptive_field={field}" in repr(model)
    x = torch.randint(2, (64, field + 4), generator=torch.Generator().manual_seed(0))
    seen = influence(model, x, None)
    t = torch.arange(field + 4)
    lag = t[:, None] - t
    assert torch.equal(seen, (lag >= 1) & (lag <= field))


# -- lengths and windows


@every_condition
def test_padding_and_batch_composition_change_nothing(condition: dict) -> None:
    model = build(**condition)
    x, given = draw(model, 4, 30)
    lengths = torch.tensor([30, 1, 17, 24])
    scored = torch.stack([torch.zeros_like(lengths), lengths], 1)
    together = model.log_prob(x, given, scored)
    for row, length in enumerate(lengths.tolist()):
        own = None if given is None else given[row : row + 1]
        alone = model.log_prob(x[row : row + 1, :length], own)
        assert_close(together[row : row + 1], alone, **TIGHT)
    garbage = torch.where(torch.arange(30) < lengths[:, None], x, 7 - x)
    assert torch.equal(model.log_prob(garbage, given, scored), together)
    assert torch.equal(model(x, given, scored), -together)
    assert torch.equal(model.validation_loss(x, given, scored), -together)


@every_condition
def test_windows_score_every_sample_once_with_its_full_past(condition: dict) -> None:
    model, length, window = build(**condition), 100, 13
    x, given = draw(model, 3, length)
    assert model.receptive_field + model.hop + window < length
    total = torch.zeros(3, dtype=torch.float64)
    for first in range(0, length, window):
        begin = max(0, first - model.receptive_field) // model.hop * model.hop
        end = min(first + window, length)
        span = torch.tensor([[first - begin, end - begin]]).expand(3, 2)
        part = from_frame(model, given, begin // model.hop)
        total += model.log_prob(x[:, begin:end], part, span)
    assert_close(total, model.log_prob(x, given), **TIGHT)


def test_many_samples_that_count() -> None:
    """Their number is rounded up inside, which nothing shows."""
    model = build()
    x, _ = draw(model, 3, 800)
    scored = torch.tensor([[1, 800], [0, 799], [40, 41]])
    terms = model.conditionals(x).log_prob(x)
    expected = torch.stack([row[a:b].sum() for row, (a, b) in zip(terms, scored, strict=True)])
    assert_close(model.log_prob(x, None, scored), expected, **TIGHT)
    weights = list(model.parameters())
    gradients = torch.autograd.grad(model.log_prob(x, None, scored).sum(), weights)
    assert_close(gradients, torch.autograd.grad(expected.sum(), weights), **TIGHT)


@pytest.mark.parametrize("kernel", [2, 3])
@pytest.mark.parametrize("length", [3, 40])
def test_layers_in_one_are_the_layers(monkeypatch, kernel: int, length: int) -> None:
    """Values and gradients, with delays beyond the length too."""
    model = build(kernel=kernel)
    x, _ = draw(model, 3, length)
    weights, found = list(model.parameters()), []
    for most in (-1, 1 << 30):
        monkeypatch.setattr(dilated_stack, "SMALL", most)
        terms = model.log_prob(x)
        found.append((terms, torch.autograd.grad(terms.sum(), weights)))
    assert_close(*found, **TIGHT)


# -- generation


@every_condition
def test_queues_give_what_the_scorer_gives_beyond_the_field(condition: dict) -> None:
    model = build(kernel=3, **condition)
    x, given = draw(model, 4, 70)
    assert model.receptive_field < 40
    fixed = model.of_length(70)
    expected = model.conditionals(x, given).logits
    decoder = fixed.decoder(4, given)
    for t in range(70):
        assert_close(decoder.next().logits[:, 0], expected[:, t], **TIGHT)
        assert_close(decoder.next().logits[:, 0], expected[:, t], **TIGHT)  # looks change nothing
        decoder.push(x[:, t : t + 1])
    decoder = fixed.decoder(4, given)
    for t in range(69):
        decoder.push(x[:, t : t + 1])  # without looking
    assert_close(decoder.next().logits[:, 0], expected[:, 69], **TIGHT)


# -- arguments

X = torch.zeros(2, 20).long()
BAD = [
    (lambda m: build(local_classes=2, local_strides=[10**6, 10**6]), ["local_strides", "65536"]),
    (lambda m: m.log_prob(X, X[:, 0], X[:, :1]), ["scored", "(2, 2)", "(2, 1)"]),
    (lambda m: m.log_prob(X, X[:, 0], X[:, :2] + 21), ["scored", "<= 20", "21"]),
    (lambda m: m.log_prob(X, X[:, 0], torch.zeros(2, 2)), ["scored", "int64", "float32"]),
    (lambda m: m.log_prob(X.view(2, 4, 5), X[:, 0]), ["x", "(batch, any)", "(2, 4, 5)"]),
]


@pytest.mark.parametrize(("call", "parts"), BAD)
def test_bad_spans_are_named(call: object, parts: list[str]) -> None:
    assert callable(call)
    refuses(lambda: call(build(num_classes=3)), parts)


BAD_LOCAL = [
    (X[:, 0], ["condition", "(2, 1 + any)", "(2,)"]),
    (X[:, :1], ["condition", "(2, 1 + any)", "(2, 1)"]),
    (X[:, :3].float(), ["condition", "int64", "float32"]),
    (X[:, :3], ["condition", "4 frames for 20 samples", "2"]),
    (X[:, :5] + 4, ["condition", "[0, 3)", "4"]),
    (X[:, :5] - torch.tensor([0, 0, 1, 0, 0]), ["condition", "symbols in [0, 4)", "-1"]),
]


@pytest.mark.parametrize(("condition", "parts"), BAD_LOCAL)
def test_bad_local_conditions_are_named(condition: Tensor, parts: list[str]) -> None:
    model = build(num_classes=3, local_classes=4, local_strides=[5])
    refuses(lambda: model.log_prob(X, condition), parts)


# -- companding


@pytest.mark.parametrize("levels", [2, 16, 255, 256])
def test_mu_law_is_undone_at_every_level(levels: int) -> None:
    every = torch.arange(levels)
    amplitudes = mu_law_decode(every, levels)
    assert amplitudes.dtype == torch.float32 and torch.equal(
        mu_law_encode(amplitudes, levels), every
    )
    assert bool((amplitudes.diff() > 0).all())
    assert amplitudes[0] == -1 and amplitudes[-1] == 1


def test_bad_sounds_are_named() -> None:
    for levels in ([300], [-1], [0.5]):
        refuses(lambda x=levels: mu_law_decode(torch.tensor(x)), ["levels", "expected"])
    refuses(lambda: mu_law_encode(torch.zeros(2).long()), ["amplitudes", "expected"])
    refuses(lambda: mu_law_encode(torch.tensor([torch.nan])), ["amplitudes", "expected"])
    refuses(lambda: mu_law_encode(torch.zeros(2), 1), ["num_levels", "expected"])


def test_mu_law_values() -> None:
    # ln(1 + 255 / 2) / ln 256 = 0.875695, hence floor(1.875695 / 2 * 255 + 0.5) = floor(239.65)
    given = torch.tensor([-2.0, -0.5, 0.0, 0.5, 2.0])
    assert mu_law_encode(given).tolist() == [0, 16, 128, 239, 255]


@pytest.mark.filterwarnings("ignore")  # torch's own, about its compiler
@pytest.mark.slow
def test_a_conditional_training_call_compiles_to_the_same() -> None:
    given = {"num_classes": 2, "local_classes": 3, "local_strides": [2]}
    model = arcore.create_model("wavenet", Levels(3, (4,)), **given)
    spans = torch.tensor([[0, 4], [1, 3], [2, 4], [0, 1]])
    compiles_to_the_same(model, torch.tensor([[0, 2, 1], [1, 0, 0], [1, 1, 2], [0, 1, 1]]), spans)


def test_what_cannot_overflow_is_not_scored_after_drawing(monkeypatch: pytest.MonkeyPatch) -> None:
    event = arcore.events.Levels(256, (4,))
    model = arcore.create_model("wavenet", event, num_blocks=3, cycle=10).eval()
    monkeypatch.setattr(model, "log_prob", None)
    model.sample(2)
    with torch.no_grad():
        model.layers[3].residual.weight.fill_(1e38)
    with pytest.raises(TypeError):
        model.sample(2)


def test_queues_of_a_coarse_model_are_no_coarser_than_its_scorer() -> None:
    exact = build(Levels(8, (40,))).float()
    coarse = copy.deepcopy(exact).bfloat16()
    x = torch.randint(8, (4, 40), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = exact.conditionals(x).logits
        scored = coarse.conditionals(x).logits.float()
        decoder, steps = coarse.decoder(4), []
        for t in range(40):
            steps.append(decoder.next().logits[:, 0].float())
            decoder.push(x[:, t : t + 1])
    assert (torch.stack(steps, 1) - expected).abs().mean() <= (scored - expected).abs().mean()
