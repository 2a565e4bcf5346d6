"""Pools of models of one schedule: the properties of a model, their weights, folders and fit."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.testing import assert_close

import arcore
from arcore import Pool, events
from arcore.coding import compress, decompress
from arcore.decoding import Decoder
from arcore.pools import fit_pool
from tests.support.cases import Case, randomize
from tests.support.dependence import influence
from tests.support.events import CUBE, NINE
from tests.support.refusals import refuses
from tests.support.statistics import all_levels, chi_square_p_value, state_of

WEIGHTS = torch.tensor([0.5, 0.4, 0.3], dtype=torch.float64)
COLOURS = events.Levels(3, (2, 1, 2))


def binary() -> Pool:
    """Networks of three families, one of them given a class."""
    members = [
        Case("pixelcnn", NINE, {"hidden": 3, "num_blocks": 1}).build(0),
        Case("diagonal_bilstm", NINE, {"hidden": 2}).build(1),
        Case("nade", NINE, {"hidden": 4, "num_classes": 2}).build(2),
    ]
    return Pool(members, WEIGHTS).eval()


def levels() -> Pool:
    """A softmax and a mixture of logistics, over the levels of two colours."""
    gated = {"width": 2, "num_layers": 1}
    members = [
        Case("gated_pixelcnn", COLOURS, gated).build(0),
        Case("gated_pixelcnn", COLOURS, gated | {"head": "logistic_mixture"}).build(1),
    ]
    return Pool(members, WEIGHTS[:2]).eval()


def blocks() -> Pool:
    """Two groups of pixels at a time."""
    grouped = {"base_size": 1, "base_width": 2, "base_layers": 1, "width": 2, "head_width": 2}
    event = events.Levels(3, (1, 2, 2))
    members = [Case("parallel_multiscale", event, grouped).build(seed) for seed in (0, 1)]
    return Pool(members, WEIGHTS[:2]).eval()


every_pool = pytest.mark.parametrize("build", [binary, levels, blocks])


def given(pool: Pool, rows: int, label: int = 1) -> Tensor | None:
    return torch.full((rows,), label) if pool.condition_kind is not None else None


@every_pool
def test_probabilities_sum_to_one(build: Callable[[], Pool]) -> None:
    pool = build()
    x = all_levels(pool.event)
    for label in (0, 1):
        total = pool.log_prob(x, given(pool, len(x), label)).exp().sum().item()
        assert total == pytest.approx(1, abs=1e-9)


@every_pool
def test_a_conditional_depends_on_earlier_blocks_alone(build: Callable[[], Pool]) -> None:
    pool = build()
    x = all_levels(pool.event)[1:40]
    found = influence(pool, x, given(pool, len(x)))
    block = torch.cat([torch.full((len(b),), i) for i, b in enumerate(pool.schedule)])
    assert not bool(found[block[:, None] <= block[None]].any())
    assert bool(found[-1, 0]), "the last must depend on the first"


@every_pool
def test_the_fast_decoder_equals_the_slow_one(build: Callable[[], Pool]) -> None:
    pool = build()
    x = all_levels(pool.event)[::5]
    condition = given(pool, len(x))
    fast = pool.decoder(len(x), condition)
    slow: Decoder = arcore.AutoregressiveModel.decoder(pool, len(x), condition)
    for block in pool.schedule:
        assert_close(fast.next().logits, slow.next().logits)
        for decoder in (fast, slow):
            decoder.push(x.flatten(1)[:, block])


@every_pool
def test_the_coder_gives_back_what_it_was_given(build: Callable[[], Pool]) -> None:
    pool = build()
    x = all_levels(pool.event)[::7]
    condition = given(pool, len(x))
    data = compress(pool, x, condition, batch=50, verify=False)
    assert torch.equal(decompress(pool, data, condition), x)


def test_multiplies_the_conditionals() -> None:
    pool, x = binary(), all_levels(NINE)[::7]
    condition = given(pool, len(x))
    pixelcnn, diagonal, nade = pool.members
    parts = [pixelcnn.conditionals(x), diagonal.conditionals(x), nade.conditionals(x, condition)]
    masses = [
        math.prod(
            part.log_prob(torch.full_like(x, v).double()).exp() ** w
            for w, part in zip(WEIGHTS, parts, strict=True)
        )
        for v in (0, 1)
    ]
    by_hand = torch.where(x == 1, masses[1], masses[0]) / (masses[0] + masses[1])
    assert_close(pool.log_prob(x, condition), by_hand.log().flatten(1).sum(1))


def test_one_member_of_weight_one_is_the_member() -> None:
    member, x = Case("made", CUBE, {"hidden": [12]}).build(), all_levels(CUBE)[::9]
    assert_close(Pool([member], torch.ones(1)).log_prob(x), member.log_prob(x))


def test_a_member_without_weight_has_no_part() -> None:
    members = [Case("nade", NINE).build(seed) for seed in (0, 1)]
    pool, x = Pool(members, torch.tensor([0.0, 1.0])), all_levels(NINE)[:9]
    assert_close(pool.log_prob(x), members[1].log_prob(x))


def test_samples_fit_the_pool(generator: torch.Generator) -> None:
    pool, n, states = binary(), 6000, all_levels(NINE)
    x = pool.sample(n, given(pool, n), generator)
    probabilities = pool.log_prob(states, given(pool, len(states))).exp().detach()
    assert chi_square_p_value(state_of(x, NINE), probabilities) > 1e-4


def test_gradients_reach_every_member() -> None:
    pool, x = binary(), all_levels(NINE)[::50]
    pool(x, given(pool, len(x))).sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in pool.parameters())


@every_pool
def test_a_folder_gives_it_back(build: Callable[[], Pool], tmp_path: Path) -> None:
    pool = build()
    x = all_levels(pool.event)[::5]
    arcore.save(pool, tmp_path / "pool")
    again = arcore.load(tmp_path / "pool")
    assert isinstance(again, Pool) and again.hyperparameters == pool.hyperparameters
    assert torch.equal(again.weights, pool.weights) and again.num_classes == pool.num_classes
    condition = given(pool, len(x))
    assert torch.equal(again.log_prob(x, condition), pool.log_prob(x, condition))


def test_a_folder_of_bad_weights_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "pool"
    arcore.save(binary(), folder)
    weights = load_file(folder / "model.safetensors")
    weights["weights"][0] = -0.1
    save_file(weights, folder / "model.safetensors")
    with pytest.raises(ValueError, match=r"model\.safetensors: weights: expected .* none negative"):
        arcore.load(folder)


@every_pool
def test_copies_of_other_types_and_devices_score_alike(build: Callable[[], Pool]) -> None:
    pool = build()
    x = all_levels(pool.event)[::5]
    condition, reference = given(pool, len(x)), pool.log_prob(x, given(pool, len(x)))
    assert torch.equal(copy.deepcopy(pool).log_prob(x, condition), reference)
    with torch.device("meta"):
        fields = pool.hyperparameters.to_dict()
        empty = arcore.create_model("pool", pool.event, **fields).double().to_empty(device="cpu")
    empty.load_state_dict(pool.state_dict())
    assert torch.equal(empty.eval().log_prob(x, condition), reference)
    for dtype, error in ((torch.float32, 1e-4), (torch.bfloat16, 0.3)):
        other = copy.deepcopy(pool).to(dtype).log_prob(x, condition).double()
        assert_close(other, reference, atol=error, rtol=0)


def test_other_orderings_are_found_when_they_are_known() -> None:
    members = [{"name": "nade", "ordering": ordering} for ordering in ("raster", "reverse")]
    with torch.device("meta"):
        pool = arcore.create_model("pool", NINE, members=members)
    with pytest.raises(ValueError, match="members: expected models of one schedule"):
        pool.to_empty(device="cpu")


def test_the_coder_leaves_members_in_their_mode() -> None:
    pool = Pool([Case("made", NINE, {"hidden": [9], "dropout": 0.5}).build().eval()])
    assert pool.training and not pool.members[0].training
    compress(pool, all_levels(NINE)[:3], verify=False)
    assert pool.training and not pool.members[0].training


@every_pool
def test_completes_what_is_observed_first(build: Callable[[], Pool]) -> None:
    pool = build()
    x = all_levels(pool.event)[::9]
    observed = torch.zeros(pool.event.size, dtype=torch.bool)
    observed[pool.schedule[0]] = True
    observed = observed.view(pool.event.shape).expand(len(x), *pool.event.shape)
    drawn = pool.impute(x, observed, given(pool, len(x)), torch.Generator().manual_seed(0))
    assert torch.equal(drawn[observed], x[observed]) and not torch.equal(drawn, x)


def test_what_is_said_of_the_members() -> None:
    assert blocks().num_evaluations == 2 * blocks().members[0].num_evaluations
    assert binary().num_evaluations is None and binary().receptive_field is None
    sounds = events.Levels(4, (6,))
    waves = [arcore.create_model("wavenet", sounds, num_blocks=1, cycle=c) for c in (1, 2)]
    fields = [wave.receptive_field for wave in waves]
    assert Pool(waves).receptive_field == max(fields) > min(fields)


# -- the fit


def test_fit_finds_the_weights_of_a_known_source(generator: torch.Generator) -> None:
    logits = 2 * torch.randn(60_000, 4, 3, generator=generator, dtype=torch.float64)
    true = torch.tensor([0.6, 0.0, 0.9], dtype=torch.float64)
    x = torch.multinomial(torch.softmax(logits @ true, -1), 1, generator=generator)[:, 0]
    parts = list(zip(logits.split(7000), x.split(7000), strict=True))
    weights, nats = fit_pool(parts)
    assert_close(weights, true, atol=0.02, rtol=0)
    assert all(after <= before for before, after in zip(nats, nats[1:], strict=False))


@every_pool
def test_fit_is_no_worse_than_other_weights(build: Callable[[], Pool]) -> None:
    pool, source = build(), build()
    generator = torch.Generator().manual_seed(0)
    x = source.sample(200, given(source, 200), generator)
    condition = given(pool, len(x))
    weights, nats = fit_pool([(pool.member_logits(x, condition), x)])
    fitted = Pool(pool.members, weights)
    best = -fitted.log_prob(x, condition).mean().item()
    assert best == pytest.approx(nats[-1] * pool.event.size, abs=1e-9)
    assert bool((weights >= 0).all())
    for _ in range(40):
        other = weights + 0.3 * torch.randn(len(weights), generator=generator, dtype=torch.float64)
        worse = Pool(pool.members, other.clamp_min(0))
        assert best <= -worse.log_prob(x, condition).mean().item() + 1e-9


def test_fit_of_a_member_named_twice() -> None:
    logits = torch.randn(500, 2, 1, generator=torch.Generator().manual_seed(0)).repeat(1, 1, 2)
    x = torch.ones(500)
    x[:100] = 0
    (once, nats), (twice, same) = (fit_pool([(logits[..., :n], x)]) for n in (1, 2))
    assert float(twice.sum()) == pytest.approx(float(once), rel=1e-3)
    assert same[-1] == pytest.approx(nats[-1], abs=1e-8)


def test_weights_of_members_that_say_nothing_stay() -> None:
    logits = torch.randn(500, 3, 2, generator=torch.Generator().manual_seed(0))
    logits[..., 1] = 1e6
    weights, _ = fit_pool([(logits, torch.zeros(500))])
    assert float(weights[1]) == pytest.approx(0.5, abs=1e-6)
    weights, nats = fit_pool([(torch.zeros(5, 3, 2), torch.zeros(5))])
    assert weights.tolist() == [0.5, 0.5] and nats[-1] == pytest.approx(math.log(3))


NADE = Case("nade", NINE).build()
REALS = arcore.create_model("rnade", events.Real((3,)))
BOUND = arcore.create_model("pixelvae", events.Binary((1, 4, 4))).double()
WAVES = arcore.create_model("wavenet", events.Levels(4, (None,)))
LOGITS = torch.zeros(5, 2, 1)
BAD: list[tuple[Callable[[], object], list[str]]] = [
    (lambda: Pool([]), ["members", "at least one", "[]"]),
    (lambda: Pool([BOUND]), ["members", "exact", "PixelVAE"]),
    (lambda: Pool([REALS]), ["members", "models over levels", "Real"]),
    (lambda: Pool([WAVES]), ["members", "one length", "None"]),
    (
        lambda: Pool([NADE, Case("nade", NINE, {"ordering": "reverse"}).build()]),
        ["members", "one schedule", "reverse"],
    ),
    (lambda: Pool([NADE, Case("nade", events.Binary((9,))).build()]), ["members", "(9,)"]),
    (lambda: Pool([NADE], torch.ones(2)), ["weights", "(1,)", "[2]"]),
    (lambda: Pool([NADE], torch.tensor([-0.5])), ["weights", "none negative", "-0.5"]),
    (lambda: Pool([NADE], torch.tensor([math.inf])), ["weights", "finite", "inf"]),
    (lambda: arcore.create_model("pool", NINE), ["members", "at least one"]),
    (
        lambda: arcore.create_model("pool", NINE, members=[{"name": "mixture"}]),
        ["members", "another kind", "mixture"],
    ),
    (
        lambda: arcore.create_model("pool", NINE, members=[{"name": "made", "num_members": 2}]),
        ["num_members", "1 for each", "[2]"],
    ),
    (lambda: fit_pool([]), ["batches", "at least one", "0"]),
    (lambda: fit_pool([(LOGITS, torch.zeros(4))]), ["batches", "(5, 2, 1)", "(4,)"]),
    (lambda: fit_pool([(LOGITS + math.inf, torch.zeros(5))]), ["batches", "finite"]),
]


@pytest.mark.parametrize(("call", "parts"), BAD)
def test_bad_arguments_are_named(call: Callable[[], object], parts: list[str]) -> None:
    refuses(call, parts)


def test_weights_that_overflow_draw_nothing() -> None:
    event = events.Levels(3, (2,))
    members = [randomize(arcore.create_model(name, event)) for name in ("nade", "made")]
    pool = Pool(members, torch.tensor([3e38, 3e38]))
    with pytest.raises(ValueError, match="weights: expected those whose probabilities are numbers"):
        pool.sample(3)


def test_a_batch_of_no_rows_is_refused_by_a_fit() -> None:
    with pytest.raises(ValueError, match="batches: expected a row at least in each"):
        fit_pool([(torch.zeros(0, 2, 3), torch.zeros(0))])


def test_members_draw_in_the_precision_in_which_they_score() -> None:
    """Under autocast NADE does neither in bfloat16."""
    events_of_64 = events.Binary((64,))
    pool = Pool([Case("nade", events_of_64, {"hidden": 32}).build(seed).float() for seed in (0, 1)])
    drawn = []
    for enabled in (False, True):
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            drawn.append(pool.sample(64, generator=torch.Generator().manual_seed(0)))
    assert torch.equal(*drawn)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_bits_of_half_precision_have_probabilities(dtype: torch.dtype) -> None:
    """Logits of two members lie between the numbers of their type, and ln p is a difference."""
    members = [arcore.create_model("nade", events.Binary((1,)), hidden=1) for _ in range(2)]
    for member, logit in zip(members, (-10.0625, -10.125), strict=True):
        for weight in member.parameters():
            weight.data.zero_()
        member.output_bias.data.fill_(logit)
    pool = Pool([member.to(dtype) for member in members])
    nought, one = pool.log_prob(torch.tensor([[0], [1]])).double()
    assert nought.item() == pytest.approx(-math.log1p(math.exp(-10.09375)), abs=1e-6)
    assert (nought.exp() + one.exp()).item() == pytest.approx(1, abs=1e-6)
