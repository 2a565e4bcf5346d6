"""Ensembles, weighted mixtures and pools: what they share, their formulas, folders and fits."""

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
from arcore import Ensemble, Mixture, Pool, Transformed, events
from arcore.coding import compress, decompress
from arcore.decoding import Decoder
from arcore.ensembles import Combination
from arcore.mixtures import fit_weights
from arcore.pools import fit_pool
from tests.support.cases import Case, randomize
from tests.support.dependence import influence
from tests.support.events import CUBE, NINE
from tests.support.refusals import refuses
from tests.support.statistics import all_levels, chi_square_p_value, state_of

WEIGHTS = torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64)
COLOURS = events.Levels(3, (2, 1, 2))
AGNOSTIC = {"hidden": [12], "order_agnostic": True}


def made(members: int, event: events.Levels = NINE, **hyperparameters: object) -> Ensemble:
    return Case("made", event, hyperparameters).build().ensemble(members)


def orders_of_nade() -> Ensemble:
    names = ("raster", "reverse", "spiral")
    cases = [Case("nade", NINE, {"hidden": 6, "ordering": name}) for name in names]
    return Ensemble(case.build(seed) for seed, case in enumerate(cases))


def mixture() -> Mixture:
    members = [
        Case("pixelcnn", NINE, {"hidden": 3, "num_blocks": 1}).build(0),
        Case("made", NINE, {"hidden": [12], "num_masks": 3}).build(1),
        Case("nade", NINE, {"hidden": 4, "num_classes": 2}).build(2),
    ]
    return Mixture(members, WEIGHTS, [1, None, 1])


def symmetric() -> Mixture:
    weights, names = torch.arange(1, 7) / 21.0, ["identity", "mirror", "rotate_90"]
    return Mixture(list(mixture().members)[:2], weights.double(), [1, None], names)


def pool() -> Pool:
    members = [
        Case("pixelcnn", NINE, {"hidden": 3, "num_blocks": 1}).build(0),
        Case("diagonal_bilstm", NINE, {"hidden": 2}).build(1),
        Case("nade", NINE, {"hidden": 4, "num_classes": 2}).build(2),
    ]
    return Pool(members, WEIGHTS)


def pool_of_colours() -> Pool:
    gated = {"width": 2, "num_layers": 1}
    members = [
        Case("gated_pixelcnn", COLOURS, gated).build(0),
        Case("gated_pixelcnn", COLOURS, gated | {"head": "logistic_mixture"}).build(1),
    ]
    return Pool(members, WEIGHTS[:2])


def pool_of_blocks() -> Pool:
    """Two groups of pixels at a time."""
    grouped = {"base_size": 1, "base_width": 2, "base_layers": 1, "width": 2, "head_width": 2}
    event = events.Levels(3, (1, 2, 2))
    members = [Case("parallel_multiscale", event, grouped).build(seed) for seed in (0, 1)]
    return Pool(members, WEIGHTS[:2])


ENSEMBLES: dict[str, Callable[[], Combination]] = {
    "masks": lambda: made(3, hidden=[12], num_masks=3),
    "fresh": lambda: made(5, num_masks=0, **AGNOSTIC),
    "classes": lambda: made(2, CUBE, num_masks=2, **AGNOSTIC, num_classes=2, inputs="one_hot"),
    "nested": lambda: Ensemble([orders_of_nade(), Case("nade", NINE, {"hidden": 4}).build()]),
}
POOLS: dict[str, Callable[[], Combination]] = {
    "pool": pool, "colours": pool_of_colours, "blocks": pool_of_blocks,
    "turned": lambda: Transformed(pool(), "rotate_90"),
}  # fmt: skip
ALL = {**ENSEMBLES, "mixture": mixture, "symmetric": symmetric, **POOLS}
every = pytest.mark.parametrize("build", ALL.values(), ids=ALL)
every_ensemble = pytest.mark.parametrize("build", ENSEMBLES.values(), ids=ENSEMBLES)
every_pool = pytest.mark.parametrize("build", POOLS.values(), ids=POOLS)
SAVED = [mixture, symmetric, pool, pool_of_colours, pool_of_blocks]
every_saved = pytest.mark.parametrize("build", SAVED)


def given(model: Combination, rows: int, label: int = 1) -> Tensor | None:
    return None if model.num_classes is None else torch.full((rows,), label)


# -- what all share


@every
def test_probabilities_sum_to_one(build: Callable[[], Combination]) -> None:
    model = build().eval()
    x = all_levels(model.event)
    for label in range(model.num_classes or 1):
        total = model.log_prob(x, given(model, len(x), label)).exp().sum().item()
        assert total == pytest.approx(1, abs=1e-9)


@every
def test_samples_fit_and_are_a_function_of_the_generator(build: Callable[[], Combination]) -> None:
    model, n = build().eval(), 6000
    states, seed = all_levels(model.event), torch.Generator().manual_seed
    x = model.sample(n, given(model, n), seed(0))
    assert x.shape == (n, *model.event.shape) and x.dtype == torch.int64
    probabilities = model.log_prob(states, given(model, len(states))).exp().detach()
    assert chi_square_p_value(state_of(x, model.event), probabilities) > 1e-4
    twenty, again, other = (model.sample(20, given(model, 20), seed(s)) for s in (1, 1, 2))
    assert torch.equal(twenty, again) and not torch.equal(twenty, other)


@every
def test_impute_keeps_observed_values(build: Callable[[], Combination]) -> None:
    model, generator = build().eval(), torch.Generator().manual_seed(0)
    x = all_levels(model.event)[::9]
    observed = torch.rand(model.event.shape, generator=generator) < 0.5
    completed = model.impute(x, observed, given(model, len(x)), generator)
    assert torch.equal(completed[:, observed], x[:, observed])
    assert not torch.equal(completed, x)
    assert model.impute(x[:0], observed, given(model, 0)).shape == x[:0].shape


@every
def test_gradients_reach_every_member(build: Callable[[], Combination]) -> None:
    model = build()
    x = all_levels(model.event)[::30]
    model(x, given(model, len(x))).mean().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


@every_saved
def test_a_folder_gives_it_back(build: Callable[[], Combination], tmp_path: Path) -> None:
    model = build().eval()
    x = all_levels(model.event)[::5]
    arcore.save(model, tmp_path / "model")
    again = arcore.load(tmp_path / "model")
    assert type(again) is type(model) and again.hyperparameters == model.hyperparameters
    assert torch.equal(again.weights, model.weights) and again.num_classes == model.num_classes
    condition = given(model, len(x))
    assert torch.equal(again.log_prob(x, condition), model.log_prob(x, condition))


def test_a_member_may_be_named_twice(tmp_path: Path) -> None:
    member, x = Case("pixelcnn", NINE, {"hidden": 3}).build(), all_levels(NINE)[:9]
    arcore.save(Mixture([member, member]), tmp_path / "twice")
    assert_close(arcore.load(tmp_path / "twice").log_prob(x), member.log_prob(x))


@pytest.mark.parametrize(
    ("build", "weights", "wanted"),
    [
        (mixture, [0.6, 0.6, -0.2], "of sum 1"),
        (mixture, [0.5, 0.3, 0.1], "of sum 1"),
        (pool, [-0.1, 0.3, 0.1], "none negative"),
    ],
)
def test_a_folder_of_bad_weights_is_refused(
    build: Callable[[], Combination], weights: list[float], wanted: str, tmp_path: Path
) -> None:
    arcore.save(build(), tmp_path / "model")
    path = tmp_path / "model" / "model.safetensors"
    save_file(load_file(path) | {"weights": torch.tensor(weights, dtype=torch.float64)}, path)
    with pytest.raises(ValueError, match=rf"model\.safetensors: weights: expected .*{wanted}"):
        arcore.load(tmp_path / "model")


@pytest.mark.parametrize("combine", [Mixture, Pool])
def test_a_member_without_weight_has_no_part(combine: type[Combination]) -> None:
    members = [Case("nade", NINE).build(seed) for seed in (0, 1)]
    model, x = combine(members, torch.tensor([0.0, 1.0])), all_levels(NINE)[:9]
    assert_close(model.log_prob(x), members[1].log_prob(x))


# -- ensembles


@every_ensemble
def test_an_ensemble_averages_probabilities_per_example(build: Callable[[], Ensemble]) -> None:
    ensemble = build()
    x = all_levels(ensemble.event)[::7]
    condition = given(ensemble, len(x))
    scores = [member.log_prob(x, condition) for member in ensemble.members]
    by_hand = (sum(score.exp() for score in scores) / len(scores)).log()
    assert_close(ensemble.log_prob(x, condition), by_hand, rtol=1e-9, atol=1e-9)
    assert_close(ensemble(x, condition), -by_hand, rtol=1e-9, atol=1e-9)


def test_underflowing_members_average_in_the_log_domain() -> None:
    event = events.Levels(256, (500,))
    members = [
        arcore.create_model("nade", event, hidden=2, ordering=o) for o in ("raster", "reverse")
    ]
    model = Ensemble(members).double()
    for parameter in model.parameters():
        parameter.data.zero_()
    score = model.log_prob(torch.zeros(1, 500)).item()
    assert score == pytest.approx(-500 * math.log(256), rel=1e-12)  # exp(-2772) is 0 in float64


def test_what_needs_a_common_schedule_is_refused_with_the_reason() -> None:
    model = orders_of_nade()
    x = torch.zeros(2, 1, 3, 3)
    for call in (lambda: model.decoder(2), lambda: model.schedule, lambda: model.conditionals(x)):
        with pytest.raises(ValueError, match="ensemble of 3 members has no schedule in common"):
            call()


def test_members_share_weights_with_their_model_in_training_and_copies() -> None:
    base = Case("made", NINE, {"num_masks": 4, **AGNOSTIC}).build()
    model, x = base.ensemble(3), all_levels(NINE)[:50]
    before = [member.log_prob(x) for member in model.members]
    base.set_step(seed=0, step=3)
    base(x).mean().backward()
    torch.optim.SGD(base.parameters(), lr=0.1).step()
    for member, score in zip(model.members, before, strict=True):
        assert not torch.equal(member.log_prob(x), score)
    twin, expected = copy.deepcopy(model), model.log_prob(x)
    for one in (model, twin):
        assert len(list(one.parameters())) == len(list(base.parameters()))
    randomize(base, seed=1)
    assert torch.equal(twin.log_prob(x), expected)


def test_an_ensemble_in_evaluation_leaves_its_model_in_training() -> None:
    for name in ("deep_nade", "conv_nade", "made"):
        masks = {"num_masks": 2} if name == "made" else {}
        model = arcore.create_model(name, NINE, dropout=0.5, **masks).train()
        model.ensemble(2).eval()
        assert all(module.training for module in model.modules()), name


# -- sequences


def wavenets(length: int | None, **condition: object) -> list[arcore.AutoregressiveModel]:
    given = {"num_blocks": 1, **condition}
    event = events.Levels(4, (length,))
    made = [arcore.create_model("wavenet", event, cycle=cycle, **given) for cycle in (1, 2)]
    return [randomize(model.double(), seed) for seed, model in enumerate(made)]


@pytest.mark.parametrize("combine", [Ensemble, Mixture])
def test_sequences_of_any_length_are_what_their_members_say(combine: type[Ensemble]) -> None:
    members = wavenets(None, num_classes=2, local_classes=3, local_strides=[2])
    many = combine(members)
    for name in ("condition_kind", "num_classes", "num_symbols", "hop"):
        assert getattr(many, name) == getattr(members[0], name)
    x, condition = torch.tensor([[0, 3, 1, 2]]), torch.tensor([[1, 2, 0]])
    scores = torch.stack([member.log_prob(x, condition) for member in members])
    assert_close(many.log_prob(x, condition), scores.logsumexp(0) - math.log(2))
    short = many.of_length(4)
    assert_close(short.log_prob(x, condition), many.log_prob(x, condition))
    assert short.sample(1, condition).shape == (1, 4)


@pytest.mark.parametrize("combine", [Mixture, Ensemble])
def test_parts_of_sequences_add_up(combine: type[Ensemble]) -> None:
    """Each given all before it, which weighs the members again; rows are padded at their ends."""
    members = wavenets(None)
    model, x = combine(members), torch.tensor([[0, 3, 1, 2], [2, 2, 0, 0]])
    lengths, cuts = torch.tensor([[0, 4], [0, 2]]), torch.tensor([[3], [1]])
    whole = torch.cat([model.log_prob(x[:1]), model.log_prob(x[1:, :2])])
    assert_close(model.log_prob(x, None, lengths), whole)
    first, rest = (torch.cat(pair, 1) for pair in ((lengths[:, :1], cuts), (cuts, lengths[:, 1:])))
    parts = [model.log_prob(x, None, spans) for spans in (first, rest)]
    assert_close(sum(parts), whole)
    each = torch.stack([member.log_prob(x, None, rest) for member in members], 1)
    apart = each.logsumexp(1) - math.log(2)
    assert not torch.allclose(parts[1], apart), "the first part tells which member is likely"


# -- mixtures


def test_a_mixture_adds_up_weighted_probabilities() -> None:
    model, x = mixture().eval(), all_levels(NINE)[::7]
    condition = given(model, len(x))
    pixelcnn, masked, nade = model.members
    parts = [pixelcnn.log_prob(x), masked.ensemble(3).log_prob(x), nade.log_prob(x, condition)]
    by_hand = sum(w * part.exp() for w, part in zip(WEIGHTS, parts, strict=True)).log()
    assert_close(model.log_prob(x, condition), by_hand)
    assert_close(model.member_log_probs(x, condition), by_hand[:, None])
    views, many = (x, x.flip(-1), x.rot90(1, (-2, -1))), symmetric().eval()
    parts = [q.log_prob(view) for q in (pixelcnn, masked.ensemble(3)) for view in views]
    by_hand = sum(w * part.exp() for w, part in zip(many.weights, parts, strict=True)).log()
    assert_close(many.log_prob(x), by_hand)


def test_a_member_with_latents_makes_a_bound(tmp_path, generator, monkeypatch) -> None:
    event, n = events.Binary((1, 2, 2)), 4_000
    torch.manual_seed(0)
    vae = arcore.create_model("pixelvae", event, width=4, num_layers=1, latent_size=2).double()
    with torch.no_grad():
        vae.infer.bias += 0.3  # a posterior that is not the prior
    members = [vae.eval(), Case("nade", event, {"hidden": 4}).build(1)]
    model = Mixture(members, torch.tensor([0.7, 0.3])).eval()
    x = torch.tensor([0, 1, 1, 0]).view(1, *event.shape).expand(n, *event.shape)
    assert torch.equal(model.log_prob(x[:3]), model.log_prob(x[:3])), "under fixed noise"
    arcore.save(model, tmp_path / "both")
    assert_close(arcore.load(tmp_path / "both").log_prob(x[:3]), model.log_prob(x[:3]))
    with pytest.raises(ValueError, match="expected an exact model or one with latents"):
        model.importance_weighted(x[:1], 2)
    assert not model.exact and model.sample(5).shape == (5, *event.shape)

    truth = vae.importance_weighted(x[:1], 10 * n, generator=generator)
    joint = [truth + math.log(0.7), members[1].log_prob(x[:1]) + math.log(0.3)]
    exact = torch.stack(joint).logsumexp(0).item()
    monkeypatch.setattr(vae, "_fixed_noise", lambda rows: vae._noise(len(rows), generator))
    with torch.no_grad():
        weights, mixed = vae._log_estimate(x, None).exp(), model.log_prob(x)
    error = float(weights.std()) / math.sqrt(n)
    assert 0 < error and abs(float(weights.mean() - truth.exp())) < 5 * error
    assert exact - 1 < float(mixed.mean()) < exact + 5 * float(mixed.std()) / math.sqrt(n)


def test_fit_finds_the_weights_of_known_sources() -> None:
    generator = torch.Generator().manual_seed(0)
    densities = torch.tensor([[0.7, 0.1], [0.2, 0.3], [0.1, 0.6]], dtype=torch.float64)
    true = torch.tensor([0.35, 0.65], dtype=torch.float64)
    rows = torch.multinomial(densities @ true, 200_000, True, generator=generator)
    weights, nats = fit_weights(densities.log()[rows], tolerance=1e-12)
    assert_close(weights, true, atol=0.01, rtol=0)
    assert all(after <= before + 1e-12 for before, after in zip(nats, nats[1:], strict=False))
    weights, nats = fit_weights(densities.log()[rows], tolerance=0, max_iterations=5)
    joint = densities.log()[rows] + weights.log()
    assert len(nats) == 6 and nats[-1] == pytest.approx(-float(joint.logsumexp(1).mean()))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_weights_of_half_precision_add_up(dtype: torch.dtype, tmp_path: Path) -> None:
    members = [Case("nade", NINE, {"hidden": 4}).build(seed) for seed in range(3)]
    half, x = Mixture(members).to(dtype), all_levels(NINE)
    assert float(half.weights.double().sum()) != 1
    each = torch.stack([member.log_prob(x) for member in members], 1).double()
    assert_close(half.log_prob(x).double(), each.logsumexp(1) - math.log(3), rtol=0.01, atol=0.01)
    arcore.save(half, tmp_path / "half")
    assert torch.equal(arcore.load(tmp_path / "half").weights, half.weights)


# -- pools


@every_pool
def test_a_conditional_depends_on_earlier_blocks_alone(build: Callable[[], Combination]) -> None:
    model = build()
    x = all_levels(model.event)[1:40]
    found = influence(model, x, given(model, len(x)))
    block = torch.cat([torch.full((len(b),), i) for i, b in enumerate(model.schedule)])
    assert not bool(found[block[:, None] <= block[None]].any())
    assert bool(found[-1, 0]), "the last must depend on the first"


@every_pool
def test_a_pool_decodes_and_codes_as_it_scores(build: Callable[[], Combination]) -> None:
    model = build().eval()
    x = all_levels(model.event)[::7]
    condition = given(model, len(x))
    fast = model.decoder(len(x), condition)
    slow: Decoder = arcore.AutoregressiveModel.decoder(model, len(x), condition)
    for block in model.schedule:
        assert_close(fast.next().logits, slow.next().logits)
        for decoder in (fast, slow):
            decoder.push(x.flatten(1)[:, block])
    data = compress(model, x, condition, batch=50, verify=False)
    assert torch.equal(decompress(model, data, condition), x)


def test_a_pool_multiplies_the_conditionals() -> None:
    model, x = pool(), all_levels(NINE)[::7]
    condition = given(model, len(x))
    pixelcnn, diagonal, nade = model.members
    parts = [pixelcnn.conditionals(x), diagonal.conditionals(x), nade.conditionals(x, condition)]
    masses = [
        math.prod(
            part.log_prob(torch.full_like(x, v).double()).exp() ** w
            for w, part in zip(WEIGHTS, parts, strict=True)
        )
        for v in (0, 1)
    ]
    by_hand = torch.where(x == 1, masses[1], masses[0]) / (masses[0] + masses[1])
    assert_close(model.log_prob(x, condition), by_hand.log().flatten(1).sum(1))


@every_pool
def test_copies_of_other_types_and_devices_score_alike(build: Callable[[], Combination]) -> None:
    model = build()
    x = all_levels(model.event)[::5]
    condition, reference = given(model, len(x)), model.log_prob(x, given(model, len(x)))
    empty = copy.deepcopy(model).to("meta").to_empty(device="cpu")
    empty.load_state_dict(model.state_dict())
    assert torch.equal(empty.eval().log_prob(x, condition), reference)
    other = copy.deepcopy(model).float().log_prob(x, condition).double()
    assert_close(other, reference, atol=1e-4, rtol=0)


def test_other_orderings_are_found_when_they_are_known() -> None:
    members = [{"name": "nade", "ordering": ordering} for ordering in ("raster", "reverse")]
    with torch.device("meta"):
        model = arcore.create_model("pool", NINE, members=members)
    with pytest.raises(ValueError, match="members: expected models of one schedule"):
        model.to_empty(device="cpu")


def test_the_coder_leaves_members_in_their_mode() -> None:
    model = Pool([Case("made", NINE, {"hidden": [9], "dropout": 0.5}).build().eval()])
    compress(model, all_levels(NINE)[:3], verify=False)
    assert model.training and not model.members[0].training


def test_what_is_said_of_the_members() -> None:
    blocks = pool_of_blocks()
    assert blocks.num_evaluations == 2 * blocks.members[0].num_evaluations
    assert pool().num_evaluations is None and pool().receptive_field is None
    fields = [wave.receptive_field for wave in wavenets(6)]
    assert Pool(wavenets(6)).receptive_field == max(fields) > min(fields)


def test_conditionals_of_turned_reals_are_in_their_places() -> None:
    model = Transformed(Case("rnade", events.Real((1, 3, 3)), {"hidden": 3}).build(), "rotate_270")
    x = torch.randn(2, 1, 3, 3, dtype=torch.float64)
    assert_close(model.conditionals(x).log_prob(x).sum((1, 2, 3)), model.log_prob(x))


def test_fit_finds_the_weights_of_a_known_source(generator: torch.Generator) -> None:
    logits = 2 * torch.randn(60_000, 4, 3, generator=generator, dtype=torch.float64)
    true = torch.tensor([0.6, 0.0, 0.9], dtype=torch.float64)
    x = torch.multinomial(torch.softmax(logits @ true, -1), 1, generator=generator)[:, 0]
    weights, nats = fit_pool(list(zip(logits.split(7000), x.split(7000), strict=True)))
    assert_close(weights, true, atol=0.02, rtol=0)
    assert all(after <= before for before, after in zip(nats, nats[1:], strict=False))


def test_weights_of_members_that_say_nothing_stay() -> None:
    logits = torch.randn(500, 256, 2, generator=torch.Generator().manual_seed(0))
    logits[..., 1] = 1e6
    weights, _ = fit_pool([(logits, torch.zeros(500, dtype=torch.uint8))])
    assert float(weights[1]) == pytest.approx(0.5, abs=1e-6)


def test_weights_that_overflow_draw_nothing() -> None:
    event = events.Levels(3, (2,))
    members = [randomize(arcore.create_model(name, event)) for name in ("nade", "made")]
    model = Pool(members, torch.tensor([3e38, 3e38]))
    with pytest.raises(ValueError, match="weights: expected those whose probabilities are numbers"):
        model.sample(3)


def test_members_draw_in_the_precision_in_which_they_score() -> None:
    """Under autocast NADE does neither in bfloat16."""
    nades = [Case("nade", events.Binary((64,)), {"hidden": 32}).build(s).float() for s in (0, 1)]
    model, drawn = Pool(nades), []
    for enabled in (False, True):
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            drawn.append(model.sample(64, generator=torch.Generator().manual_seed(0)))
    assert torch.equal(*drawn)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_bits_of_half_precision_have_probabilities(dtype: torch.dtype) -> None:
    """Logits of two members lie between the numbers of their type, and ln p is a difference."""
    members = [arcore.create_model("nade", events.Binary((1,)), hidden=1) for _ in range(2)]
    for member, logit in zip(members, (-10.0625, -10.125), strict=True):
        for weight in member.parameters():
            weight.data.zero_()
        member.output_bias.data.fill_(logit)
    nought, one = Pool([m.to(dtype) for m in members]).log_prob(torch.tensor([[0], [1]])).double()
    assert nought.item() == pytest.approx(-math.log1p(math.exp(-10.09375)), abs=1e-6)
    assert (nought.exp() + one.exp()).item() == pytest.approx(1, abs=1e-6)


# -- bad arguments


def nade(event: object = NINE, **hyperparameters: object) -> arcore.AutoregressiveModel:
    return arcore.create_model("nade", event, **hyperparameters)


def of_frames(strides: list[int]) -> arcore.AutoregressiveModel:
    event = events.Levels(256, (None,))
    return arcore.create_model("wavenet", event, width=2, local_classes=10, local_strides=strides)


PAIR = [nade(), nade(ordering="reverse")]
BOUND = arcore.create_model("pixelvae", events.Binary((1, 4, 4)))
REALS = arcore.create_model("rnade", events.Real((3,)))
OPEN = arcore.create_model("wavenet", events.Levels(4, (None,)))
VECTOR = arcore.create_model("made", events.Binary((4,)))
X = torch.zeros(2, 1, 3, 3)
LOGITS = torch.zeros(5, 2, 1)
BAD_MEMBERS = [
    ([], ["members", "at least one", "[]"]),
    (None, ["members", "models", "None"]),
    ([1], ["members", "models", "1"]),
    ([nade(), nade(events.Binary((9,)))], ["members", "(1, 3, 3)", "(9,)"]),
    ([nade(num_classes=2), nade(num_classes=3)], ["members", "num_classes=2", "num_classes=3"]),
    ([nade(), nade().double()], ["members", "torch.float32", "torch.float64"]),
    ([nade(), nade().to("meta")], ["members", "cpu", "meta"]),
    ("gray", ["members", "likelihoods", "VideoPixelBaseline"]),
    ([of_frames([8, 8]), of_frames([4, 4])], ["members", "64)", "16)"]),
]


@pytest.mark.parametrize(("members", "parts"), BAD_MEMBERS)
@pytest.mark.parametrize("combine", [Ensemble, Mixture, Pool])
def test_bad_members_are_named(combine: type[Combination], members: object, parts: list) -> None:
    if members == "gray":  # made here, since it imports torch's compiler
        members = [arcore.create_model("video_pixel_baseline", events.Gray((2, 1, 4, 4)))] * 2
    refuses(lambda: combine(members), parts)


def create(name: str, **hyperparameters: object) -> arcore.AutoregressiveModel:
    return arcore.create_model(name, NINE, **hyperparameters)


BAD = [
    (lambda: Ensemble([nade(num_classes=2), nade()]), ["members", "num_classes=2", "None"]),
    (lambda: Ensemble(PAIR).sample(0), ["n", ">= 1", "0"]),
    (lambda: Ensemble(PAIR).sample(2, generator=0), ["generator", "torch.Generator on cpu", "0"]),
    (lambda: Ensemble(PAIR).log_prob(X + 2), ["x", "[0, 2)", "[2, 2]"]),
    (lambda: Ensemble(PAIR).impute(X, X.long()), ["observed", "bool", "int64"]),
    (lambda: Ensemble(PAIR).impute(X[:0], X[:0].bool(), temperature=0), ["temperature", "> 0"]),
    (lambda: create("made").ensemble(0), ["num_members", ">= 1", "0"]),
    (lambda: create("made").ensemble(2), ["num_members", "at most 1", "2"]),
    (lambda: Mixture(PAIR, torch.tensor([1.0])), ["weights", "(2,)", "[1]"]),
    (lambda: Mixture(PAIR, torch.tensor([1.5, -0.5])), ["weights", "none negative", "-0.5"]),
    (lambda: Mixture(PAIR, torch.tensor([0.5, math.nan])), ["weights", "of sum 1", "nan"]),
    (lambda: Mixture(PAIR, torch.tensor([1, 0])), ["weights", "floating point", "int64"]),
    (lambda: Mixture(PAIR, torch.ones(2, device="meta")), ["weights", "a dense tensor", "meta"]),
    (lambda: Pool(PAIR[:1], torch.ones(1).to_sparse()), ["weights", "a dense tensor", "sparse"]),
    (lambda: Mixture(PAIR, num_members=3), ["num_members", "a number for each member", "3"]),
    (lambda: Mixture(PAIR, num_members=[1, 2]), ["num_members", "at most 1", "2"]),
    (lambda: Mixture(PAIR, symmetries="mirror"), ["symmetries", "different ones", "mirror"]),
    (lambda: Transformed(OPEN, "identity"), ["model", "fixed shape"]),
    (lambda: Transformed(None, "mirror"), ["model", "fixed shape", "None"]),
    (lambda: Transformed(VECTOR, "mirror"), ["symmetries", "no image", "mirror"]),
    (lambda: Transformed(create("made"), ["flip"]), ["symmetry", "rotate_90", "['flip']"]),
    (lambda: Transformed(nade(COLOURS), "transpose"), ["symmetries", "no quarter", "transpose"]),
    (lambda: create("pool", symmetries=["flip"]), ["symmetries", "one order", "flip"]),
    (lambda: create("mixture", members=5), ["members", "a list", "5"]),
    (lambda: create("mixture", members=[{}]), ["members", "a name", "{}"]),
    (lambda: create("mixture", members=[{"name": "nade", "event": 1}]), ["members", "'event': 1"]),
    (lambda: create("mixture", members=[{"name": "mixture"}]), ["members", "another kind"]),
    (lambda: fit_weights(torch.tensor([[-math.inf, 0.0]])), ["log_probs", "finite", "(1, 2)"]),
    (lambda: Pool([BOUND]), ["members", "exact", "PixelVAE"]),
    (lambda: Pool([REALS]), ["members", "models over levels", "Real"]),
    (lambda: Pool([OPEN]), ["members", "one length", "None"]),
    (lambda: Pool(PAIR), ["members", "one schedule", "reverse"]),
    (lambda: Pool(PAIR[:1], torch.ones(2)), ["weights", "(1,)", "[2]"]),
    (lambda: Pool(PAIR[:1], torch.tensor([1e39]).double()), ["weights", "finite", "inf"]),
    (lambda: create("pool", members=[{"name": "made", "num_members": 2}]), ["num_members", "1"]),
    (lambda: fit_pool([]), ["batches", "at least one", "0"]),
    (lambda: fit_pool([(LOGITS, torch.zeros(4))]), ["batches", "(5, 2, 1)", "(4,)"]),
    (lambda: fit_pool([(LOGITS, torch.full((5,), 0.5))]), ["batches", "levels in [0, 2)"]),
    (lambda: fit_pool([(LOGITS + math.inf, torch.zeros(5))]), ["batches", "finite"]),
    (lambda: fit_pool([(torch.zeros(0, 2, 3), torch.zeros(0))]), ["batches", "a row at least"]),
]  # fmt: skip


@pytest.mark.parametrize(("call", "parts"), BAD)
def test_bad_arguments_are_named(call: Callable[[], object], parts: list[str]) -> None:
    refuses(call, parts)
