"""Orderless models: unbiased objective, exact scores by a slow reference, orderings, posteriors."""

import itertools
import math

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

import arcore
from arcore.entropy import fingerprint
from arcore.events import Binary, Levels
from arcore.families import orderless
from arcore.families.any_order import AnyOrderModel
from arcore.families.orderless import OrderlessModel
from arcore.generation import RecomputingDecoder
from arcore.inference import parallel_steps
from arcore.inference.parallel_steps import InSteps, lost_nats, split_steps, step_losses
from arcore.layers import level_features
from arcore.layers.conv_branch import ConvBranch
from arcore.model import AutoregressiveModel
from arcore.primitives.masks import draw_masks
from tests.arcore.cases import cases_where
from tests.support.cases import Case, draws_noise, loss_of, randomize
from tests.support.events import CUBE, NINE
from tests.support.references import without_missing_levels
from tests.support.refusals import refuses
from tests.support.statistics import all_levels, chi_square_p_value, state_of

NAMES = ("deep_nade", "nade_k", "conv_nade")
ANY = (*NAMES, "any_order_transformer")
every_name = pytest.mark.parametrize("name", NAMES)
every_any_order = pytest.mark.parametrize("name", ANY)
every_part = pytest.mark.parametrize("name", (*ANY, "any_order_transformer-patch"))
every_orderless = cases_where(lambda case: case.model in NAMES and case.discrete)
HYPERPARAMETERS = {
    "deep_nade": {"hidden": [8, 6]},
    "nade_k": {"hidden": [6], "steps": 2},
    "conv_nade": {"hidden": [6], "channels": [4], "kernels": [2]},
    "any_order_transformer": {"width": 8},
    "any_order_transformer-patch": {"width": 8, "patch": 2},  # which masks cut
}
FOUR = Binary((2, 2))
TIGHT = {"rtol": 1e-9, "atol": 1e-9}


def build(name: str, event: Levels = FOUR, **hyperparameters: object) -> OrderlessModel:
    return Case(name, event, HYPERPARAMETERS[name] | hyperparameters).build()


def masks_of_size(size: int, count: int) -> Tensor:
    chosen = itertools.combinations(range(size), count)
    empty = torch.zeros(size).bool()
    return torch.stack([empty.index_fill(0, torch.tensor(c).long(), True) for c in chosen])


# -- the objective


@every_name
@pytest.mark.parametrize("event", [FOUR, Levels(3, (3,))], ids=str)
def test_objective_is_unbiased_for_the_average_over_orderings(name: str, event: Levels) -> None:
    """The mean over all (c, subset) is the mean of -ln p over all D! orderings, exactly."""
    model, size = build(name, event), event.size
    x = all_levels(event)[::2]
    by_size = [
        torch.stack([
            model.masked_loss(x, mask.view(event.shape)) for mask in masks_of_size(size, count)
        ]).mean(0)
        for count in range(size)
    ]  # fmt: skip
    orders = [torch.tensor(order) for order in itertools.permutations(range(size))]
    scores = torch.stack([model.under(order).log_prob(x) for order in orders])
    assert_close(torch.stack(by_size).mean(0), -scores.mean(0), **TIGHT)
    assert scores.std(0).max() > 0.01, "orderings of a random network differ"


def test_masks_are_uniform_over_sizes_and_then_over_subsets(generator: torch.Generator) -> None:
    size, n = 4, 30_000
    masks = draw_masks(n, size, generator)
    probabilities = torch.zeros(2**size, dtype=torch.float64)
    for count in range(size):
        subsets = masks_of_size(size, count)
        probabilities[state_of(subsets.long(), Binary((size,)))] = 1 / (size * len(subsets))
    assert probabilities.sum().item() == pytest.approx(1)
    assert chi_square_p_value(state_of(masks.long(), Binary((size,))), probabilities) > 1e-4


@every_name
def test_forward_is_the_objective_under_masks_of_the_global_generator(name: str) -> None:
    model, x = build(name, CUBE), all_levels(CUBE)[::700]
    torch.manual_seed(3)
    masks = draw_masks(len(x), CUBE.size)
    assert masks.unique(dim=0).shape[0] > 3, "each example has its own"
    expected = model.masked_loss(x, masks.view(x.shape))
    assert torch.equal(loss_of(model, x, None, seed=3), expected)
    assert draws_noise(model)


@every_name
def test_validation_loss_estimates_the_objective(name: str) -> None:
    model, x = build(name, CUBE), all_levels(CUBE)
    with torch.no_grad():
        drawn = loss_of(model, x.repeat(8, 1, 1, 1), None).view(8, -1)
        estimate = model.validation_loss(x)
    difference = estimate - drawn.mean(0)
    assert abs(difference.mean()) < 5 * difference.std() / math.sqrt(len(x))
    assert estimate.std() < drawn.std(), "several masks a row"


# -- exact scores


@every_orderless
def test_equals_a_full_pass_for_every_step(case: Case) -> None:
    """Each conditional from a pass of the whole network with what precedes it unmasked."""
    model, x, condition = case.build(), case.values(6), case.condition(6)
    flat, total = x.flatten(1), 0
    inputs = model._inputs(flat)
    shown = torch.zeros(case.event.size, 1, dtype=torch.float64)
    for block in model.schedule:
        logits = model._logits(inputs * shown, condition)
        logits = without_missing_levels(logits, case.event)[:, block]
        total = total + level_features.distribution(logits).log_prob(flat[:, block].double())[:, 0]
        shown[block] = 1
    assert_close(model.log_prob(x, condition), total, **TIGHT)


def test_golden_value() -> None:
    """D = 2, order (1, 0), one relu unit, x = (1, 1); inputs are [x m, m], each with its weight:

    logit_1 = c_1 + V_1 relu(-0.5)                 = 0.3 + 2 * 0        = 0.3
    logit_0 = c_0 + V_0 relu(-0.5 + 1.5 + 0.25)    = -1 + 0.8 * 1.25    = 0
    ln p    = ln s(0.3) + ln s(0)                  = -0.5543552 - 0.6931472 = -1.2475024
    """
    model = arcore.create_model("deep_nade", Binary((2,)), hidden=[1], ordering="reverse").double()
    dense = model.dense
    dense.input_weight.data.copy_(torch.tensor([[[99.0], [99.0]], [[1.5], [0.25]]]))
    dense.input_bias.data.fill_(-0.5)
    dense.output_weight.data.copy_(torch.tensor([[[0.8]], [[2.0]]]))
    dense.output_bias.data.copy_(torch.tensor([[-1.0], [0.3]]))
    assert model.log_prob(torch.tensor([[1, 1]])).item() == pytest.approx(-1.2475024, abs=1e-7)


@every_name
def test_rows_scored_in_parts_score_the_same(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model, x = build(name, CUBE, num_classes=2), all_levels(CUBE)[::300]
    condition = torch.arange(len(x)) % 2
    score, logits = model.log_prob(x, condition), model.conditionals(x, condition).logits
    monkeypatch.setattr(orderless, "FLOATS_AT_ONCE", 3 * model._width)
    assert_close(model.log_prob(x, condition), score, **TIGHT)
    assert_close(model.conditionals(x, condition).logits, logits, **TIGHT)


def test_without_mask_inputs_zero_is_missing() -> None:
    """Level 0 looks like a missing dimension, unless the mask is an input."""
    blind, sighted = (build("deep_nade", NINE, mask_inputs=m) for m in (False, True))
    assert blind.num_features == 1 and sighted.num_features == 2
    x = torch.zeros(1, 1, 3, 3).long()
    changes = []
    for model in (blind, sighted):
        logits = model.conditionals(x).logits.flatten(1)[0]
        start = RecomputingDecoder(model, 1).next().logits[0]
        nothing = model._logits(model._inputs(x.flatten(1)) * 0, None)[0, :, 0]
        assert torch.equal(nothing[model.order[:1]], start)
        changes.append((logits - nothing).abs().max().item())
    assert changes[0] < 1e-12 < 0.01 < changes[1]


# -- convolutions


@pytest.mark.parametrize("extents", [(28, 28), (8, 8), (1, 1), (1, 12), (3, 5)])
def test_convolutions_fit_any_map_and_agree_at_a_pixel(extents: tuple[int, int]) -> None:
    net = ConvBranch(2, 3, extents, [4, 3, 5, 2], [8, 4, 6, 7]).double()
    maps = torch.randn(2, 2, *extents, dtype=torch.float64)
    whole = net(maps)
    assert whole.shape == (2, 3, *extents)
    for row in sorted({0, extents[0] // 2, extents[0] - 1}):
        for column in sorted({0, extents[1] // 3, extents[1] - 1}):
            assert_close(net.at(maps, row, column), whole[:, :, row, column], **TIGHT)


@pytest.mark.parametrize("extents", [(28, 28), (9, 7), (1, 12)])
@pytest.mark.parametrize("classes", [None, 3])
def test_pixels_in_turn_are_those_of_the_map_as_it_is(
    extents: tuple[int, int], classes: int | None
) -> None:
    net = ConvBranch(2, 3, extents, [4, 3, 5], [5, 4, 3], condition_rows=classes).double()
    for split in range(4):
        net.split, shown = split, net.shown()
        condition = None if classes is None else torch.tensor([0, 2])
        maps = torch.zeros(2, 2, *extents, dtype=torch.float64)
        order = torch.randperm(extents[0] * extents[1])[:40].tolist()
        with torch.no_grad():
            for index, place in enumerate(order):
                pixel = divmod(place, extents[1])
                if index % 5 not in (2, 3):  # else several are shown at once
                    wanted = net.at(maps, *pixel, condition)
                    assert_close(shown.at(maps, *pixel, condition), wanted, **TIGHT)
                maps[:, :, pixel[0], pixel[1]] = torch.randn(2, 2, dtype=torch.float64)
                shown.show(*pixel)


def test_as_many_layers_follow_as_cost_least() -> None:
    """Counted by hand for maps of one row, (1, 4): kernels are (1, 2), sides 4, 3, 4."""
    net = ConvBranch(1, 1, (1, 4), [8], [2])
    # outputs changed: 1 + 2 + 2 + 1; read: of the first layer 1 + 2 + 2 + 1 too, of the last 4
    assert net._lines(1) == ([6, 0], [6, 4]) and net.split == 0
    wide = ConvBranch(2, 1, (28, 28), [32, 32, 32], [5, 5, 5])
    costs = wide._costs()
    assert wide.split == costs.index(min(costs)) and min(costs) < 0.7 * costs[0]


def test_a_pixel_is_computed_from_its_surroundings_alone() -> None:
    """Four layers of kernel 3 see 4 pixels to each side; nothing else is even read."""
    net = ConvBranch(1, 1, (28, 28), [4, 4], [3, 3])
    maps = torch.full((2, 1, 28, 28), torch.nan)
    maps[:, :, 10:19, 10:19] = torch.randn(9, 9)
    assert net.at(maps, 14, 14).isfinite().all()
    assert net.at(maps, 15, 14).isnan().all()


# -- orderings


@every_any_order
def test_members_share_weights_and_differ_in_ordering(name: str) -> None:
    model, x = build(name, NINE, ordering="snake", num_orderings=3), all_levels(NINE)[::40]
    members = [model.member(index) for index in range(4)]
    assert torch.equal(members[0].order, model.order) and model.num_members == 3
    assert len({tuple(member.order.tolist()) for member in members}) == 4
    scores = [member.log_prob(x) for member in members]
    assert torch.equal(scores[0], model.log_prob(x))
    assert not torch.equal(scores[1], scores[2])
    pairs = zip(model.parameters(), members[2].parameters(), strict=True)
    assert all(ours is theirs for ours, theirs in pairs)
    randomize(model, seed=9)
    assert not torch.equal(members[1].log_prob(x), scores[1])
    assert torch.equal(model.member(2).order, members[2].order)
    other = build(name, NINE, ordering_seed=1).member(1)
    assert not torch.equal(other.order, members[1].order)


# -- what is observed


def observed_first(model: AnyOrderModel, observed: Tensor) -> AnyOrderModel:
    order = model.order
    return model.under(torch.cat([order[observed[order]], order[~observed[order]]]))


LAST = torch.tensor([False, True, False, True])


@every_part
def test_marginals_are_exact_for_any_observed_set(name: str) -> None:
    model, x = build(name, ordering="raster"), all_levels(FOUR)
    for bits in itertools.product([False, True], repeat=4):
        observed = torch.tensor(bits)
        joint = observed_first(model, observed).log_prob(x).exp()
        mask = observed.view(2, 2)
        same = (x[:, None] == x[None]) | ~mask
        expected = (same.flatten(2).all(2) * joint).sum(1).log()
        assert_close(model.log_marginal(x, mask), expected, **TIGHT)
    mask = torch.ones_like(x).bool()
    assert_close(model.log_marginal(x, mask), model.log_prob(x), **TIGHT)


@every_part
def test_impute_takes_a_mask_an_example(name: str, generator: torch.Generator) -> None:
    model = build(name, ordering="raster", num_classes=2)
    states, n = all_levels(FOUR), 12_000
    x = states[9].expand(n, 2, 2)
    masks = torch.stack([LAST, ~LAST, torch.tensor([True, True, False, True])]).view(3, 2, 2)
    which = torch.arange(n) % 3
    condition = torch.ones(n).long()
    completed = model.impute(x, masks[which], condition, generator)
    for index, mask in enumerate(masks):
        label = torch.ones(len(states)).long()
        joint = observed_first(model, mask.flatten()).log_prob(states, label).detach().exp()
        joint[((states != x[:1]) & mask).flatten(1).any(1)] = 0
        drawn = state_of(completed[which == index], FOUR)
        assert chi_square_p_value(drawn, joint / joint.sum()) > 1e-4


@every_part
def test_an_ensemble_imputes_from_the_posterior_of_the_mixture(name: str, generator) -> None:
    model, other = build(name, ordering="raster"), build(name, ordering="reverse")
    ensemble = arcore.Mixture([model, other], torch.tensor([0.75, 0.25]), [2, 1])
    states, n, mask = all_levels(FOUR), 8000, LAST.view(2, 2)
    parts = [observed_first(m, LAST).log_prob(states) for m in (*model.ensemble(2), other)]
    joint = (torch.stack(parts, 1).detach().exp() * torch.tensor([0.375, 0.375, 0.25])).sum(1)
    same = ((states[:, None] == states[None]) | ~mask).flatten(2).all(2)
    assert_close(ensemble.log_marginal(states, mask), (same * joint).sum(1).log(), **TIGHT)
    joint[~same[6]] = 0
    completed = ensemble.impute(states[6].expand(n, 2, 2), mask, generator=generator)
    assert chi_square_p_value(state_of(completed, FOUR), joint / joint.sum()) > 1e-4


@pytest.mark.parametrize("patch", [1, 2])
def test_any_part_given_any_other_is_scored_in_one_pass(patch: int) -> None:
    model = build("any_order_transformer", patch=patch, num_classes=2)
    x, label = all_levels(FOUR), torch.ones(16).long()
    same = (x[:, None] == x).flatten(2)
    for parts in itertools.product([0, 1, 2], repeat=4):  # given, target, neither
        part = torch.tensor(parts)
        joint = model.under(part.argsort(stable=True)).log_prob(x, label).exp()
        given, both = ((same | (part > last)).all(2).to(joint) @ joint for last in (0, 1))
        target, before = (part == 1).view(2, 2), (part == 0).view(2, 2)
        found = model.log_conditional(x, target, before.expand(x.shape), label)
        assert_close(found, (both / given).log(), **TIGHT)


# -- several dimensions at once

ROW = Binary((2, 4))  # two patches


def test_steps_are_split_as_costs_least() -> None:
    """Against all ways to split 7 units; the curve falls to zero where losses do not rise."""
    for seed in range(5):
        losses = torch.rand(7, generator=torch.Generator().manual_seed(seed))
        losses = losses.sort(descending=True).values.double() if seed else losses.double()
        total, least = losses.sum().item(), []
        for steps in range(1, 8):
            cuts = [(0, *cut, 7) for cut in itertools.combinations(range(1, 7), steps - 1)]
            costs = [
                sum((end - first) * losses[first].item() for first, end in itertools.pairwise(cut))
                for cut in cuts
            ]
            least.append(min(costs))
            sizes = torch.tensor(cuts[costs.index(least[-1])]).diff()
            assert split_steps(losses, steps) == tuple(sizes.tolist())
        lost = lost_nats(losses)
        assert_close(lost, torch.tensor(least, dtype=torch.float64) - total, **TIGHT)
        assert lost[-1] == 0 and (not seed or bool((lost.diff() <= 1e-12).all()))


@every_part
def test_a_step_per_unit_is_ordinary_sampling(name: str) -> None:
    model = build(name, ROW, num_classes=2)
    with torch.inference_mode():  # it can be trained all the same
        model = model.member(1)
    condition, x = torch.arange(300) % 2, all_levels(ROW)
    single = InSteps(model, [1] * (units := 8 // model.places))
    draws = [
        one.sample(300, condition, torch.Generator().manual_seed(5)) for one in (model, single)
    ]
    assert torch.equal(*draws) and single.num_evaluations == units
    label = torch.ones(len(x)).long()
    expected, found = (_score_and_gradient(one, x, label) for one in (model, single))
    assert_close(found, expected, **TIGHT)
    whole, split = (InSteps(model, sizes) for sizes in ([units], [1, units - 1]))
    assert fingerprint(whole) != fingerprint(split)


def _score_and_gradient(model: AutoregressiveModel, *batch: Tensor) -> tuple[Tensor, Tensor]:
    scores, weights = model.log_prob(*batch), list(model.parameters())
    found = torch.autograd.grad(scores.mean(), weights, allow_unused=True)
    return scores, torch.cat([g.flatten() for g in found if g is not None])


@every_part
def test_units_of_a_step_are_independent_given_earlier_steps(name: str) -> None:
    """By marginals of the model: given what steps before have, a unit has its own conditional."""
    model, x = build(name, ROW).member(2), all_levels(ROW)
    units = model.order.view(-1, model.places)
    sizes = (3, 1, 4) if len(units) == 8 else (2,)
    fast, seen, expected = InSteps(model, sizes), torch.zeros(8).bool(), 0
    for step in units.split(sizes):
        before = model.log_marginal(x, seen.view(2, 4))
        for unit in step:
            both = seen.index_fill(0, unit, True).view(2, 4)
            expected = expected + model.log_marginal(x, both) - before
        seen = seen.index_fill(0, step.flatten(), True)
    assert_close(fast.log_prob(x), expected, **TIGHT)
    assert_close(fast.log_prob(x).exp().sum().item(), 1.0, **TIGHT)
    decoder, slow = fast.decoder(256), RecomputingDecoder(fast, 256)
    for block in fast.schedule:
        assert_close(decoder.next().logits, slow.next().logits, **TIGHT)
        for one in (decoder, slow):
            one.push(x.flatten(1)[:, block])


@every_part
def test_losses_of_steps_are_means_over_random_orders(name: str) -> None:
    model, x, terms = build(name, ROW), all_levels(ROW)[::9], []
    for member in (model.member(1), model.member(2)):
        units = member.order.view(-1, model.places)
        for given in range(len(units)):
            seen = torch.zeros(8).bool().index_fill(0, units[:given].flatten(), True)
            after = [seen.index_fill(0, unit, True).view(2, 4) for unit in units[given:]]
            scores = torch.stack([member.log_marginal(x, one) for one in after])
            terms.append((member.log_marginal(x, seen.view(2, 4)) - scores).mean())
    raw = torch.stack(terms).view(2, -1).mean(0)
    assert_close(step_losses(model, x, num_orders=2), parallel_steps._non_increasing(raw), **TIGHT)
    averaged = parallel_steps._non_increasing(torch.tensor([3.0, 1.0, 2.0, 0.5, 0.7, 0.9]))
    assert averaged.tolist() == pytest.approx([3.0, 1.5, 1.5, 0.7, 0.7, 0.7])


# -- bad arguments

X = torch.zeros(2, 2, 2)
SEEN = torch.ones(2, 2).bool()
BAD = [
    (lambda m: m.masked_loss(X, SEEN), ["observed", "missing", "none"]),
    (lambda m: m.masked_loss(X, SEEN.long()), ["observed", "bool", "int64"]),
    (lambda m: m.log_marginal(X, SEEN[0]), ["observed", "(2, 2, 2)", "(2,)"]),
    (lambda m: m.log_marginal(X, SEEN, torch.zeros(2).long()), ["condition", "None"]),
    (lambda m: m.under(torch.arange(4.0)), ["order", "permutation of range(4)"]),
    (lambda m: m.under(torch.arange(3)), ["order", "permutation of range(4)"]),
    (lambda m: m.under([0, 1, 2, 3]), ["order", "permutation of range(4)"]),
    (lambda m: m.under(torch.arange(4).to("meta")), ["order", "a dense tensor", "the meta device"]),
    (lambda m: m.under(torch.arange(4).to_sparse()), ["order", "a dense tensor", "sparse_coo"]),
    (lambda m: m.under(torch.tensor([0, 1, 1, 3])), ["order", "permutation of range(4)"]),
    (lambda m: m.member(-1), ["index", "[0, 2^31)", "-1"]),
    (lambda m: m.member(10**30), ["index", "[0, 2^31)", "1000"]),
    (
        lambda m: m.log_marginal(X, X.bool().to("meta")),
        ["observed", "a dense tensor", "the meta device"],
    ),
    (lambda m: InSteps(m, [1, 2]), ["sizes", "sum 4", "[1, 2]"]),
    (lambda m: InSteps(m, [4, 0]), ["sizes", ">= 1", "[4, 0]"]),
    (lambda m: InSteps(m.ensemble(1), [4]), ["model", "deep_nade", "Ensemble"]),
    (lambda m: split_steps(step_losses(m, X), 5), ["steps", "[1, 4]", "5"]),
    (lambda m: split_steps(step_losses(m, X), 0), ["steps", "[1, 4]", "0"]),
    (lambda m: lost_nats(torch.tensor([1, torch.nan])), ["losses", "finite"]),
]


@every_any_order
def test_bad_arguments_are_named(name: str) -> None:
    model = arcore.create_model(name, FOUR)
    for call, parts in BAD[2 * (name not in NAMES) :]:
        refuses(lambda call=call: call(model), parts)
    with torch.no_grad():
        for weight in model.parameters():
            weight.fill_(torch.nan)
    refuses(lambda: model.log_marginal(X, SEEN), ["weights"])
    if name not in NAMES:
        refuses(lambda: model.log_conditional(X, SEEN, SEEN), ["given", "no dimension", "some"])
        refuses(lambda: model.log_conditional(X, X, SEEN), ["target", "bool"])
        patches = build("any_order_transformer-patch", ROW).under(torch.arange(8))
        refuses(lambda: InSteps(patches, [2]), ["model", "keeps patches whole"])
