"""PixelVAE: its bound and its estimate against integrals over the latents, and its two priors."""

import dataclasses
import functools
import math

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Normal
from torch.testing import assert_close

import arcore
from arcore.events import Binary, Levels
from arcore.families.latent import LatentVariableModel
from arcore.inference import latent_levels
from arcore.layers.latents import GaussianPixelCNN, Halving, gaussian
from tests.arcore.cases import FEWEST, cases_where
from tests.support.cases import Case, loss_of, randomize
from tests.support.events import NINE
from tests.support.refusals import refuses
from tests.support.statistics import all_levels, chi_square_p_value, state_of

TINY = {"latent_size": 1, "encoder": [3], "width": 3, "num_layers": 2, "head_width": 4}
MAPS = {**TINY, "condition_width": 3}
MAP_PRIOR = {"num_levels": 2, "latent_channels": 1, "prior_width": 3, "prior_blocks": 1}
ONE = Case("pixelvae-one", Levels(3, (2,)), MAPS)
FLAT = Case("pixelvae-flat", Binary((1, 2, 2)), {**TINY, "upsample": False, "num_classes": 2})
TWO = Case("pixelvae-two", Binary((2,)), {**MAPS, **MAP_PRIOR})
TWO_CLASSES = Case(
    "pixelvae-two-and-classes", Binary((2,)), {**MAPS, **MAP_PRIOR, "num_classes": 2}
)
TINY_CASES = [ONE, FLAT, TWO, TWO_CLASSES]
tiny = pytest.mark.parametrize("case", TINY_CASES, ids=str)
every_latent_case = cases_where(lambda case: case in FEWEST and case.model == "pixelvae")


def build(case: Case) -> LatentVariableModel:
    """Create a model of moderate weights, whose posterior is a fair proposal for latents."""
    model = case.build()
    assert isinstance(model, LatentVariableModel)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.mul_(0.3 if name.startswith(("encoder", "infer", "top")) else 0.7)
            if name.startswith("infer") and name.endswith("bias"):
                parameter[len(parameter) // 2 :] = 1.5  # wide, so that no latent is missed
    return model


def label(case: Case, batch: int) -> Tensor | None:
    return torch.full((batch,), 1) if case.hyperparameters.get("num_classes") else None


@torch.no_grad()
def integrated(model: LatentVariableModel, x: Tensor, condition: Tensor | None) -> Tensor:
    """ln p(x) by the trapezoidal rule over a grid of one or two latents."""
    dims = len(model.latent_shapes)
    points, span = (1001, 9.0) if dims == 1 else (161, 8.0)
    line = torch.linspace(-span, span, points, dtype=torch.float64)
    grid = torch.cartesian_prod(*[line] * dims).view(-1, dims)
    latents = tuple(
        grid[:, level].view(-1, *shape) for level, shape in enumerate(model.latent_shapes)
    )
    wide = None if condition is None else condition[:1].expand(len(grid))
    volume = dims * math.log(2 * span / (points - 1))
    prior = model.prior(latents, wide)
    density = sum(p.log_prob(z).flatten(1).sum(1) for p, z in zip(prior, latents, strict=True))
    totals = []
    for row in x:
        repeated = row.expand(len(grid), *row.shape)
        conditionals = model.conditionals_given(repeated, latents, wide)
        score = conditionals.log_prob(repeated.double()).flatten(1).sum(1)
        totals.append(torch.logsumexp(score + density, 0) + volume)
    return torch.stack(totals)


@functools.cache  # several tests ask for it
def exact_scores(case: Case) -> Tensor:
    """ln p(x) of all levels of a tiny case."""
    x = all_levels(case.event)
    return integrated(build(case), x, label(case, len(x)))


def repeated(x: Tensor, condition: Tensor | None, count: int) -> tuple[Tensor, Tensor | None]:
    label = None if condition is None else condition.repeat_interleave(count, 0)
    return x.repeat_interleave(count, 0), label


# -- the bound and the estimate


@tiny
def test_bound_is_below_the_estimate_is_below_the_integral(case, generator) -> None:
    model, x = build(case), all_levels(case.event)
    condition, exact = label(case, len(x)), exact_scores(case)
    assert exact.exp().sum().item() == pytest.approx(1, abs=1e-5)
    with torch.no_grad():
        bounds = model.elbo(*repeated(x, condition, 500), generator).view(len(x), -1)
        wide, labels = repeated(x, condition, 200)
        few = model.importance_weighted(wide, 5, labels, generator).view(len(x), -1)
        many = model.importance_weighted(x, 5000, condition, generator)
    bound, error = bounds.mean(1), bounds.std(1) / 500**0.5
    middle, spread = few.mean(1), few.std(1) / 200**0.5
    assert (bound <= middle + 4 * (error + spread)).all() and (bound < exact).all()
    assert (middle <= exact + 4 * spread).all()
    assert bound.mean() < middle.mean() < exact.mean()
    assert_close(many, exact, rtol=0, atol=0.05)
    assert many.exp().sum().item() == pytest.approx(1, abs=0.05)


def test_divergence_of_one_level_is_that_of_gaussians(generator: torch.Generator) -> None:
    model, x = build(ONE), all_levels(ONE.event)
    (q,) = model.posterior(x)
    line = torch.linspace(-12, 12, 40_001, dtype=torch.float64)[:, None]
    density = Normal(q.mean[:, 0], q.stddev[:, 0])
    ratio = density.log_prob(line) - Normal(0, 1).log_prob(line)
    expected = (density.log_prob(line).exp() * ratio).sum(0) * (line[1] - line[0])
    (found,) = model._terms(x, None, model._noise(len(x), generator))[1].unbind(1)
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-6)


@every_latent_case
def test_warm_up_weighs_the_divergence_in_the_gradient_alone(case: Case) -> None:
    alike = {"warmup_steps": 10, "top_warmup_steps": 0, "free_nats": []}
    hyperparameters = {**case.hyperparameters, **alike}
    case = dataclasses.replace(case, hyperparameters=hyperparameters)
    model, x, condition = case.build(), case.values(4), case.condition(4)
    assert isinstance(model, LatentVariableModel)
    bound, full = model.log_prob(x, condition), loss_of(model, x, condition)
    torch.manual_seed(0)
    likelihood, divergences = model._terms(x, condition, model._noise(4))
    divergence = divergences.sum(1)
    assert_close(full, divergence - likelihood)
    assert (divergence >= 0).all()
    parameters = list(model.parameters())
    for step, beta in ((0, 0.1), (4, 0.5), (9, 1.0), (1000, 1.0)):
        model.set_step(0, step)
        loss = loss_of(model, x, condition)
        assert_close(loss, full)
        expected = torch.autograd.grad(
            (beta * divergence - likelihood).sum(), parameters, retain_graph=True
        )
        for got, wanted in zip(torch.autograd.grad(loss.sum(), parameters), expected, strict=True):
            assert_close(got, wanted)
        assert torch.equal(model.log_prob(x, condition), bound)
        assert torch.equal(model.validation_loss(x, condition), -bound)
        seeded = [torch.Generator().manual_seed(1) for _ in range(2)]
        elbo = model.elbo(x, condition, seeded[0])
        estimate = model.importance_weighted(x, 3, condition, seeded[1])
        model.set_step(0, 0)
        assert torch.equal(model.elbo(x, condition, torch.Generator().manual_seed(1)), elbo)
        again = model.importance_weighted(x, 3, condition, torch.Generator().manual_seed(1))
        assert torch.equal(again, estimate)
    torch.manual_seed(0)
    without = arcore.create_model(case.model, case.event, **{**hyperparameters, "warmup_steps": 0})
    without.set_step(0, 0)
    assert (without.beta == 1).all()


@every_latent_case
def test_free_bits_stop_the_gradient_of_a_level_below_them_and_nothing_else(case: Case) -> None:
    """The loss is the bound of the same model without; of each event a level counts or not."""
    levels = case.hyperparameters.get("num_levels", 1)
    alike = {**case.hyperparameters, "warmup_steps": 0, "top_warmup_steps": 0, "free_nats": []}
    case = dataclasses.replace(case, hyperparameters=alike)
    plain, x, condition = case.build(), case.values(6), case.condition(6)
    assert isinstance(plain, LatentVariableModel)
    torch.manual_seed(0)
    likelihood, divergences = plain._terms(x, condition, plain._noise(6))
    free = divergences.detach().median(0).values.tolist()
    model = dataclasses.replace(case, hyperparameters={**alike, "free_nats": free}).build()
    assert isinstance(model, LatentVariableModel)
    model.load_state_dict(plain.state_dict())
    loss = loss_of(model, x, condition)
    assert torch.equal(loss, loss_of(plain, x, condition))
    counts = divergences.detach() >= divergences.detach().new_tensor(free)
    assert counts.any() and not counts.all() and counts.shape == (6, levels)
    wanted = torch.autograd.grad(
        (counts * divergences).sum() - likelihood.sum(), list(plain.parameters())
    )
    found = torch.autograd.grad(loss.sum(), list(model.parameters()))
    for ours, theirs in zip(found, wanted, strict=True):
        assert_close(ours, theirs)
    assert torch.equal(model.log_prob(x, condition), plain.log_prob(x, condition))
    assert torch.equal(model.validation_loss(x, condition), plain.validation_loss(x, condition))


def test_the_upper_of_two_levels_may_warm_up_longer() -> None:
    model = arcore.create_model("pixelvae", NINE, num_levels=2, warmup_steps=4, top_warmup_steps=10)
    for step, weights in ((0, (0.1, 0.25)), (4, (0.5, 1.0)), (9, (1.0, 1.0))):
        model.set_step(0, step)
        assert model.beta.tolist() == pytest.approx(weights)


@every_latent_case
def test_the_levels_of_a_bound_sum_to_it(case: Case) -> None:
    model, x, condition = case.build(), case.values(5), case.condition(5)
    terms = latent_levels.bound_terms(model, x, condition)
    assert terms.shape == (5, len(model.latent_levels)) and (terms >= 0).all()
    assert_close(terms.sum(1), -model.log_prob(x, condition).detach())
    units = latent_levels.active_units(model, x, condition)
    means = [q.mean.detach().flatten(1) for q in model.posterior(x, condition)]
    expected = [(int((m.var(0) > 0.01).sum()), m.shape[1]) for m in means]
    assert list(units) == expected


@every_latent_case
def test_a_walk_goes_from_one_event_to_the_other_with_one_noise(case: Case) -> None:
    model, condition = case.build(), case.condition(2)
    first, second = case.values(4).split(2)
    seeds = [torch.Generator().manual_seed(n) for n in (3, 3, 4)]
    drawn, again, other = (
        latent_levels.walk(model, first, second, 5, condition, seed) for seed in seeds
    )
    assert drawn.shape == (2, 5, *case.event.extents) and torch.equal(drawn, again)
    case.event.check(drawn.flatten(0, 1))
    back = latent_levels.walk(model, second, first, 5, condition, torch.Generator().manual_seed(3))
    if condition is None:  # which has part in the posterior
        assert torch.equal(drawn, back.flip(1))
    same = latent_levels.walk(model, first, first, 2, condition, torch.Generator().manual_seed(3))
    assert torch.equal(same[:, 0], same[:, 1]) and torch.equal(same[:, 0], drawn[:, 0])
    if case.event.size >= 9:
        assert not torch.equal(drawn, other)


def test_a_plain_loop_warms_up() -> None:
    """Each call in training is a step; sums of several losses keep the weight of each."""
    plain, given = (
        randomize(arcore.create_model("pixelvae", NINE, upsample=False, warmup_steps=4).double())
        for _ in range(2)
    )
    x, losses = Case("pixelvae", NINE).values(6), {id(plain): [], id(given): []}
    for step in range(6):
        given.set_step(0, step)
        for model in (plain, given):
            losses[id(model)].append(loss_of(model, x, None, seed=step).sum())
    for model in (plain, given):
        sum(losses[id(model)]).backward()
    for ours, theirs in zip(plain.parameters(), given.parameters(), strict=True):
        assert_close(ours.grad, theirs.grad)
    assert (plain.beta == 1).all()
    early = torch.autograd.grad(loss_of(given, x, None).sum(), list(given.parameters()))
    given.set_step(0, 0)
    first = torch.autograd.grad(loss_of(given, x, None).sum(), list(given.parameters()))
    assert not all(torch.equal(a, b) for a, b in zip(early, first, strict=True))


def test_importance_samples_in_parts_are_independent(monkeypatch: pytest.MonkeyPatch) -> None:
    model, x = build(ONE), ONE.values(3)
    whole = model.importance_weighted(x, 500, None, torch.Generator().manual_seed(1))
    monkeypatch.setattr("arcore.families.latent.FLOATS_AT_ONCE", 3 * 50 * model._width)
    parts = model.importance_weighted(x, 500, None, torch.Generator().manual_seed(1))
    assert not torch.equal(parts, whole)
    assert_close(parts, whole, rtol=0, atol=0.1)
    assert model.importance_weighted(x[:0], 3).shape == (0,)
    monkeypatch.setattr("arcore.families.latent.FLOATS_AT_ONCE", 2 * model._width)
    scored, likelihood = [], model._log_likelihood
    monkeypatch.setattr(
        model, "_log_likelihood", lambda *given: scored.append(len(given[0])) or likelihood(*given)
    )
    rows = model.importance_weighted(x[:1], 500, None, torch.Generator().manual_seed(1))
    assert_close(rows, whole[:1], rtol=0, atol=0.1)
    assert max(scored) == 2


def test_fixed_noise_is_standard_normal_and_belongs_to_each_event() -> None:
    event = Binary((1, 4, 4))
    model = arcore.create_model("pixelvae", event, latent_size=3).double()
    x = all_levels(event)[:5000]
    (noise,) = model._fixed_noise(x)
    assert noise.shape == (5000, 3)
    assert noise.mean(0).abs().max() < 0.06 and (noise.std(0) - 1).abs().max() < 0.06
    assert torch.corrcoef(noise.T).fill_diagonal_(0).abs().max() < 0.06
    assert len(noise[:, 0].unique()) == 5000
    assert torch.equal(model._fixed_noise(x.flip(0))[0], noise.flip(0))
    assert torch.equal(model._fixed_noise(x.to(torch.uint8))[0], noise)


def test_training_approaches_a_known_distribution_and_never_beats_it(generator) -> None:
    """Two patterns and noise, by the loss alone, whose noise no weights can learn by heart."""
    torch.manual_seed(0)
    event = Binary((4,))
    states = all_levels(event)
    probabilities = torch.full((16,), 0.2 / 16, dtype=torch.float64)
    probabilities[[0, 15]] += 0.4
    entropy = -(probabilities * probabilities.log()).sum().item()
    model = arcore.create_model("pixelvae", event, latent_size=2, encoder=[8], width=8).double()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    for _ in range(200):
        loss = (probabilities * model(states)).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        bounds = model.elbo(repeated(states, None, 50)[0], None, generator).view(16, 50).mean(1)
        estimate = model.importance_weighted(states, 500, None, generator)
    cost, close = (-(probabilities * score).sum().item() for score in (bounds, estimate))
    assert entropy - 0.01 < close <= cost + 0.01 < entropy + 0.1


# -- exact given latents


@tiny
def test_sampled_frequencies_fit_the_integral(case: Case, generator: torch.Generator) -> None:
    drawn = state_of(build(case).sample(4000, label(case, 4000), generator), case.event)
    assert chi_square_p_value(drawn, exact_scores(case).exp()) > 1e-4


@tiny
@pytest.mark.parametrize("index", [0, -1], ids=["first", "last"])
def test_many_candidates_impute_the_exact_posterior(case, index: int, generator) -> None:
    """Also where the observed dimension comes last, which likelihood weights take into account."""
    model, states, n = build(case), all_levels(case.event), 800
    model.impute_candidates = 40
    joint = exact_scores(case).exp()
    flat = states.flatten(1)
    observed = torch.zeros(case.event.size, dtype=torch.bool)
    observed[index] = True
    x = states[-1:].expand(n, *case.event.shape)
    view = observed.view(case.event.shape)
    completed = model.impute(x, view, label(case, n), generator)
    joint[flat[:, index] != flat[-1, index]] = 0
    assert chi_square_p_value(state_of(completed, case.event), joint / joint.sum()) > 1e-4


def test_what_a_row_is_drawn_from_does_not_depend_on_others() -> None:
    """A row of which nothing is known is a draw from p(x), whatever is known of others."""
    model = build(TWO)
    x = torch.zeros(5, *TWO.event.shape)
    known = torch.zeros(x.shape, dtype=torch.bool)
    known.view(5, -1)[3:, 0] = True
    given = label(TWO, 5)
    few = None if given is None else given[:3]
    for temperature in (1.0, 0.3):
        seeds = [torch.Generator().manual_seed(7) for _ in range(2)]
        together = model.impute(x, known, given, seeds[0], temperature)
        alone = model.impute(x[:3], known[:3], few, seeds[1], temperature)
        assert torch.equal(together[:3], alone)
        assert bool((together.flatten(1)[3:, 0] == 0).all())


# -- the prior over a map


@torch.no_grad()
def test_prior_over_a_map_is_autoregressive_over_locations(generator: torch.Generator) -> None:
    """A location's Gaussians, all channels, depend on all earlier locations and nothing else."""
    prior = randomize(GaussianPixelCNN(2, (2, 3), 3, 6, 2).double())
    z = torch.randn(4, 2, 2, 3, generator=generator, dtype=torch.float64)
    top = torch.randn(4, 3, generator=generator, dtype=torch.float64)
    before = prior(z, top)
    for channel in range(2):
        for place in range(6):
            other = z.clone()
            other[:, channel, place // 3, place % 3] += 1
            after = prior(other, top)
            for name in ("mean", "stddev"):
                changed = getattr(after, name) != getattr(before, name)
                changed = changed.flatten(2).permute(2, 0, 1).flatten(1)
                assert not changed[: place + 1].any()
                assert changed[place + 1 :].any(1).all()
    assert (prior(z, top + 1).mean != before.mean).any()


def test_gaussians_are_bounded_and_standard_at_zero() -> None:
    for bound in (None, 2.0):
        standard = gaussian(torch.zeros(2, 6, 1), bound)
        assert (standard.mean == 0).all() and (standard.stddev == 1).all()
    extreme = gaussian(torch.tensor([[1e9, -1e9, 1e9, -1e9]]), 2.0)
    assert extreme.mean.abs().max() <= 2 and extreme.stddev.max() <= 2
    assert extreme.stddev.min() > 0
    parameters = torch.zeros(1, 2, requires_grad=True)
    gaussian(parameters, 2.0).stddev.sum().backward()
    assert parameters.grad is not None and parameters.grad[0, 1] == 1


# -- varying one level


@every_latent_case
def test_varying_one_level_keeps_the_others_fixed(case: Case, monkeypatch) -> None:
    model, n = case.build(), 12
    condition = None if case.condition(1) is None else torch.zeros(n).long()
    given, pushed = [], []
    decoder = model.decoder

    def recording(batch, condition, latents):
        given.append(latents)
        return decoder(batch, condition, latents)

    def inverting(distribution, uniform):
        pushed.append(uniform)
        return (uniform < 0.5).long()

    monkeypatch.setattr(model, "decoder", recording)
    for level in model.latent_levels:
        seed = torch.Generator().manual_seed(2)
        x = model.sample_varying(n, level, condition, seed)
        again = model.sample_varying(n, level, condition, torch.Generator().manual_seed(2))
        assert torch.equal(x, again) and x.dtype == torch.int64
        case.event.check(x)
    monkeypatch.setattr("arcore.families.latent_sampling.invert", inverting)
    shared: dict[str, Tensor] = {}
    for level in model.latent_levels:
        given.clear(), pushed.clear()
        model.sample_varying(n, level, condition, torch.Generator().manual_seed(2))
        found = dict(zip(model.latent_levels, (*given[0], torch.cat(pushed, 1)), strict=True))
        varies = {name for name, value in found.items() if (value != value[:1]).any()}
        lower = {"top": {"top", "latent"}}.get(level, {level})  # z1 is drawn given z2
        assert varies == lower
        for name in set(model.latent_levels) - lower:
            assert torch.equal(shared.setdefault(name, found[name]), found[name])


# -- arguments


def test_what_it_cannot_do_is_refused() -> None:
    model = arcore.create_model("pixelvae", Binary((3,)), num_levels=2)
    x = torch.zeros(2, 3)
    latents = model.draw_latents(2)
    for call, parts in (
        (lambda: model.elbo(x, generator=0), ["generator", "a torch.Generator on cpu, or"]),
        (lambda: model.draw_latents(2, generator=0), ["generator", "a torch.Generator"]),
        (lambda: model.importance_weighted(x, 0), ["num_samples", ">= 1", "0"]),
        (lambda: model.decoder(-1), ["batch", ">= 0", "-1"]),
        (lambda: model.draw_latents(-1), ["n", ">= 0", "-1"]),
        (lambda: model.set_step(0, -3), ["step", ">= 0", "-3"]),
        (lambda: model.set_step("a", 0), ["seed", "an integer", "'a'"]),
        (lambda: model.prior((latents[0].double(),) * 2), ["latents", "torch.float32", "float64"]),
        (lambda: latent_levels.active_units(model, x[:1]), ["x", "two events", "1"]),
        (lambda: model.sample_varying(0, "top"), ["n", ">= 1", "0"]),
        (lambda: model.sample_varying(2, "bottom"), ["level", "top", "'bottom'"]),
        (lambda: model.conditionals_given(x, latents[:1]), ["latents", "(2, 4, 1, 1)", "(2, 16)"]),
        (lambda: model.decoder(3, None, latents), ["latents", "(3, 16)", "(2, 16)"]),
        (lambda: model.decoder(2, None, list(latents)), ["latents", "a tuple", "["]),
        (lambda: model.prior(tuple(z * torch.nan for z in latents)), ["latents", "finite", "NaN"]),
        (lambda: model.prior(()), ["latents", "(0, 4, 1, 1)", "()"]),
        (lambda: model.prior((1,)), ["latents", "a tuple", "(1,)"]),
    ):
        refuses(call, parts)


def test_gradients_of_a_stride_over_one_pixel_read_no_memory_that_nobody_wrote() -> None:
    """In bfloat16; memory that was freed a moment ago, full of nan, is what would be read."""
    layer, x = Halving(3, 3), torch.ones(1, 3, 1, 1)
    sizes = [2**power for power in range(14) for _ in range(8)]
    for _ in range(3):
        with torch.autocast("cpu", torch.bfloat16):
            y = layer(x).sum()
        filled = [torch.full((size,), math.nan) for size in sizes]
        del filled
        (gradient,) = torch.autograd.grad(y, layer.weight)
        assert_close(gradient, nn.functional.pad(torch.ones(3, 3, 1, 1), (1, 1, 1, 1)))
