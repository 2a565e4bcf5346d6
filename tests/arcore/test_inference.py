"""What models say of missing and noisy parts and of classes, against sums over all events."""

import math

import pytest
import torch
from torch.testing import assert_close

import arcore
from arcore.inference import classification, completion, features, interpolation, latent_levels
from arcore.inference.posterior import (
    Particles,
    gaussian_noise,
    observation,
    posterior,
    replacement_noise,
)
from tests.support.refusals import refuses
from tests.support.statistics import all_levels, state_of

BITS = arcore.events.Binary((1, 2, 3))
TRITS = arcore.events.Levels(3, (1, 2, 2))
LABEL = torch.tensor([0])
ANY = torch.tensor([[True, False, False], [False, True, False]])[None]
PREFIX = torch.tensor([[True, True, False], [False, False, False]])[None]
COARSE = torch.tensor([[True, False, True], [False, False, False]])[None]
EXACT = {
    "nade": (PREFIX,),
    "made": (),
    "deep_nade": (ANY, PREFIX, COARSE),
    "gated_pixelcnn": (PREFIX,),
    "parallel_multiscale": (COARSE,),
}


def model_of(name: str, event: arcore.events.Levels, **hyperparameters: object):
    torch.manual_seed(1)
    model = arcore.create_model(name, event, **hyperparameters).eval()
    with torch.no_grad():  # far from independent dimensions
        for weight in model.parameters():
            weight.mul_(3).add_(0.5 * torch.randn_like(weight))
    return model.double()


MODELS = {
    "nade": {"hidden": 4},
    "made": {"hidden": [8], "ordering": "reverse"},
    "deep_nade": {"hidden": [6]},
    "gated_pixelcnn": {"width": 4, "num_layers": 2, "head_width": 4},
    "parallel_multiscale": {"base_size": 1, "width": 4, "base_width": 4, "head_width": 4},
}
every_model = pytest.mark.parametrize("name", MODELS)


def require_ratio(model, x: torch.Tensor, observed: torch.Tensor) -> None:
    """What is missing given what is observed: p(x) over its sum over rows that look the same."""
    joint = model.log_prob(x).detach()
    same = (x[:, None] == x[None])[..., observed].all(-1)
    evidence = torch.where(same, joint, -math.inf).logsumexp(1)
    assert_close(completion.log_prob_missing(model, x, observed), joint - evidence)


@every_model
@pytest.mark.parametrize("observed", [ANY, PREFIX, COARSE], ids=["any", "prefix", "coarse"])
def test_missing_given_observed_is_a_ratio_of_sums(name: str, observed: torch.Tensor) -> None:
    model, x = model_of(name, BITS, **MODELS[name]), all_levels(BITS)
    found = completion.observed_first(model, observed)
    assert (found is not None) == any(observed is fits for fits in EXACT[name])
    if found is None:
        with pytest.raises(ValueError, match="observed: expected dimensions that are first"):
            completion.log_prob_missing(model, x, observed)
        return
    require_ratio(found, x, observed)
    assert_close(
        completion.log_prob_missing(model, x, observed),
        completion.log_prob_missing(found, x, observed),
    )


def test_made_of_all_orderings_has_the_observed_first() -> None:
    few, model = (
        model_of("made", BITS, hidden=[8], num_masks=count, order_agnostic=True) for count in (3, 0)
    )
    assert completion.observed_first(few, ANY) is None, "it was trained for others"
    for observed in (ANY, PREFIX, COARSE):
        found = completion.observed_first(model, observed)
        assert found is not None
        order = torch.cat(found.schedule)
        assert observed.flatten()[order].tolist() == sorted(observed.flatten().tolist())[::-1]
        require_ratio(found, all_levels(BITS), torch.zeros_like(observed))
    kept = completion.observed_first(model, torch.zeros(1, 2, 3, dtype=torch.bool))
    assert kept is model, "its own ordering serves"


def test_nade_completes_under_another_order_whose_sums_are_right() -> None:
    model = model_of("nade", BITS, hidden=4, ordering="reverse")
    x = all_levels(BITS)
    view = completion.reordered(model, ANY)
    assert view is not None and view is not model
    for observed in (ANY, torch.zeros_like(ANY)):
        require_ratio(view, x, observed)
    own = torch.cat(model.schedule)
    assert torch.equal(model.under(own).log_prob(x), model.log_prob(x))
    assert torch.equal(view.under(own).log_prob(x), model.log_prob(x)), "nothing is lost"
    lower = torch.tensor([[False] * 3, [True] * 3])[None]
    assert completion.reordered(model, lower) is model
    assert completion.reordered(model_of("gated_pixelcnn", BITS, width=4), ANY) is None
    with pytest.raises(ValueError, match="order: expected a permutation"):
        model.under(own[:3])


def exact_posterior(model, log_likelihood: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """p(x | y) of every event, (rows, events), and ln p(y)."""
    x = all_levels(model.event)
    levels = x.flatten(1).T[None, ..., None].expand(len(log_likelihood), -1, -1, 1)
    flat = log_likelihood.double().flatten(1, -2)
    seen = flat[:, :, None].expand(-1, -1, len(x), -1).gather(3, levels)[..., 0].sum(1)
    joint = model.log_prob(x).detach()[None] + seen
    return joint.softmax(1), joint.logsumexp(1)


def likelihoods(event: arcore.events.Levels) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    y = torch.randint(event.num_levels, (2, *event.extents), generator=generator)
    hidden = torch.arange(event.size).view(event.extents) % 2 == 0
    return {
        "missing": observation(y, ~hidden, event.num_levels),
        "replaced": replacement_noise(y, 0.2, event.num_levels),
        "gaussian": gaussian_noise(y + 0.3, 0.8, event.num_levels),
    }


@pytest.mark.parametrize("kind", ["missing", "replaced", "gaussian"])
@pytest.mark.parametrize("event", [BITS, TRITS], ids=str)
@every_model
def test_particles_agree_with_the_sum_over_all_levels(name: str, event, kind: str) -> None:
    model = model_of(name, event, **MODELS[name])
    seen, generator = likelihoods(event)[kind], torch.Generator().manual_seed(0)
    found = posterior(model, seen, 4000, generator=generator)
    expected, evidence = exact_posterior(model, seen)
    frequencies = torch.zeros_like(expected)
    numbers = state_of(found.x.flatten(0, 1), event).view(found.weights.shape)
    frequencies.scatter_add_(1, numbers, found.weights)
    distance = 0.5 * (frequencies - expected).abs().sum(1)
    assert float(distance.max()) < 0.06, "total variation"
    assert_close(found.log_evidence, evidence, atol=0.1, rtol=0)
    mean = (expected @ all_levels(event).flatten(1).double()).view(2, *event.extents)
    assert_close(found.mean(), mean, atol=0.06 * (event.num_levels - 1), rtol=0)


def test_a_particle_is_drawn_by_its_weight_from_its_own_row() -> None:
    x, weights = torch.arange(6).view(2, 3, 1), torch.tensor([[0, 0.25, 0.75], [0.5, 0.5, 0]])
    many = Particles(x.repeat(4000, 1, 1), weights.repeat(4000, 1), torch.zeros(8000))
    drawn = many.draw(torch.Generator().manual_seed(0)).view(4000, 2)
    found = [(drawn == level).double().mean(0).tolist() for level in range(6)]
    wanted = [[0, 0], [0.25, 0], [0.75, 0], [0, 0.5], [0, 0.5], [0, 0]]
    assert_close(torch.tensor(found), torch.tensor(wanted), atol=0.03, rtol=0)
    assert not set(drawn.flatten().tolist()) & {0, 5}, "of weight 0"


def test_particles_are_from_what_scores_whatever_autocast() -> None:
    model = arcore.create_model("deep_nade", arcore.events.Binary((64,)), hidden=[32])
    seen = torch.zeros(1, 64, 2)
    seen[..., 0] = -1
    found = []
    for enabled in (False, True):
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            generator = torch.Generator().manual_seed(0)
            found.append(posterior(model, seen, 64, generator=generator).log_evidence)
    assert torch.equal(*found)


def test_a_prefix_is_exact_with_one_particle() -> None:
    model, x = model_of("nade", BITS, hidden=4), all_levels(BITS)
    found = posterior(model, observation(x, PREFIX, 2), 1)
    expected = model.log_prob(x).detach() - completion.log_prob_missing(model, x, PREFIX)
    assert_close(found.log_evidence, expected)
    assert torch.equal(found.x[:, 0][:, PREFIX], x[:, PREFIX])


def test_what_has_no_conditionals_is_refused_as_such() -> None:
    ensemble = model_of("deep_nade", BITS, hidden=[4]).ensemble(2)
    for model in (ensemble, model_of("pixelvae", arcore.events.Binary((1, 4, 4)))):
        x = torch.zeros(2, *model.event.extents)
        with pytest.raises(ValueError, match=r"model: expected an exact one that is no ensemble"):
            completion.log_prob_missing(model, x, torch.zeros(model.event.extents) == 0)


def test_classes_beside_another_condition_are_refused_as_such() -> None:
    event = arcore.events.Levels(4, (8,))
    given = {"num_classes": 2, "local_classes": 3, "local_strides": [2]}
    model = arcore.create_model("wavenet", event, **given)
    for unfit in (model, model_of("nade", BITS, hidden=4)):
        with pytest.raises(ValueError, match="model: expected one given a class and nothing else"):
            classification.class_log_likelihoods(unfit, torch.zeros(2, *unfit.event.extents))


def test_classes_given_events() -> None:
    model = model_of("nade", BITS, hidden=4, num_classes=3)
    x = all_levels(BITS)
    scored = classification.class_log_likelihoods(model, x)
    assert torch.equal(scored[:, 2], model.log_prob(x, torch.full((len(x),), 2)).detach())
    prior = torch.tensor([0.5, 0.5, 0.0], dtype=torch.float64)
    given = classification.class_posterior(scored, prior).exp()
    assert torch.equal(given[:, 2], torch.zeros(len(x), dtype=torch.float64))
    joint = scored.exp() * prior
    assert_close(given, joint / joint.sum(1, keepdim=True))
    assert_close((scored.exp().mean(1) * given.sum(1)).sum().item(), 1.0)
    labels = torch.arange(len(x)) % 3
    told = classification.class_information(scored, labels)
    rows = scored.exp()
    expected = (rows[torch.arange(len(x)), labels] / rows.mean(1)).log()
    assert_close(told, expected)


def test_walks_between_vectors_share_their_noise() -> None:
    model = model_of("gated_pixelcnn", TRITS, width=4, num_layers=2, condition_size=3)
    first, second = torch.randn(2, 40, 3, generator=torch.Generator().manual_seed(0)).double()
    seed = torch.Generator().manual_seed
    drawn = interpolation.walk(model, first, second, 4, seed(1))
    assert drawn.shape == (40, 4, *TRITS.extents)
    assert torch.equal(drawn, interpolation.walk(model, second, first, 4, seed(1)).flip(1))
    stay = interpolation.walk(model, first, first, 2, seed(1))
    assert torch.equal(stay[:, 0], stay[:, 1]) and torch.equal(stay[:, 0], drawn[:, 0])
    many = 4000
    ends = (one[:1].expand(many, -1) for one in (first, second))
    last = interpolation.walk(model, *ends, 2, seed(2))[:, 1:]
    frequencies = torch.bincount(state_of(last, TRITS), minlength=81) / many
    expected = model.log_prob(all_levels(TRITS), second[:1].expand(81, -1)).detach().exp()
    assert float((frequencies - expected).abs().sum()) / 2 < 0.06, "draws are from p(x | h)"


def test_labels_of_particles_are_of_their_rows() -> None:
    model = model_of("nade", BITS, hidden=3, num_classes=2)
    seen = torch.zeros(2, *BITS.extents, 2)
    for labels in (None, torch.zeros(5).long(), torch.zeros(1).long()):
        with pytest.raises(ValueError, match=r"condition: expected int64 class labels of.*\(2,\)"):
            posterior(model, seen, 3, labels)
    none = posterior(model, seen[:0], 3, torch.zeros(0).long())
    assert none.x.shape == (0, 3, *BITS.extents)


def test_calibration_error_is_the_gap_in_each_bin() -> None:
    sure = torch.tensor([[0.9, 0.1]] * 10 + [[0.4, 0.6]] * 10)
    labels = torch.tensor([0] * 5 + [1] * 5 + [1] * 6 + [0] * 4)
    found = classification.calibration_error(sure.log(), labels)
    assert found == pytest.approx(0.5 * 0.4 + 0.5 * 0.0, abs=1e-6)


def test_features_give_what_the_last_conditional_is_made_of() -> None:
    model, x = model_of("nade", TRITS, hidden=4, inputs="one_hot"), all_levels(TRITS)
    hidden = features.hidden_features(model, x)
    zeroed = x.clone()  # level 0 adds nothing
    zeroed.flatten(1)[:, -1] = 0
    before = features.hidden_features(model, zeroed)
    logits = before @ model.output_weight[-1].T + model.output_bias[-1]
    expected = model.conditionals(x).logits.flatten(1, -2)[:, -1].log_softmax(-1)
    assert_close(logits.log_softmax(-1).detach(), expected.detach())
    assert hidden.shape == (len(x), 4) and not torch.equal(hidden, before)
    made = model_of("made", BITS, hidden=[8, 5], direct=False)
    bits = all_levels(BITS)
    output = made.output(features.hidden_features(made, bits))
    assert_close(output.sigmoid(), made.conditionals(bits).probs.flatten(1))


def test_filters_are_the_change_of_a_units_input() -> None:
    event = arcore.events.Levels(3, (1, 2, 3))
    for name, more in (("nade", {"ordering": "reverse"}), ("made", {})):
        hidden = 4 if name == "nade" else [4]
        model = arcore.create_model(name, event, hidden=hidden, inputs="one_hot", **more)
        filters = features.first_layer(model)
        assert filters.shape == (4, 1, 2, 3)
        if name == "nade":
            step = (model.order == 4).nonzero().item()  # pixel (1, 1)
            assert torch.equal(filters[:, 0, 1, 1], model.input_weight[step, 1].detach())
        else:
            layer = model._hidden()[0]
            weight = layer.masked(layer.weight)[:, 4 * 2 + 1]
            assert torch.equal(filters[:, 0, 1, 1], weight.detach())
    assert features.first_layer(arcore.create_model("pixelcnn", event)) is None


@pytest.mark.parametrize("mask_inputs", [True, False])
def test_filters_of_an_orderless_network_are_of_the_values_that_it_is_shown(mask_inputs) -> None:
    event = arcore.events.Levels(3, (1, 2, 3))
    more = {"hidden": [4], "inputs": "one_hot", "mask_inputs": mask_inputs}
    model = arcore.create_model("deep_nade", event, **more)
    filters = features.first_layer(model)
    assert filters.shape == (4, 1, 2, 3) and not filters.requires_grad
    shown = torch.zeros(1, 6, model.num_features)
    before = shown.flatten(1) @ model.dense.input_weight.flatten(0, 1)
    shown[0, 4, 1] = 1  # pixel (1, 1) at the highest level
    after = shown.flatten(1) @ model.dense.input_weight.flatten(0, 1)
    assert_close(filters[:, 0, 1, 1], (after - before)[0].detach())


SEEN = torch.zeros(1, 1, 2, 3, 2)
IMAGES, FLAT, SCORES = torch.zeros(1, 1, 2, 3), torch.zeros(1, 2), torch.zeros(5, 3)
BAD = [
    (lambda m: posterior(m.ensemble(2), SEEN, 2), ["model", "expected an"]),
    (lambda m: posterior(m, torch.zeros(1, 6, 2), 2), ["log_likelihood", "shape (bat"]),
    (lambda m: posterior(m, SEEN, 0), ["num_particles", "expected an"]),
    (lambda m: posterior(m, SEEN - math.inf, 2), ["log_likelihood", "observations that are poss"]),
    (lambda m: posterior(m, SEEN + math.nan, 2), ["log_likelihood", "numbers", "NaN or inf"]),
    (lambda m: posterior(m, SEEN + math.inf, 2), ["log_likelihood", "numbers", "NaN or inf"]),
    (lambda m: posterior(m, SEEN, 2, resample_below=0), ["resample_below", "a number in"]),
    (lambda m: posterior(m, SEEN, 2, LABEL), ["condition", "expected None"]),
    (lambda m: posterior(m, SEEN, 2, generator=0), ["generator", "a torch.Generator"]),
    (lambda m: replacement_noise(FLAT, 1.0, 2), ["probability", "expected a number"]),
    (lambda m: replacement_noise(FLAT, 0.5, 1), ["num_levels", "expected an integer"]),
    (lambda m: replacement_noise(FLAT + 2, 0.5, 2), ["y", "levels in [0, 2)"]),
    (lambda m: replacement_noise(FLAT + 0.9, 0.5, 2), ["y", "levels in [0, 2)"]),
    (lambda m: gaussian_noise(FLAT, 1.0, 0), ["num_levels", "expected an integer"]),
    (lambda m: gaussian_noise(FLAT, 0.0, 2), ["deviation", "expected"]),
    (lambda m: observation(FLAT.long(), ANY[:1], 2), ["observed", "expected bool of"]),
    (lambda m: observation(FLAT + 0.5, FLAT[0] == 0, 2), ["x", "levels in [0, 2)", "'others'"]),
    (lambda m: classification.class_information(SCORES, LABEL), ["labels", "expected i"]),
    (lambda m: classification.class_information(SCORES[:1], LABEL + 3), ["labels", "in [0, 3)"]),
    (lambda m: classification.calibration_error(SCORES, LABEL), ["labels", "expected i"]),
    (lambda m: classification.calibration_error(SCORES[:0], LABEL[:0]), ["log_posterior", "a row"]),
    (lambda m: classification.calibration_error(SCORES, LABEL, bins=0), ["bins", "integer >= 1"]),
    (lambda m: classification.class_posterior(SCORES, SCORES[0]), ["prior", "3 probabilities"]),
    (lambda m: classification.class_log_likelihoods(m, IMAGES), ["model", "expected"]),
    (lambda m: interpolation.between(LABEL, LABEL, 2), ["first", "floating point"]),
    (lambda m: interpolation.between(ANY, PREFIX, 1), ["num_steps", "an integer >= 2"]),
    (lambda m: interpolation.between(ANY, ANY[0], 2), ["second", "expected shape"]),
    (lambda m: interpolation.walk(m, FLAT, FLAT, 2), ["model", "conditioned on a vector"]),
    (lambda m: latent_levels.bound_terms(m, IMAGES), ["model", "with latents", "Deep"]),
    (lambda m: features.hidden_features(m, IMAGES), ["model", "expected NADE or"]),
    (lambda m: completion.observed_first(m, torch.ones(6)), ["observed", "expected a bool tensor"]),
    (lambda m: completion.observed_first(m, ANY[0]), ["observed", "expected shape"]),
]  # fmt: skip


@pytest.mark.parametrize(("call", "parts"), BAD)
def test_bad_input_is_refused(call, parts: list[str]) -> None:
    refuses(lambda: call(model_of("deep_nade", BITS, hidden=[4])), parts)


def test_weights_that_are_no_numbers_are_refused() -> None:
    model = model_of("nade", BITS, hidden=4)
    model.output_bias.data.fill_(torch.nan)
    with pytest.raises(ValueError, match="weights: expected finite numbers"):
        posterior(model, SEEN, 4)
    told = model_of("gated_pixelcnn", BITS, width=4, condition_size=2)
    next(told.parameters()).data.fill_(torch.inf)
    with pytest.raises(ValueError, match="weights: expected finite numbers"):
        interpolation.walk(told, torch.zeros(1, 2).double(), torch.ones(1, 2).double(), 2)
