"""Mixtures of different models with weights: their probabilities, draws, folders and fit."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.testing import assert_close

import arcore
from arcore import Ensemble, Mixture, Pool, events
from arcore.mixtures import fit_weights
from tests.support.cases import Case, randomize
from tests.support.events import NINE
from tests.support.refusals import refuses
from tests.support.statistics import all_levels, chi_square_p_value, state_of

WEIGHTS = torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64)


def mixture() -> Mixture:
    """A network over pixels, the masks of a MADE, and a model that is given a class."""
    members = [
        Case("pixelcnn", NINE, {"hidden": 3, "num_blocks": 1}).build(0),
        Case("made", NINE, {"hidden": [12], "num_masks": 3}).build(1),
        Case("nade", NINE, {"hidden": 4, "num_classes": 2}).build(2),
    ]
    return Mixture(members, WEIGHTS, [1, None, 1]).eval()


def given(rows: int, label: int = 0) -> torch.Tensor:
    return torch.full((rows,), label)


def test_probabilities_sum_to_one() -> None:
    model, x = mixture(), all_levels(NINE)
    for label in (0, 1):
        total = model.log_prob(x, given(len(x), label)).exp().sum().item()
        assert total == pytest.approx(1, abs=1e-9)


def test_adds_up_weighted_probabilities() -> None:
    model, x = mixture(), all_levels(NINE)[::7]
    pixelcnn, made, nade = model.members
    parts = [pixelcnn.log_prob(x), made.ensemble(3).log_prob(x), nade.log_prob(x, given(len(x)))]
    by_hand = sum(w * part.exp() for w, part in zip(WEIGHTS, parts, strict=True)).log()
    assert_close(model.log_prob(x, given(len(x))), by_hand)
    assert_close(model.member_log_probs(x, given(len(x))), by_hand[:, None])


def test_samples_fit_the_mixture(generator: torch.Generator) -> None:
    model, n, states = mixture(), 6000, all_levels(NINE)
    x = model.sample(n, given(n, 1), generator)
    probabilities = model.log_prob(states, given(len(states), 1)).exp().detach()
    assert chi_square_p_value(state_of(x, NINE), probabilities) > 1e-4


def test_a_member_without_weight_has_no_part() -> None:
    members = [Case("nade", NINE, {"ordering": o}).build() for o in ("raster", "reverse")]
    model, x = Mixture(members, torch.tensor([0.0, 1.0])), all_levels(NINE)[:9]
    assert_close(model.log_prob(x), members[1].log_prob(x))


def test_a_folder_gives_it_back(tmp_path: Path) -> None:
    model, x = mixture(), all_levels(NINE)[::5]
    arcore.save(model, tmp_path / "mixture")
    again = arcore.load(tmp_path / "mixture")
    assert isinstance(again, Mixture) and again.hyperparameters == model.hyperparameters
    assert torch.equal(again.weights, model.weights) and again.num_classes == 2
    assert torch.equal(again.log_prob(x, given(len(x))), model.log_prob(x, given(len(x))))


def test_a_member_may_be_named_twice(tmp_path: Path) -> None:
    member, x = Case("pixelcnn", NINE, {"hidden": 3}).build(), all_levels(NINE)[:9]
    arcore.save(Mixture([member, member]), tmp_path / "twice")
    assert_close(arcore.load(tmp_path / "twice").log_prob(x), member.log_prob(x))


@pytest.mark.parametrize("weights", ([0.6, 0.6, -0.2], [0.5, 0.3, 0.1]))
def test_a_folder_of_bad_weights_is_refused(weights: list[float], tmp_path: Path) -> None:
    folder = tmp_path / "mixture"
    arcore.save(mixture(), folder)
    content = load_file(folder / "model.safetensors")
    content["weights"] = torch.tensor(weights, dtype=torch.float64)
    save_file(content, folder / "model.safetensors")
    with pytest.raises(ValueError, match=r"model\.safetensors: weights: expected .* of sum 1"):
        arcore.load(folder)


def test_events_of_any_length() -> None:
    event = events.Levels(4, (None,))
    members = [
        randomize(arcore.create_model("wavenet", event, num_blocks=1, cycle=cycle).double(), cycle)
        for cycle in (1, 2)
    ]
    x = torch.tensor([[0, 3, 1, 2]])
    scores = torch.stack([member.log_prob(x) for member in members])
    model = Mixture(members)
    assert_close(model.log_prob(x), scores.logsumexp(0) - math.log(2))
    assert model.of_length(4).sample(3).shape == (3, 4)


@pytest.mark.parametrize("combine", [Mixture, Ensemble])
def test_parts_of_sequences_add_up(combine: type[Ensemble]) -> None:
    """Each given all before it, which weighs the members anew; rows are padded at their ends."""
    event = events.Levels(4, (None,))
    members = [
        randomize(arcore.create_model("wavenet", event, num_blocks=1, cycle=cycle).double(), cycle)
        for cycle in (1, 2)
    ]
    model, x = combine(members), torch.tensor([[0, 3, 1, 2], [2, 2, 0, 0]])
    lengths = torch.tensor([[0, 4], [0, 2]])
    whole = torch.cat([model.log_prob(x[:1]), model.log_prob(x[1:, :2])])
    assert_close(model.log_prob(x, None, lengths), whole)
    cuts = torch.tensor([[3], [1]])
    first, rest = (torch.cat(pair, 1) for pair in ((lengths[:, :1], cuts), (cuts, lengths[:, 1:])))
    parts = [model.log_prob(x, None, spans) for spans in (first, rest)]
    assert_close(sum(parts), whole)
    each = torch.stack([member.log_prob(x, None, rest) for member in members], 1)
    apart = each.logsumexp(1) - math.log(2)
    assert not torch.allclose(parts[1], apart), "the first part tells which member is likely"


def test_a_member_with_latents_makes_a_bound(
    tmp_path: Path, generator: torch.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    event, n = events.Binary((1, 4, 4)), 20_000
    torch.manual_seed(0)
    vae = arcore.create_model("pixelvae", event, width=4, num_layers=1, latent_size=2).double()
    with torch.no_grad():
        vae.infer.bias += 0.3  # a posterior that is not the prior
    members = [vae.eval(), Case("nade", event, {"hidden": 4}).build(1)]
    model = Mixture(members, torch.tensor([0.7, 0.3])).eval()
    x = torch.tensor([0, 1, 1, 0] * 4).view(1, *event.shape).expand(n, *event.shape)
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


@pytest.mark.parametrize("iterations", [1, 5])
def test_the_last_of_the_nats_are_those_of_the_weights(iterations: int) -> None:
    log_probs = torch.randn(50, 3, generator=torch.Generator().manual_seed(0)).double()
    weights, nats = fit_weights(log_probs, tolerance=0, max_iterations=iterations)
    assert len(nats) == iterations + 1
    assert nats[-1] == pytest.approx(-float((log_probs + weights.log()).logsumexp(1).mean()))


def test_fit_is_no_worse_than_any_other_weights() -> None:
    log_probs = torch.randn(50, 3, generator=torch.Generator().manual_seed(0)) * 3 - 9
    weights, nats = fit_weights(log_probs)
    assert float(weights.sum()) == pytest.approx(1) and bool((weights >= 0).all())
    grid = [(a / 20, b / 20) for a in range(21) for b in range(21 - a)]
    others = torch.tensor([(a, b, max(0.0, 1 - a - b)) for a, b in grid]).double()
    joint = log_probs.double()[:, None] + others.log()
    assert nats[-1] <= -float(joint.logsumexp(2).mean(0).max()) + 1e-4


PAIR = [Case("nade", NINE).build(), Case("made", NINE).build()]
BOUND = arcore.create_model("pixelvae", events.Binary((1, 4, 4))).double()
BAD: list[tuple[Callable[[], object], list[str]]] = [
    (lambda: Mixture([]), ["members", "at least one", "[]"]),
    (lambda: Pool([BOUND]), ["members", "exact", "PixelVAE"]),
    (lambda: Mixture([PAIR[0], Case("nade", events.Binary((9,))).build()]), ["members", "(9,)"]),
    (lambda: Mixture([PAIR[0], arcore.create_model("nade", NINE)]), ["members", "float32"]),
    (
        lambda: Mixture([Case("nade", NINE, {"num_classes": n}).build() for n in (2, 3)]),
        ["members", "num_classes=2", "num_classes=3"],
    ),
    (lambda: Mixture(PAIR, torch.tensor([1.0])), ["weights", "(2,)", "[1]"]),
    (lambda: Mixture(PAIR, torch.tensor([1.5, -0.5])), ["weights", "none negative", "-0.5"]),
    (lambda: Mixture(PAIR, torch.tensor([0.5, math.nan])), ["weights", "of sum 1", "nan"]),
    (lambda: Mixture(PAIR, torch.tensor([1, 0])), ["weights", "floating point", "int64"]),
    (lambda: arcore.create_model("mixture", NINE, members=5), ["members", "a list", "5"]),
    (lambda: Mixture(PAIR, num_members=[1]), ["num_members", "2 numbers", "[1]"]),
    (lambda: Mixture(PAIR, num_members=[1, 2]), ["num_members", "at most 1", "2"]),
    (lambda: Mixture(PAIR, num_members=[0, 1]), ["num_members", ">= 1", "0"]),
    (lambda: arcore.create_model("mixture", NINE), ["members", "at least one"]),
    (lambda: arcore.create_model("mixture", NINE, members=[{}]), ["members", "a name", "{}"]),
    (
        lambda: arcore.create_model("mixture", NINE, members=[{"name": "nade", "event": 1}]),
        ["members", "a name and hyperparameters", "'event': 1"],
    ),
    (
        lambda: arcore.create_model("mixture", NINE, members=[{"name": "mixture"}]),
        ["members", "another kind", "mixture"],
    ),
    (lambda: fit_weights(torch.tensor([[-math.inf, 0.0]])), ["log_probs", "finite", "(1, 2)"]),
]


@pytest.mark.parametrize(("call", "parts"), BAD)
def test_bad_arguments_are_named(call: Callable[[], object], parts: list[str]) -> None:
    refuses(call, parts)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_weights_of_half_precision_add_up(dtype: torch.dtype, tmp_path: Path) -> None:
    members = [Case("nade", NINE, {"hidden": 4}).build(seed) for seed in range(3)]
    model, x = Mixture(members), all_levels(NINE)
    wanted = model.log_prob(x)
    half = model.to(dtype)
    assert float(half.weights.double().sum()) != 1
    each = torch.stack([member.log_prob(x) for member in members], 1).double()
    assert_close(half.log_prob(x).double(), each.logsumexp(1) - math.log(3), rtol=0.01, atol=0.01)
    assert_close(half.log_prob(x).double(), wanted, rtol=0.05, atol=0.05)
    arcore.save(half, tmp_path / "half")
    assert torch.equal(arcore.load(tmp_path / "half").weights, half.weights)


def test_no_rows_are_completed_to_none() -> None:
    x = torch.zeros(0, *NINE.shape)
    assert mixture().impute(x, x.bool(), given(0)).shape == x.shape


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Mixture([1]), "members: expected models, got 1"),
        (lambda: arcore.Pool([1]), "members: expected models, got 1"),
        (lambda: Mixture([nade_of_nine()], num_members=3), "num_members: expected a number for"),
    ],
)
def test_what_are_no_members(call: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        call()


def test_gray_targets_are_no_likelihoods_to_mix() -> None:
    """The cross-entropy of a mixture is less than the mixture of cross-entropies."""
    clips = arcore.create_model("video_pixel_baseline", events.Gray((2, 1, 4, 4)))
    for combine in (Mixture, Pool, Ensemble):
        with pytest.raises(ValueError, match=r"members: expected .*(likelihoods|levels|Levels)"):
            combine([clips, clips])


def nade_of_nine() -> arcore.AutoregressiveModel:
    return arcore.create_model("nade", NINE)


def test_members_whose_frames_last_differently_are_refused() -> None:
    """A length that they leave open hides it: the frames of one are not those of the other."""
    event = events.Levels(256, (None,))
    members = [
        arcore.create_model("wavenet", event, width=2, local_classes=10, local_strides=strides)
        for strides in ([8, 8], [4, 4])
    ]
    for combine in (Mixture, Pool, Ensemble):
        with pytest.raises(ValueError, match=r"members: expected models .*64\).*, got .*16\)"):
            combine(members)
