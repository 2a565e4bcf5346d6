"""The laws that every row of the case table keeps (see the contract in arcore/model.py)."""

from __future__ import annotations

import copy
import json
import math
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.distributions import Bernoulli, Categorical
from torch.testing import assert_close

import arcore
from arcore import events, units
from arcore.decoding import Decoder
from arcore.distributions.drawing import draw
from arcore.distributions.gray import GrayBernoulli
from arcore.events import Binary, Levels, Real
from arcore.model import AutoregressiveModel, RecomputingDecoder
from arcore.primitives.row_noise import BatchSlice
from arcore.zoo import model_class
from tests.arcore.cases import (
    CASES,
    CUBE,
    DISCRETE_MODELS,
    INTRICATE,
    NINE,
    Case,
    all_levels,
    cases_where,
    chi_square_p_value,
    even_intricate,
    every_case,
    exact_part,
    has_own_objective,
    influence,
    logits_of,
    loss_of,
    parameters_of,
    randomize,
    state_of,
)

every_model = pytest.mark.parametrize("name", DISCRETE_MODELS)
few_states = pytest.mark.parametrize(
    "case",
    [*(case for case in CASES if case.event.num_levels**case.event.size <= 600), *INTRICATE],
    ids=str,
)
TIGHT = {"rtol": 1e-9, "atol": 1e-9}


# -- probabilities


@even_intricate
def test_probabilities_sum_to_one_for_every_class(case: Case) -> None:
    model, x = case.build_exact(), all_levels(case.event)
    for condition in case.conditions(len(x)):
        with torch.no_grad():
            total = model.log_prob(x, condition).exp().sum().item()
        assert total == pytest.approx(1, abs=1e-9)


@every_case
def test_log_prob_is_the_sum_of_the_conditionals_log_prob(case: Case) -> None:
    model, x, condition = case.build_exact(), case.levels(7), case.labels(7)
    conditionals = model.conditionals(x, condition)
    assert conditionals.batch_shape == x.shape
    terms = conditionals.log_prob(x.double())
    assert_close(model.log_prob(x, condition), terms.flatten(1).sum(1), **TIGHT)
    if not has_own_objective(model):
        assert_close(model(x, condition), -model.log_prob(x, condition), rtol=0, atol=0)


@cases_where(lambda case: has_own_objective(case.create()))
def test_an_objective_that_draws_is_a_function_of_the_seed(case: Case) -> None:
    model, x, condition = case.build(), case.levels(7), case.labels(7)
    first = loss_of(model, x, condition, seed=1)
    assert first.shape == (7,) and first.isfinite().all()
    assert torch.equal(loss_of(model, x, condition, seed=1), first)
    assert case.event.size == 1 or not torch.equal(loss_of(model, x, condition, seed=2), first)


@cases_where(lambda case: has_own_objective(case.create()))
def test_workers_draw_together_what_one_would(case: Case) -> None:
    x, condition = case.levels(7), case.labels(7)
    model, losses = case.build(), torch.empty(7, dtype=torch.float64)
    for world in (1, 2, 3):
        for rank in range(world):
            mine = slice(rank, None, world)
            torch.manual_seed(5)
            model.sample_training_noise(BatchSlice(len(x[mine]), 7, rank, world))
            label = None if condition is None else condition[mine]
            loss = model(x[mine], label)
            if world == 1:
                losses = loss
            assert_close(loss, losses[mine], **TIGHT)
    with pytest.raises(ValueError, match="^x: expected 2 rows, as drawn, got 1"):
        model(x[:1], None if condition is None else condition[:1])
    model.eval()
    with torch.random.fork_rng():
        first, second = model(x, condition), model(x, condition)
    assert case.event.size == 1 or not torch.equal(first, second)


@every_case
def test_validation_loss_is_deterministic(case: Case) -> None:
    model, x, condition = case.build(), case.levels(7), case.labels(7)
    state = torch.get_rng_state()
    loss = model.validation_loss(x, condition)
    assert loss.shape == (7,) and loss.isfinite().all()
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(model.validation_loss(x, condition), loss)
    parts = [
        model.validation_loss(x[rows], None if condition is None else condition[rows])
        for rows in (slice(0, 2), slice(2, 7))
    ]
    assert_close(torch.cat(parts), loss, **TIGHT)
    if not has_own_objective(model):
        assert torch.equal(loss, -model.log_prob(x, condition))


@every_case
def test_classes_differ_and_examples_do_not_mix(case: Case) -> None:
    model, x, condition = case.build(), case.levels(6), case.labels(6)
    scores = model.log_prob(x, condition)
    for i in range(len(x)):
        label = None if condition is None else condition[i : i + 1]
        assert_close(model.log_prob(x[i : i + 1], label), scores[i : i + 1], **TIGHT)
    if condition is not None:
        assert not torch.equal(scores, model.log_prob(x, condition.roll(1, 0)))


@cases_where(lambda case: case.hyperparameters.get("head") != "logistic_mixture")
def test_zero_parameters_are_uniform(case: Case) -> None:
    model = case.build()
    for parameter in model.parameters():
        parameter.data.zero_()
    uniform = -case.event.size * math.log(case.event.num_levels)
    expected = torch.full((5,), uniform, dtype=torch.float64)
    assert_close(model.log_prob(case.levels(5), case.labels(5)), expected, rtol=1e-14, atol=0)


@every_model
def test_zero_parameters_cost_8_bits_per_dim_at_256_levels(name: str) -> None:
    event = Levels(256, (1, 2, 2))
    model = arcore.create_model(name, event).double()
    for parameter in model.parameters():
        parameter.data.zero_()
    nats = -model.log_prob(torch.tensor([0, 17, 128, 255]).view(1, 1, 2, 2)).item()
    assert units.nats_to_bits_per_dim(nats, event) == pytest.approx(8, abs=1e-12)


# -- order


@every_case
def test_schedule_partitions_the_event(case: Case) -> None:
    blocks = case.build().schedule
    assert sorted(torch.cat(blocks).tolist()) == list(range(case.event.size))
    assert all(len(block) for block in blocks)


@even_intricate
def test_conditionals_depend_on_all_earlier_blocks_and_nothing_else(case: Case) -> None:
    model = case.build_exact()
    seen = influence(model, case.levels(32), case.labels(32))
    block = torch.cat([torch.full_like(b, t) for t, b in enumerate(model.schedule)])
    earlier = block[:, None] > block[None, :]
    assert not (seen & ~earlier).any(), f"leaks:\n{seen.int()}"
    assert not case.full or (seen == earlier).all(), f"blind spots:\n{seen.int()}"


# -- decoding and sampling


def walk(decoder: Decoder, x: Tensor) -> tuple[Tensor, Tensor]:
    """Push x through a decoder; return its logits and the log-probability of x."""
    flat, total, logits = x.flatten(1), 0, []
    for block in decoder.blocks:
        following = decoder.next()
        assert following.batch_shape == (len(x), len(block))
        logits.append(parameters_of(following).reshape(len(x), len(block), -1))
        total = total + following.log_prob(flat[:, block].to(logits[0].dtype)).sum(1)
        decoder.push(flat[:, block])
    return torch.cat(logits, 1), total


@every_case
def test_fast_decoder_equals_recomputing_decoder(case: Case) -> None:
    model, x, condition = case.build_exact(), case.levels(9), case.labels(9)
    fast, score = walk(model.decoder(9, condition), x)
    slow, _ = walk(RecomputingDecoder(model, 9, condition), x)
    assert_close(fast, slow, **TIGHT)
    assert_close(fast, logits_of(model, x, condition), **TIGHT)
    assert_close(score, model.log_prob(x, condition), **TIGHT)


def expanded(condition: Tensor, rows: int) -> Tensor:
    """Repeat the condition of one row."""
    return condition.expand(rows, *condition.shape[1:])


class Recorder(Decoder):
    """Adds up the log-probability of what is pushed through another decoder."""

    def __init__(self, inner: Decoder) -> None:
        super().__init__(inner.blocks, inner.batch)
        self.inner, self.total = inner, torch.zeros(())

    def _next(self, block: Tensor) -> torch.distributions.Distribution:
        self.following = self.inner.next()
        return self.following

    def _push(self, block: Tensor, values: Tensor) -> None:
        self.total = self.total + self.following.log_prob(values.double()).sum(1)
        self.inner.push(values)


@every_case
def test_sample_scores_what_sampling_saw(
    case: Case, generator: torch.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, condition = case.build_exact(), case.labels(11)
    recorder = Recorder(model.decoder(11, condition))
    monkeypatch.setattr(model, "decoder", lambda batch, condition: recorder)
    x = model.sample(11, condition, generator)
    dtype = torch.float64 if isinstance(case.event, Real) else torch.int64
    assert x.shape == (11, *case.event.shape) and x.dtype == dtype
    assert_close(model.log_prob(x, condition), recorder.total, **TIGHT)


@every_case
def test_sample_is_a_function_of_the_generator(case: Case) -> None:
    model, condition = case.build(), case.labels(64)

    def sample(seed: int) -> Tensor:
        return model.sample(64, condition, torch.Generator().manual_seed(seed))

    assert torch.equal(sample(1), sample(1))
    assert not torch.equal(sample(1), sample(2))


@few_states
def test_sampled_frequencies_fit_the_probabilities(case: Case, generator: torch.Generator) -> None:
    model, states, n = case.build_exact(), all_levels(case.event), 4000
    for condition in case.conditions(1):
        drawn_for, scored_for = (
            None if condition is None else expanded(condition, m) for m in (n, len(states))
        )
        drawn = state_of(model.sample(n, drawn_for, generator), case.event)
        with torch.no_grad():
            probabilities = model.log_prob(states, scored_for).exp()
        assert chi_square_p_value(drawn, probabilities) > 1e-4


@few_states
@pytest.mark.parametrize("temperature", [0.5, 3.0])
def test_temperature_scales_every_conditional(
    case: Case, temperature: float, generator: torch.Generator
) -> None:
    model, states, n = case.build_exact(), all_levels(case.event), 4000
    condition = next(iter(case.conditions(1)))
    wide = [None if condition is None else expanded(condition, m) for m in (n, len(states))]
    conditionals = model.conditionals(states, wide[1])
    kind = Bernoulli if isinstance(conditionals, Bernoulli) else Categorical
    tempered = kind(logits=conditionals.logits.detach() / temperature)
    probabilities = tempered.log_prob(states.double()).flatten(1).sum(1).exp()
    drawn = state_of(model.sample(n, wide[0], generator, temperature), case.event)
    assert chi_square_p_value(drawn, probabilities) > 1e-4


@few_states
def test_impute_draws_the_posterior_where_the_observed_come_first(
    case: Case, generator: torch.Generator
) -> None:
    model, n = case.build_exact(), 4000
    first = torch.cat(model.schedule)[: case.event.size // 2]
    observed = torch.zeros(case.event.size, dtype=torch.bool)
    observed[first] = True
    x = case.levels(1, seed=3).expand(n, *case.event.shape)
    condition = next(iter(case.conditions(1)))
    label, state_label = (
        None if condition is None else expanded(condition, m)
        for m in (n, case.event.num_levels**case.event.size)
    )
    completed = model.impute(x, observed.view(case.event.shape), label, generator)
    assert torch.equal(completed.flatten(1)[:, first], x.flatten(1)[:, first])

    states = all_levels(case.event)
    with torch.no_grad():
        joint = model.log_prob(states, state_label).exp()
    joint[(states.flatten(1)[:, first] != x.flatten(1)[:1, first]).any(1)] = 0
    assert chi_square_p_value(state_of(completed, case.event), joint / joint.sum()) > 1e-4


@every_case
def test_impute_keeps_observed_values_and_ignores_the_others(
    case: Case, generator: torch.Generator
) -> None:
    model, x, condition = case.build(), case.levels(20), case.labels(20)
    observed = torch.rand(x.shape, generator=generator) < 0.5
    garbage = torch.where(observed, x.double(), torch.nan)
    completed = model.impute(garbage, observed, condition, generator)
    assert torch.equal(completed[observed], x[observed])
    case.event.check(completed)
    assert torch.equal(model.impute(x, torch.ones_like(observed), condition), x)


def test_draw_never_takes_a_level_of_probability_zero(generator: torch.Generator) -> None:
    logits = torch.tensor([-torch.inf, 0.0, -torch.inf, 0.0, -torch.inf]).expand(20_000, 5)
    drawn = draw(torch.distributions.Categorical(logits=logits), generator)
    assert sorted(drawn.unique().tolist()) == [1, 3]
    certain = torch.distributions.Bernoulli(logits=torch.tensor([-torch.inf, torch.inf]))
    assert draw(certain, generator).tolist() == [0, 1]


@pytest.mark.parametrize(("uniform", "level"), [(0.0, 1), (1 - 2**-24, 3)])
def test_draw_at_the_ends_of_the_uniform_range(
    uniform: float, level: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch, "rand", lambda shape, **_: torch.full(shape, uniform))
    logits = torch.tensor([[-torch.inf, 0.0, -torch.inf, 0.0, -torch.inf]])
    assert draw(torch.distributions.Categorical(logits=logits), None).item() == level
    certain = torch.distributions.Bernoulli(logits=torch.tensor([-torch.inf, torch.inf]))
    assert draw(certain, None).tolist() == [0, 1]


# -- tensors


@every_case
def test_levels_of_any_dtype_and_layout_score_the_same(case: Case) -> None:
    model, x, condition = case.build(), case.levels(8), case.labels(8)
    expected = model.log_prob(x, condition)
    for dtype in (torch.uint8, torch.int32, torch.float32, torch.float64, torch.bfloat16):
        assert_close(model.log_prob(x.to(dtype), condition), expected, rtol=0, atol=0)
    strided = x.unsqueeze(-1).repeat_interleave(2, -1)[..., 0]
    assert_close(model.log_prob(strided, condition), expected, rtol=0, atol=0)
    if case.event.num_levels == 2:
        assert_close(model.log_prob(x.bool(), condition), expected, rtol=0, atol=0)


@every_case
def test_empty_batch(case: Case) -> None:
    model = case.build()
    assert model.log_prob(case.levels(0), case.labels(0)).shape == (0,)
    assert model(case.levels(0), case.labels(0)).shape == (0,)


@every_case
def test_every_parameter_gets_a_gradient(case: Case) -> None:
    model = case.build()
    loss_of(model, case.levels(32), case.labels(32)).mean().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        # the first pixel has nothing before it, so only biases matter where it is alone
        base = getattr(model, "base", None) if name.startswith("base.") else None
        alone = case.event.size == 1 or (base is not None and math.prod(base.image[1:]) == 1)
        assert alone or parameter.grad.count_nonzero(), name


@every_case
@pytest.mark.parametrize("autocast", [False, True], ids=["float32", "bfloat16"])
def test_lower_precision_is_close_and_finite(case: Case, autocast: bool) -> None:
    exact = case.build()
    model, x, condition = copy.deepcopy(exact).float(), case.levels(16), case.labels(16)
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        loss = loss_of(model, x, condition)
    assert loss.dtype == torch.float32 and loss.shape == (16,)
    tolerance = 0.05 if autocast else 1e-5
    assert_close(loss.double(), loss_of(exact, x, condition), rtol=tolerance, atol=tolerance)
    loss.mean().backward()
    assert all(parameter.grad.isfinite().all() for parameter in model.parameters())


@every_model
def test_many_levels_survive_a_bfloat16_model(name: str) -> None:
    model = exact_part(arcore.create_model(name, Levels(1000, (2,))).to(torch.bfloat16))
    x = torch.tensor([[999, 998], [997, 301]])
    terms = model.conditionals(x).logits.gather(-1, x[..., None]).sum((1, 2))
    assert_close(model.log_prob(x), terms)


@every_case
@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_scores_and_samples_without_autograd(case: Case, mode: type) -> None:
    model, x, condition = case.build(), case.levels(5), case.labels(5)
    expected = model.log_prob(x, condition)
    with mode():
        assert_close(model.log_prob(x, condition), expected.detach(), **TIGHT)
        model.conditionals(x, condition)
        drawn = model.sample(5, condition)
    assert drawn.shape == x.shape


# -- training


@every_case
def test_loss_of_a_batch_is_the_weighted_mean_of_its_parts(case: Case) -> None:
    model, x, condition = case.build(), case.levels(10), case.labels(10)
    own = has_own_objective(model)

    def gradients(part: slice) -> list[Tensor]:
        label = None if condition is None else condition[part]
        # draws depend on the batch, hence likelihoods where the loss is not one
        scored = -model.log_prob(x[part], label) if own else model(x[part], label)
        loss = scored.mean()
        # the likelihood of a single dimension does not touch what it would show to others
        return [loss, *torch.autograd.grad(loss, list(model.parameters()), materialize_grads=own)]

    parts = zip(gradients(slice(0, 3)), gradients(slice(3, 10)), strict=True)
    for whole, (a, b) in zip(gradients(slice(0, 10)), parts, strict=True):
        assert_close(whole, 0.3 * a + 0.7 * b, **TIGHT)


@every_case
def test_training_mode_scores_as_evaluation_mode(case: Case) -> None:
    model, x, condition = case.build(), case.levels(5), case.labels(5)
    trained = loss_of(model.train(), x, condition)
    assert torch.equal(trained, loss_of(model.eval(), x, condition))


class Chain:
    """Eight bits, each depending on two earlier ones in a scrambled order: a Bayesian network."""

    event = Binary((2, 4))

    def __init__(self, seed: int) -> None:
        generator = torch.Generator().manual_seed(seed)
        bits = self.states.flatten(1)
        order = torch.randperm(8, generator=generator)
        log_p = torch.zeros(len(bits), dtype=torch.float64)
        for t, index in enumerate(order):
            table = torch.rand(4, generator=generator, dtype=torch.float64) * 0.96 + 0.02
            parents = order[torch.randint(t, (2,), generator=generator)] if t else [index] * 2
            context = (2 * bits[:, parents[0]] + bits[:, parents[1]]) if t else 0 * bits[:, 0]
            p = table[context]
            log_p += torch.where(bits[:, index] == 1, p, 1 - p).log()
        self.log_p = log_p
        self.entropy = -(log_p.exp() * log_p).sum().item()

    @property
    def states(self) -> Tensor:
        return all_levels(self.event)

    def cost(self, log_q: Tensor) -> Tensor:
        """The exact expected negative log-likelihood under the source."""
        return -(self.log_p.exp() * log_q).sum()


# the baseline's pixels of a frame are independent, so it stays above
DEPENDENT = [name for name in DISCRETE_MODELS if name != "video_pixel_baseline"]
SMALL = {"video_pixel_network": {"width": 4, "decoder_blocks": 1, "first_kernel": 5}}


@pytest.mark.parametrize("name", [name for name in DEPENDENT if model_class(name).exact])
def test_training_approaches_a_known_entropy_and_never_beats_it(name: str) -> None:
    source = Chain(seed=5)
    assert source.log_p.exp().sum().item() == pytest.approx(1)
    torch.manual_seed(0)
    model = arcore.create_model(name, source.event, **SMALL.get(name, {})).double()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    untrained = source.cost(model.log_prob(source.states)).item()
    for _ in range(1000):
        cost = source.cost(model.log_prob(source.states))
        assert cost.item() >= source.entropy - 1e-9
        if cost.item() < source.entropy + 0.01:
            break
        optimizer.zero_grad()
        cost.backward()
        optimizer.step()
    assert cost.item() < source.entropy + 0.01 < untrained


FLAT = Levels(3, (4,))
SPEECH = {"num_classes": 2, "local_classes": 3, "local_strides": [2]}
COMPILED = [
    *((name, {}) for name in arcore.list_models()),
    ("wavenet", SPEECH),
    ("rnade", {"sigma_preconditioner": True}),
]


@pytest.mark.filterwarnings("ignore")  # torch's own, about its compiler
@pytest.mark.parametrize(("name", "hyperparameters"), COMPILED)
def test_compiled_training_call_is_the_same(name: str, hyperparameters: dict) -> None:
    """Traced and differentiated by the compiler; its code generation is not ours to test."""
    event: events.Event = (
        Real((4,)) if model_class(name).supports == (Real,) else Levels(3, (1, 3, 3))
    )
    given: tuple[Tensor, ...] = (None,)
    if hyperparameters is SPEECH:
        event = FLAT
        spans = torch.tensor([[0, 4], [1, 3], [2, 4], [0, 1]])
        given = (torch.tensor([[0, 2, 1], [1, 0, 0], [1, 1, 2], [0, 1, 1]]), spans)
    model = randomize(arcore.create_model(name, event, **hyperparameters).double())
    x = torch.zeros(4, *event.shape) + torch.arange(4).view(-1, *[1] * len(event.shape)) % 3
    compiled = torch.compile(model, backend="aot_eager")
    results = []
    for call in (model, compiled):
        loss = loss_of(call, x, *given)
        loss.mean().backward()
        results.append((loss.detach(), [p.grad for p in model.parameters()]))
        model.zero_grad(set_to_none=True)
    assert_close(results[1], results[0], rtol=1e-9, atol=1e-9)
    torch._dynamo.reset()


@every_case
def test_a_decoder_takes_blocks_of_its_shape_alone(case: Case) -> None:
    decoder = case.build_exact().decoder(2, case.labels(2))
    size = len(decoder.blocks[0])
    for values in (torch.zeros(2), torch.zeros(1, size), torch.zeros(2, size + 1), [[0]]):
        with pytest.raises(ValueError, match=rf"^values: expected .* \(2, {size}\)"):
            decoder.push(values)
    decoder.push(torch.zeros(2, size))


@pytest.mark.parametrize("name", [name for name in DISCRETE_MODELS if model_class(name).exact])
def test_a_decoder_needs_a_batch(name: str) -> None:
    for batch in (-1, 2.0, "2"):
        with pytest.raises(ValueError, match="^batch: expected an integer >= 0"):
            arcore.create_model(name, NINE).decoder(batch)


# -- coarse numbers


def long_event(name: str) -> events.Event:
    """About a thousand bits: sums of so many terms stop growing in bfloat16."""
    if name == "wavenet":
        return Levels(2, (1000,))
    frames = (2,) if "video" in name else ()
    return Levels(2, (*frames, 1, 28, 28))


@pytest.mark.parametrize("name", [name for name in arcore.list_models() if name != "rnade"])
def test_bfloat16_adds_up_and_draws_without_bias(name: str) -> None:
    torch.manual_seed(0)
    model = arcore.create_model(name, long_event(name)).eval()
    x = torch.randint(2, (2, *model.event.shape), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        wanted = model.log_prob(x)
        coarse = copy.deepcopy(model).to(torch.bfloat16)
        assert_close(coarse.log_prob(x).float(), wanted, rtol=0.02, atol=0)
        if name == "wavenet":
            spans = torch.tensor([[0, 1000]]).expand(2, 2)
            assert_close(coarse.log_prob(x, None, spans).float(), wanted, rtol=0.02, atol=0)
        if has_own_objective(model):
            loss = [loss_of(each, x, None).float() for each in (model, coarse)]
            assert_close(loss[1], loss[0], rtol=0.05, atol=0)


def test_draws_from_coarse_logits_are_not_coarse(generator: torch.Generator) -> None:
    shape, p = (100_000,), 0.0025
    logits = torch.full(shape, math.log(p / (1 - p)), dtype=torch.bfloat16)
    for rare in (Bernoulli(logits=logits), GrayBernoulli(logits=logits)):
        drawn = (draw(rare, generator) > 0).double().mean().item()
        assert drawn == pytest.approx(p, abs=5 * math.sqrt(p / shape[0]) + 0.01 * p)
    uniform = Categorical(logits=torch.zeros(*shape, 256, dtype=torch.bfloat16))
    counts = torch.bincount(draw(uniform, generator), minlength=256) / shape[0] * 256
    assert (counts - 1).abs().max() < 6 / math.sqrt(shape[0] / 256)


# -- copies


@every_case
def test_saved_model_is_rebuilt_from_plain_types(case: Case, tmp_path: Path) -> None:
    model, x, condition = case.build(), case.levels(5), case.labels(5)
    save_file(model.state_dict(), tmp_path / "model.safetensors")
    description = {
        "event": events.to_dict(model.event),
        "hyperparameters": model.hyperparameters.to_dict(),
    }
    read = json.loads(json.dumps(description))
    event = events.from_dict(read["event"])
    again = Case(case.model, event, read["hyperparameters"], case.mask).create().double()
    again.load_state_dict(load_file(tmp_path / "model.safetensors"))
    assert again.hyperparameters == model.hyperparameters and again.event == model.event
    assert torch.equal(again.log_prob(x, condition), model.log_prob(x, condition))


@every_case
def test_construction_is_a_function_of_the_seed(case: Case) -> None:
    first, second = [], []
    for parameters in (first, second):
        torch.manual_seed(7)
        parameters += case.create().parameters()
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


@every_case
def test_deepcopy_scores_the_same_and_shares_nothing(case: Case) -> None:
    model, x, condition = case.build(), case.levels(5), case.labels(5)
    expected = model.log_prob(x, condition).detach()
    twin = copy.deepcopy(model)
    randomize(model, seed=1)
    assert torch.equal(twin.log_prob(x, condition), expected)
    assert not torch.equal(model.log_prob(x, condition), expected)


@every_case
def test_repr_names_event_and_size(case: Case) -> None:
    model = case.create()
    assert str(case.event) in repr(model) and "parameters=" in repr(model)


# -- bad arguments

X = torch.zeros(2, 1, 3, 3)
MASK = torch.ones(3, 3).bool()[None]
BAD_CALLS = [
    (lambda m: m.log_prob(X[0]), ["x", "(batch, 1, 3, 3)", "(1, 3, 3)"]),
    (lambda m: m.log_prob(X[..., :2]), ["x", "(batch, 1, 3, 3)", "(2, 1, 3, 2)"]),
    (lambda m: m.log_prob(X.tolist()), ["x", "tensor", "list"]),
    (lambda m: m.log_prob(X + 2), ["x", "[0, 2)", "[2, 2]"]),
    (lambda m: m.log_prob(X - 1), ["x", "[0, 2)", "[-1, -1]"]),
    (lambda m: m.log_prob(X + 0.5), ["x", "integer levels", "fractional"]),
    (lambda m: m.log_prob(X + torch.nan), ["x", "integer levels", "fractional"]),
    (lambda m: m.log_prob(X + torch.inf), ["x", "[0, 2)", "inf"]),
    (lambda m: m.log_prob(X.to(torch.complex64)), ["x", "integer levels", "complex64"]),
    (lambda m: m.conditionals(X + 2), ["x", "[0, 2)", "[2, 2]"]),
    (lambda m: m(X[0]), ["x", "(batch, 1, 3, 3)", "(1, 3, 3)"]),
    (lambda m: m.log_prob(X, torch.zeros(2).long()), ["condition", "None", "tensor"]),
    (lambda m: m(X, torch.zeros(2).long()), ["condition", "None", "tensor"]),
    (lambda m: m.decoder(2, torch.zeros(2).long()), ["condition", "None", "tensor"]),
    (lambda m: m.sample(0), ["n", ">= 1", "0"]),
    (lambda m: m.sample(-3), ["n", ">= 1", "-3"]),
    (lambda m: m.sample(2.0), ["n", ">= 1", "2.0"]),
    (lambda m: m.sample(True), ["n", ">= 1", "True"]),
    (lambda m: m.sample(2, torch.zeros(2).long()), ["condition", "None", "tensor"]),
    (lambda m: m.sample(2, temperature=0), ["temperature", "> 0", "0"]),
    (lambda m: m.sample(2, temperature=-1.0), ["temperature", "> 0", "-1.0"]),
    (lambda m: m.sample(2, temperature=float("nan")), ["temperature", "> 0", "nan"]),
    (lambda m: m.sample(2, temperature="hot"), ["temperature", "> 0", "'hot'"]),
    (lambda m: m.impute(X, MASK.long()), ["observed", "bool", "int64"]),
    (lambda m: m.impute(X, [True]), ["observed", "bool", "[True]"]),
    (lambda m: m.impute(X, MASK[..., 0]), ["observed", "(2, 1, 3, 3)", "(1, 3)"]),
    (lambda m: m.impute(X + 2, MASK), ["x", "[0, 2)", "2"]),
    (lambda m: m.impute(X.tolist(), MASK), ["x", "tensor", "list"]),
    (lambda m: m.impute(X[0], MASK), ["x", "(batch, 1, 3, 3)", "(1, 3, 3)"]),
    (lambda m: m.impute(X, MASK, temperature=0), ["temperature", "> 0", "0"]),
]
BAD_CONDITIONS = [
    (None, ["condition", "(2,)", "None"]),
    ([0, 1], ["condition", "(2,)", "[0, 1]"]),
    (torch.zeros(3).long(), ["condition", "(2,)", "(3,)"]),
    (torch.zeros(2, 1).long(), ["condition", "(2,)", "(2, 1)"]),
    (torch.zeros(2), ["condition", "int64", "float32"]),
    (torch.zeros(2).bool(), ["condition", "int64", "bool"]),
    (torch.zeros(2).byte(), ["condition", "int64", "uint8"]),
]


def refuses(call: Callable[[], object], parts: list[str]) -> None:
    """Check that the error is one ValueError that names argument, expectation and what came."""
    with pytest.raises(ValueError, match="^" + re.escape(parts[0])) as caught:
        call()
    assert all(part in str(caught.value) for part in parts), str(caught.value)


@every_model
@pytest.mark.parametrize(("call", "parts"), BAD_CALLS)
def test_bad_arguments_are_named(name: str, call: Callable, parts: list[str]) -> None:
    model = arcore.create_model(name, NINE)
    refuses(lambda: call(model), parts)


@every_model
@pytest.mark.parametrize(("condition", "parts"), BAD_CONDITIONS)
def test_bad_conditions_are_named(name: str, condition: object, parts: list[str]) -> None:
    model = arcore.create_model(name, NINE, num_classes=3)
    for method in (model.log_prob, model, model.conditionals):
        refuses(lambda method=method: method(X, condition), parts)
    refuses(lambda: model.sample(2, condition), parts)
    refuses(lambda: model.decoder(2, condition), parts)
    refuses(lambda: model.impute(X, MASK, condition), parts)


@every_model
@pytest.mark.parametrize("label", [-1, 3])
def test_classes_out_of_range_are_refused(name: str, label: int) -> None:
    model = arcore.create_model(name, NINE, num_classes=3)
    refuses(
        lambda: model.log_prob(X, torch.tensor([0, label])), ["condition", "[0, 3)", str(label)]
    )


@every_model
def test_decoder_ends(name: str) -> None:
    model: AutoregressiveModel = arcore.create_model(name, CUBE)
    decoder = model.decoder(2)
    for block in decoder.blocks:
        decoder.next()
        decoder.push(torch.zeros(2, len(block)).long())
    for method, argument in ((decoder.next, ()), (decoder.push, (torch.zeros(2, 1),))):
        refuses(lambda m=method, a=argument: m(*a), [method.__name__, "a block left", "the end"])


@every_case
def test_built_on_meta_and_loaded_scores_the_same(case: Case) -> None:
    model, x, condition = case.build(), case.levels(4), case.labels(4)
    with torch.device("meta"):
        other = case.create().double()
    other = other.to_empty(device="cpu")
    other.load_state_dict(model.state_dict())
    assert torch.equal(other.log_prob(x, condition), model.log_prob(x, condition))
