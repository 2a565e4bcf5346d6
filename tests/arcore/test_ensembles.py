"""Ensembles: mixtures of members' probabilities."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable

import pytest
import torch
from torch.testing import assert_close

import arcore
from arcore import Ensemble
from arcore.events import Binary, Levels, Real
from tests.support.cases import Case, randomize
from tests.support.events import CUBE, NINE
from tests.support.refusals import refuses
from tests.support.statistics import all_levels, chi_square_p_value, state_of


def made_ensemble(case: Case, members: int) -> Ensemble:
    return case.build().ensemble(members)


def orders_of_nade() -> Ensemble:
    names = ("raster", "reverse", "spiral")
    cases = [Case("nade", NINE, {"hidden": 6, "ordering": name}) for name in names]
    return Ensemble(case.build(seed) for seed, case in enumerate(cases))


AGNOSTIC = {"hidden": [12], "order_agnostic": True}
CLASSES = {"num_classes": 2, "inputs": "one_hot"}
ENSEMBLES: dict[str, Callable[[], Ensemble]] = {
    "one": lambda: made_ensemble(Case("made", NINE, {"hidden": [12]}), 1),
    "masks": lambda: made_ensemble(Case("made", NINE, {"hidden": [12], "num_masks": 3}), 3),
    "orders": lambda: made_ensemble(Case("made", NINE, {"num_masks": 4, **AGNOSTIC}), 3),
    "fresh": lambda: made_ensemble(Case("made", NINE, {"num_masks": 0, **AGNOSTIC}), 5),
    "classes": lambda: made_ensemble(
        Case("made", CUBE, {"num_masks": 2, **AGNOSTIC, **CLASSES}), 2
    ),
    "nade": orders_of_nade,
    "mixed": lambda: Ensemble([Case("nade", NINE).build(), Case("made", NINE).build()]),
    "nested": lambda: Ensemble([orders_of_nade(), Case("nade", NINE, {"hidden": 4}).build()]),
}


@pytest.fixture(params=ENSEMBLES)
def ensemble(request: pytest.FixtureRequest) -> Ensemble:
    return ENSEMBLES[request.param]()


def labels(model: Ensemble, batch: int, label: int = 0) -> torch.Tensor | None:
    return None if model.num_classes is None else torch.full((batch,), label)


def test_probabilities_sum_to_one(ensemble: Ensemble) -> None:
    x = all_levels(ensemble.event)
    for label in range(ensemble.num_classes or 1):
        total = ensemble.log_prob(x, labels(ensemble, len(x), label)).exp().sum().item()
        assert total == pytest.approx(1, abs=1e-9)


def test_averages_probabilities_per_example(ensemble: Ensemble) -> None:
    x = all_levels(ensemble.event)[::7]
    condition = labels(ensemble, len(x))
    scores = [member.log_prob(x, condition) for member in ensemble.members]
    by_hand = (sum(score.exp() for score in scores) / len(scores)).log()
    assert_close(ensemble.log_prob(x, condition), by_hand, rtol=1e-9, atol=1e-9)
    assert_close(ensemble(x, condition), -by_hand, rtol=1e-9, atol=1e-9)


def test_differs_from_averages_of_logits_and_of_log_probabilities() -> None:
    model = ENSEMBLES["orders"]()
    x = all_levels(model.event)
    logits = torch.stack([m.conditionals(x).logits for m in model.members]).mean(0)
    of_logits = torch.distributions.Bernoulli(logits=logits).log_prob(x.double()).flatten(1).sum(1)
    of_scores = torch.stack([m.log_prob(x) for m in model.members]).mean(0)
    for wrong in (of_logits, of_scores):
        assert (wrong - model.log_prob(x)).abs().max() > 0.1
        # neither is the log-likelihood of any distribution
        assert abs(wrong.exp().sum().item() - 1) > 1e-3
    assert (model.log_prob(x) >= of_scores - 1e-12).all()  # Jensen


def test_underflowing_members_average_in_the_log_domain() -> None:
    event = Levels(256, (500,))
    members = [
        arcore.create_model("nade", event, hidden=2, ordering=o) for o in ("raster", "reverse")
    ]
    model = Ensemble(members).double()
    for parameter in model.parameters():
        parameter.data.zero_()
    score = model.log_prob(torch.zeros(1, 500)).item()
    assert score == pytest.approx(-500 * math.log(256), rel=1e-12)  # exp(-2772) is 0 in float64


def test_samples_fit_the_mixture(ensemble: Ensemble, generator: torch.Generator) -> None:
    n, states = 6000, all_levels(ensemble.event)
    x = ensemble.sample(n, labels(ensemble, n), generator)
    assert x.shape == (n, *ensemble.event.shape) and x.dtype == torch.int64
    with torch.no_grad():
        probabilities = ensemble.log_prob(states, labels(ensemble, len(states))).exp()
    assert chi_square_p_value(state_of(x, ensemble.event), probabilities) > 1e-4


def test_samples_are_a_function_of_the_generator(ensemble: Ensemble) -> None:
    def sample(seed: int) -> torch.Tensor:
        return ensemble.sample(20, labels(ensemble, 20), torch.Generator().manual_seed(seed))

    assert torch.equal(sample(1), sample(1)) and not torch.equal(sample(1), sample(2))


def test_impute_keeps_observed_values(ensemble: Ensemble, generator: torch.Generator) -> None:
    x = all_levels(ensemble.event)[::11]
    condition = labels(ensemble, len(x))
    observed = torch.rand(ensemble.event.shape, generator=generator) < 0.5
    completed = ensemble.impute(x, observed, condition, generator)
    assert torch.equal(completed[:, observed], x[:, observed])
    assert not torch.equal(completed, x)


def test_every_member_is_drawn() -> None:
    certain = []
    for bias in (-100.0, 100.0):
        model = arcore.create_model("nade", Binary((2,)), hidden=1)
        model.output_bias.data.fill_(bias)
        certain.append(model)
    drawn = Ensemble(certain).sample(1000, generator=torch.Generator().manual_seed(0))
    assert (drawn[:, 0] == drawn[:, 1]).all()  # a sample is one member's throughout
    assert 400 < drawn[:, 0].sum() < 600


def test_what_needs_a_common_schedule_is_refused_with_the_reason() -> None:
    model = ENSEMBLES["nade"]()
    x = torch.zeros(2, 1, 3, 3)
    for call in (lambda: model.decoder(2), lambda: model.schedule, lambda: model.conditionals(x)):
        with pytest.raises(ValueError, match="ensemble of 3 members has no schedule in common"):
            call()


def test_members_train_with_the_base_model() -> None:
    base = Case("made", NINE, {"num_masks": 4, **AGNOSTIC}).build()
    model, x = base.ensemble(3), all_levels(NINE)[:50]
    before = [member.log_prob(x) for member in model.members]
    optimizer = torch.optim.SGD(base.parameters(), lr=0.1)
    base.set_step(seed=0, step=3)
    base(x).mean().backward()
    optimizer.step()
    for member, score in zip(model.members, before, strict=True):
        assert not torch.equal(member.log_prob(x), score)


def test_shared_weights_count_once_and_stay_shared_in_a_copy() -> None:
    base = Case("made", NINE, {"num_masks": 4, **AGNOSTIC}).build()
    model = base.ensemble(4)
    assert len(list(model.parameters())) == len(list(base.parameters()))
    twin = copy.deepcopy(model)
    assert len(list(twin.parameters())) == len(list(base.parameters()))
    expected = model.log_prob(all_levels(NINE))
    randomize(base, seed=1)
    assert torch.equal(twin.log_prob(all_levels(NINE)), expected)


def test_an_ensemble_of_one_is_its_member() -> None:
    model = ENSEMBLES["one"]()
    x = all_levels(NINE)
    assert torch.equal(model.log_prob(x), model.members[0].log_prob(x))
    assert len(model) == 1 and list(model) == list(model.members)


def test_gradients_weigh_members_by_responsibility() -> None:
    model = ENSEMBLES["mixed"]()
    model(all_levels(NINE)[:20]).mean().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), name
        assert parameter.grad.count_nonzero(), name


def nade(event: object = NINE, **hyperparameters: object) -> arcore.AutoregressiveModel:
    return arcore.create_model("nade", event, **hyperparameters)


PAIR = [nade(), nade(ordering="reverse")]
X = torch.zeros(2, 1, 3, 3)
BAD = [
    (lambda: Ensemble([]), ["members", "at least one", "[]"]),
    (lambda: Ensemble(None), ["members", "models", "None"]),
    (lambda: Ensemble([1]), ["members", "models", "1"]),
    (lambda: Ensemble([nade(), nade(Binary((9,)))]), ["members", "(1, 3, 3)", "(9,)"]),
    (lambda: Ensemble([nade(num_classes=2), nade()]), ["members", "num_classes=2", "None"]),
    (
        lambda: Ensemble(
            [
                arcore.create_model("gated_pixelcnn", Binary((1, 2, 2)), condition_size=size)
                for size in (3, 5)
            ]
        ),
        ["members", "size=3", "size=5"],
    ),
    (lambda: Ensemble(PAIR).sample(0), ["n", ">= 1", "0"]),
    (lambda: Ensemble(PAIR).sample(2, torch.zeros(2).long()), ["condition", "None", "tensor"]),
    (lambda: Ensemble(PAIR).sample(2, temperature=0), ["temperature", "> 0", "0"]),
    (lambda: Ensemble(PAIR).sample(2, generator=0), ["generator", "torch.Generator on cpu", "0"]),
    (lambda: Ensemble(PAIR).impute(X, X == 0, None, 0), ["generator", "torch.Generator", "0"]),
    (lambda: Ensemble(PAIR).log_prob(X + 2), ["x", "[0, 2)", "[2, 2]"]),
    (lambda: Ensemble(PAIR).impute(X, X.long()), ["observed", "bool", "int64"]),
    (lambda: Ensemble(PAIR).impute(X, [True]), ["observed", "bool", "[True]"]),
    (lambda: Ensemble(PAIR).impute(X, X[..., :2] == 0), ["observed", "(2, 1, 3, 3)", "1, 3, 2)"]),
    (lambda: Ensemble(PAIR).impute(X[0], X == 0), ["x", "(batch, 1, 3, 3)", "(1, 3, 3)"]),
    (lambda: arcore.create_model("made", NINE).ensemble(0), ["num_members", ">= 1", "0"]),
    (lambda: arcore.create_model("made", NINE).ensemble(2), ["num_members", "at most 1", "2"]),
]


@pytest.mark.parametrize(("call", "parts"), BAD)
def test_bad_arguments_are_named(call: Callable[[], object], parts: list[str]) -> None:
    refuses(call, parts)


def wavenets(length: int | None) -> list[arcore.AutoregressiveModel]:
    event = Levels(4, (length,))
    kinds = {"num_blocks": 1, "cycle": 2, "num_classes": 2, "local_classes": 3}
    kinds["local_strides"] = [2]
    return [
        randomize(arcore.create_model("wavenet", event, **kinds).double(), seed)
        for seed in range(2)
    ]


def test_members_may_share_a_local_condition() -> None:
    members = wavenets(4)
    x, condition = torch.tensor([[0, 3, 1, 2]]), torch.tensor([[1, 2, 0]])
    scores = torch.stack([member.log_prob(x, condition) for member in members])
    mixed = Ensemble(members).log_prob(x, condition)
    torch.testing.assert_close(mixed, scores.logsumexp(0) - math.log(2))


@pytest.mark.parametrize("combine", [Ensemble, arcore.Mixture])
def test_many_of_any_length_say_what_their_members_say(combine: Callable[..., Ensemble]) -> None:
    members = wavenets(None)
    many = combine(members)
    for name in ("condition_kind", "num_classes", "num_symbols", "hop"):
        assert getattr(many, name) == getattr(members[0], name)
    x, condition = torch.tensor([[0, 3, 1, 2]]), torch.tensor([[1, 2, 0]])
    short = many.of_length(4)
    torch.testing.assert_close(short.log_prob(x, condition), many.log_prob(x, condition))
    assert short.sample(1, condition).shape == (1, 4)


def test_an_ensemble_in_evaluation_leaves_its_model_in_training() -> None:
    for name in ("deep_nade", "conv_nade", "made"):
        masks = {"num_masks": 2} if name == "made" else {}
        model = arcore.create_model(name, NINE, dropout=0.5, **masks).train()
        model.ensemble(2).eval()
        assert all(module.training for module in model.modules()), name


@pytest.mark.parametrize("combine", [arcore.Ensemble, arcore.Mixture])
@pytest.mark.parametrize("change", [{"dtype": torch.float64}, {"device": "meta"}])
def test_members_of_two_dtypes_or_devices_are_refused(combine: type, change: dict) -> None:
    event = Real((3,))
    pair = [arcore.create_model("rnade", event), arcore.create_model("rnade", event).to(**change)]
    with pytest.raises(ValueError, match="members: expected (torch.float32, got torch.f|cpu, got)"):
        combine(pair)
