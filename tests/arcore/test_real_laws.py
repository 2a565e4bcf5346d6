"""The laws that models over real events keep: those of test_laws that hold, and densities' own."""

from __future__ import annotations

import copy
import inspect
import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

import arcore
from arcore.distributions.real_mixture import RealMixture
from arcore.events import Real
from arcore.model import AutoregressiveModel
from arcore.zoo import model_class
from tests.arcore.real_cases import NINE, REAL_CASES, RealCase, every_real_case

from . import test_laws as laws

REAL_MODELS = [
    name for name in arcore.list_models() if issubclass(model_class(name).supports[0], Real)
]
every_real_model = pytest.mark.parametrize("name", REAL_MODELS)
SHARED = [
    laws.test_log_prob_is_the_sum_of_the_conditionals_log_prob,
    laws.test_classes_differ_and_examples_do_not_mix,
    laws.test_schedule_partitions_the_event,
    laws.test_conditionals_depend_on_all_earlier_blocks_and_nothing_else,
    laws.test_fast_decoder_equals_recomputing_decoder,
    laws.test_sample_scores_what_sampling_saw,
    laws.test_sample_is_a_function_of_the_generator,
    laws.test_impute_keeps_observed_values_and_ignores_the_others,
    laws.test_empty_batch,
    laws.test_every_parameter_gets_a_gradient,
    laws.test_loss_of_a_batch_is_the_weighted_mean_of_its_parts,
    laws.test_training_mode_scores_as_evaluation_mode,
    laws.test_saved_model_is_rebuilt_from_plain_types,
    laws.test_construction_is_a_function_of_the_seed,
    laws.test_deepcopy_scores_the_same_and_shares_nothing,
    laws.test_repr_names_event_and_size,
    laws.test_built_on_meta_and_loaded_scores_the_same,
]


@every_real_case
@pytest.mark.parametrize("law", SHARED, ids=lambda law: law.__name__.removeprefix("test_"))
def test_laws_of_discrete_events_that_hold(
    law: Callable[..., None], case: RealCase, request: pytest.FixtureRequest
) -> None:
    fixtures = [name for name in inspect.signature(law).parameters if name != "case"]
    law(case, **{name: request.getfixturevalue(name) for name in fixtures})


@every_real_model
@pytest.mark.parametrize("shape", [(1,), (1, 1, 1), (2,), (7, 2), (3, 2, 2), (2, 1, 3, 2), (50,)])
@pytest.mark.parametrize("bin_width", [None, 1 / 256])
def test_defaults_build_on_every_event(
    name: str, shape: tuple[int, ...], bin_width: float | None
) -> None:
    event = Real(shape, bin_width=bin_width)
    model = arcore.create_model(name, event)
    x = torch.rand(2, *shape)
    model(x).mean().backward()
    assert model.log_prob(x).isfinite().all() and model.exact
    assert model.event is event and model.dtype == torch.float32
    drawn = model.sample(2)
    assert drawn.shape == x.shape and drawn.dtype == torch.float32 and drawn.isfinite().all()


# -- densities

NODES, WEIGHTS = (torch.from_numpy(a) for a in np.polynomial.legendre.leggauss(16))
REACH = torch.tensor([0.5, 1, 2, 4, 7, 11, 18, 28, 42], dtype=torch.float64)


def quadrature(mixture: RealMixture) -> tuple[Tensor, Tensor]:
    """Gauss-Legendre nodes and weights (N, M) on the line, panels cut to N mixtures' scales."""
    means, scales = mixture.means[:, 0], mixture.log_scales[:, 0].exp()
    reach = torch.cat([-REACH, torch.zeros(1), REACH])
    edges = (means[..., None] + scales[..., None] * reach).flatten(1).sort(-1).values
    half = edges.diff(dim=-1)[..., None] / 2
    middle = (edges[:, :-1, None] + edges[:, 1:, None]) / 2
    return (middle + half * NODES).flatten(1), (half * WEIGHTS).flatten(1)


@torch.no_grad()
def total_mass(model: AutoregressiveModel, condition: Tensor | None) -> float:
    """The integral of the density over the line or the plane."""

    def score(x: Tensor) -> Tensor:
        label = None if condition is None else condition.expand(len(x))
        return model.log_prob(x.view(-1, *model.event.shape), label).exp()

    decoder = model.decoder(1, condition)
    x, w = quadrature(decoder.next())
    if model.event.size == 1:
        return (score(x[0]) * w[0]).sum().item()
    decoder = model.decoder(x.shape[1], None if condition is None else condition.expand(x.shape[1]))
    decoder.push(x.t())
    y, v = quadrature(decoder.next())
    pairs = torch.stack([x.t().expand_as(y), y], -1)[..., torch.cat(model.schedule).argsort()]
    return (score(pairs.flatten(0, 1)).view_as(v) * v * w.t()).sum().item()


@pytest.mark.parametrize("case", [case for case in REAL_CASES if case.event.size <= 2], ids=str)
@pytest.mark.parametrize("seed", range(3))
def test_density_integrates_to_one_for_every_class(case: RealCase, seed: int) -> None:
    model = case.build(seed)
    for condition in case.conditions(1):
        assert total_mass(model, condition) == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("component", ["gaussian", "laplace"])
@pytest.mark.parametrize("ordering", ["raster", "reverse"])
def test_density_of_the_plane_integrates_to_one(component: str, ordering: str) -> None:
    hyperparameters = {"hidden": 5, "components": 2, "component": component, "ordering": ordering}
    model = RealCase("rnade", Real((2,)), hyperparameters).build(seed=1)
    assert total_mass(model, None) == pytest.approx(1, abs=1e-6)


def uniform_p_value(u: Tensor) -> float:
    """Kolmogorov and Smirnov's test that u (N,) is uniform on [0, 1], by its asymptotic law."""
    n, ordered = len(u), u.double().sort().values
    ranks = torch.arange(n + 1).double() / n
    distance = max((ranks[1:] - ordered).max().item(), (ordered - ranks[:-1]).max().item())
    z = (math.sqrt(n) + 0.12 + 0.11 / math.sqrt(n)) * distance
    return min(1.0, max(0.0, 2 * sum((-1) ** (k - 1) * math.exp(-2 * (k * z) ** 2)
                                     for k in range(1, 50))))  # fmt: skip


def probability_integral_transform(
    model: AutoregressiveModel, x: Tensor, condition: Tensor | None
) -> Tensor:
    """P(X_d <= x_d | x_<d) of each dimension, (N, D), uniform and independent under the model."""
    with torch.no_grad():
        conditionals = model.conditionals(x, condition)
        assert isinstance(conditionals, RealMixture)
        return conditionals.cdf(x).flatten(1)


@every_real_case
def test_samples_fit_the_density(case: RealCase, generator: torch.Generator) -> None:
    model, n = case.build(), 3000
    for condition in case.conditions(n):
        x = model.sample(n, condition, generator)
        u = probability_integral_transform(model, x, condition)
        for column in u.t():
            assert uniform_p_value(column) > 1e-4
        if u.shape[1] > 1:
            assert uniform_p_value((u[:, 0] + u[:, 1]) % 1) > 1e-4  # independent, too


def test_the_fit_would_notice_another_scale(generator: torch.Generator) -> None:
    model = REAL_CASES[0].build()
    x = model.sample(3000, generator=generator)
    u = probability_integral_transform(model, 1.1 * x, None)
    assert min(uniform_p_value(column) for column in u.t()) < 1e-4


@every_real_case
def test_impute_draws_the_posterior_where_the_observed_come_first(
    case: RealCase, generator: torch.Generator
) -> None:
    model, n = case.build(), 3000
    order = torch.cat(model.schedule)
    half = case.event.size // 2
    observed = torch.zeros(case.event.size, dtype=torch.bool)
    observed[order[:half]] = True
    x = case.levels(1, seed=3).expand(n, *case.event.shape)
    condition = next(iter(case.conditions(n)))
    completed = model.impute(x, observed.view(case.event.shape), condition, generator)
    assert torch.equal(completed.flatten(1)[:, order[:half]], x.flatten(1)[:, order[:half]])
    u = probability_integral_transform(model, completed, condition)
    for index in order[half:]:
        assert uniform_p_value(u[:, index]) > 1e-4


# -- tensors and training


@every_real_case
@pytest.mark.parametrize("autocast", [False, True], ids=["float32", "bfloat16"])
def test_lower_precision_is_close_and_finite(case: RealCase, autocast: bool) -> None:
    """Autocast changes nothing: means of 8 bits would be no densities of anything."""
    exact = case.build()
    model, x, condition = copy.deepcopy(exact).float(), case.levels(16), case.labels(16)
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        loss = model(x.float(), condition)
    assert loss.dtype == torch.float32 and loss.shape == (16,)
    assert_close(loss.double(), exact(x, condition), rtol=1e-4, atol=1e-4)
    loss.mean().backward()
    assert all(parameter.grad.isfinite().all() for parameter in model.parameters())


@every_real_case
@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_scores_and_samples_without_autograd(case: RealCase, mode: type) -> None:
    model, x, condition = case.build(), case.levels(5), case.labels(5)
    expected = model.log_prob(x, condition)
    with mode():
        assert_close(model.log_prob(x, condition), expected.detach(), rtol=1e-12, atol=1e-12)
        drawn = model.sample(5, condition)
    assert drawn.shape == x.shape and drawn.dtype == torch.float64


@every_real_case
def test_reals_of_any_dtype_and_layout_score_the_same(case: RealCase) -> None:
    model, x, condition = case.build(), case.levels(8), case.labels(8)
    expected = model.log_prob(x, condition)
    for dtype in (torch.float32, torch.bfloat16):  # multiples of 1/16 within [-2, 2] fit both
        assert_close(model.log_prob(x.to(dtype), condition), expected, rtol=0, atol=0)
    strided = x.unsqueeze(-1).repeat_interleave(2, -1)[..., 0]
    assert_close(model.log_prob(strided, condition), expected, rtol=0, atol=0)


@pytest.mark.parametrize(
    "case",
    [case for case in REAL_CASES if not case.hyperparameters.get("sigma_preconditioner")],
    ids=str,
)
def test_gradient_is_the_numerical_one(case: RealCase) -> None:
    model, x, condition = case.build(), case.levels(3), case.labels(3)
    names, values = zip(*model.named_parameters(), strict=True)

    def loss(*parameters: Tensor) -> Tensor:
        named = dict(zip(names, parameters, strict=True))
        return torch.func.functional_call(model, named, (x, condition))

    assert torch.autograd.gradcheck(loss, values, fast_mode=True)


@every_real_model
def test_training_approaches_a_known_entropy_and_never_beats_it(
    name: str, generator: torch.Generator
) -> None:
    """A scrambled chain of Gaussians x_t = 0.9 x_{t-1} + 0.5 e_t, whose entropy is exact."""
    steps, n = 4, 20_000
    noise = torch.randn(n, steps, generator=generator, dtype=torch.float64)
    x = noise.clone()
    for t in range(1, steps):
        x[:, t] = 0.9 * x[:, t - 1] + 0.5 * noise[:, t]
    cost = 0.5 * noise.square().sum(1) + steps * 0.5 * math.log(2 * math.pi)
    cost += (steps - 1) * math.log(0.5)
    entropy = cost.mean().item()  # of the very rows that are scored
    x = x[:, [2, 0, 3, 1]].view(n, 1, 2, 2)
    torch.manual_seed(0)
    model = arcore.create_model(name, Real((1, 2, 2))).double()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    with torch.no_grad():
        untrained = model(x).mean().item()
    for step in range(400):
        rows = slice(step * 500 % n, step * 500 % n + 500)
        optimizer.param_groups[0]["lr"] = 0.02 * (1 - step / 400)
        optimizer.zero_grad()
        model(x[rows]).mean().backward()
        optimizer.step()
    with torch.no_grad():
        trained = model(x).mean().item()
    assert entropy - 0.02 < trained < entropy + 0.06 < untrained


# -- bad arguments

X = torch.zeros(2, 1, 3, 3)
MASK = torch.ones(3, 3).bool()[None]
BAD_CALLS = [
    (lambda m: m.log_prob(X[0]), ["x", "(batch, 1, 3, 3)", "(1, 3, 3)"]),
    (lambda m: m.log_prob(X[..., :2]), ["x", "(batch, 1, 3, 3)", "(2, 1, 3, 2)"]),
    (lambda m: m.log_prob(X.tolist()), ["x", "tensor", "list"]),
    (lambda m: m.log_prob(X.long()), ["x", "floating-point", "int64"]),
    (lambda m: m.log_prob(X.bool()), ["x", "floating-point", "bool"]),
    (lambda m: m.log_prob(X + torch.nan), ["x", "finite", "NaN"]),
    (lambda m: m.log_prob(X - torch.inf), ["x", "finite", "infinity"]),
    (lambda m: m.log_prob(X.to(torch.complex64)), ["x", "floating-point", "complex64"]),
    (lambda m: m.conditionals(X + torch.nan), ["x", "finite", "NaN"]),
    (lambda m: m(X[0]), ["x", "(batch, 1, 3, 3)", "(1, 3, 3)"]),
    (lambda m: m.log_prob(X, torch.zeros(2).long()), ["condition", "None", "tensor"]),
    (lambda m: m.sample(0), ["n", ">= 1", "0"]),
    (lambda m: m.sample(2, temperature=0), ["temperature", "> 0", "0"]),
    (lambda m: m.sample(2, temperature=0.5), ["temperature", "1 for a mixture", "0.5"]),
    (lambda m: m.impute(X, MASK, temperature=2.0), ["temperature", "1 for a mixture", "2.0"]),
    (lambda m: m.impute(X, MASK.long()), ["observed", "bool", "int64"]),
    (lambda m: m.impute(X + torch.nan, MASK), ["x", "finite", "NaN"]),
    (lambda m: m.impute(X.long(), MASK), ["x", "floating-point", "int64"]),
]


@every_real_model
@pytest.mark.parametrize(("call", "parts"), BAD_CALLS)
def test_bad_arguments_are_named(name: str, call: Callable, parts: list[str]) -> None:
    model = arcore.create_model(name, NINE)
    laws.refuses(lambda: call(model), parts)


@every_real_model
@pytest.mark.parametrize(("condition", "parts"), laws.BAD_CONDITIONS)
def test_bad_conditions_are_named(name: str, condition: object, parts: list[str]) -> None:
    model = arcore.create_model(name, NINE, num_classes=3)
    for method in (model.log_prob, model, model.conditionals):
        laws.refuses(lambda method=method: method(X, condition), parts)
    laws.refuses(lambda: model.sample(2, condition), parts)
