"""Properties of drawing: samples and completions follow the very probabilities that score them."""

import dataclasses
import math

import pytest
import torch
from torch import Tensor
from torch.distributions import Bernoulli, Categorical
from torch.testing import assert_close

import arcore
from arcore import generation
from arcore.decoding import Decoder
from arcore.distributions.drawing import SamplingOptions
from arcore.model import AutoregressiveModel
from arcore.models import NADE
from tests.arcore.cases import FEWEST, FIRST, cases_where, every_model, every_option
from tests.support.cases import Case, create, declares, event_of
from tests.support.events import NINE
from tests.support.refusals import refuses
from tests.support.statistics import all_levels, chi_square_p_value, state_of

few_states = cases_where(lambda case: case.tiny or case.num_states <= 600, tiny=True)
few_options = cases_where(
    lambda case: case.tiny or (case in FEWEST and case.num_states <= 600), tiny=True
)


def expanded(condition: Tensor | None, rows: int) -> Tensor | None:
    return None if condition is None else condition.expand(rows, *condition.shape[1:])


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


@every_option
def test_sample_scores_what_sampling_saw(case, generator, monkeypatch) -> None:
    model, condition = case.build_exact(), case.condition(11)
    recorder = Recorder(model.decoder(11, condition))
    monkeypatch.setattr(model, "decoder", lambda batch, condition: recorder)
    x = model.sample(11, condition, generator)
    dtype = torch.int64 if case.discrete else torch.float64
    assert x.shape == (11, *case.event.shape) and x.dtype == dtype
    assert_close(model.log_prob(x, condition), recorder.total, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(("products", "threads"), [(0, 2), (generation.PRODUCTS_FOR_THREADS, 1)])
def test_small_steps_are_drawn_in_one_thread(products, threads, generator, monkeypatch) -> None:
    """Where the machine is busy, two threads would wait for each other after every operation."""
    model, seen, before = create(NADE, event_of(NADE)), [], torch.get_num_threads()
    decoder = model.decoder
    monkeypatch.setattr(generation, "PRODUCTS_FOR_THREADS", products)
    monkeypatch.setattr(
        model, "decoder", lambda *given: seen.append(torch.get_num_threads()) or decoder(*given)
    )
    torch.set_num_threads(2)
    try:
        x = model.sample(3, generator=generator)
        model.impute(x, torch.zeros_like(x, dtype=torch.bool), generator=generator)
        assert seen == [threads, threads] and torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


@every_option
def test_sample_is_a_function_of_the_generator(case: Case) -> None:
    """Whatever the default device is."""
    model, condition = case.build(), case.condition(16)
    first, same, other = (torch.Generator().manual_seed(seed) for seed in (1, 1, 2))
    drawn = model.sample(16, condition, first)
    with torch.device("meta"):
        assert torch.equal(model.sample(16, condition, same), drawn)
    assert not torch.equal(model.sample(16, condition, other), drawn)


@few_states
def test_sampled_frequencies_fit_the_probabilities(case: Case, generator: torch.Generator) -> None:
    model, states, n = case.build_exact(), all_levels(case.event), 2000
    for condition in case.conditions(1):
        drawn = state_of(model.sample(n, expanded(condition, n), generator), case.event)
        with torch.no_grad():
            probabilities = model.log_prob(states, expanded(condition, len(states))).exp()
        assert chi_square_p_value(drawn, probabilities) > 1e-4


@few_options
def test_temperature_scales_every_conditional(case: Case, generator: torch.Generator) -> None:
    model, states, n = case.build_exact(), all_levels(case.event), 2000
    condition = case.conditions(1)[0]
    temperature = 3.0 if condition is None else 0.5
    conditionals = model.conditionals(states, expanded(condition, len(states)))
    kind = Bernoulli if isinstance(conditionals, Bernoulli) else Categorical
    tempered = kind(logits=conditionals.logits.detach() / temperature)
    probabilities = tempered.log_prob(states.double()).flatten(1).sum(1).exp()
    sampled = model.sample(n, expanded(condition, n), generator, temperature)
    assert chi_square_p_value(state_of(sampled, case.event), probabilities) > 1e-4


@few_options
def test_impute_draws_the_posterior_where_the_observed_come_first(case, generator) -> None:
    model, n = case.build_exact(), 2000
    first = torch.cat(model.schedule)[: case.event.size // 2]
    observed = torch.zeros(case.event.size, dtype=torch.bool)
    observed[first] = True
    x, states = case.values(1, seed=3).expand(n, *case.event.shape), all_levels(case.event)
    condition = case.conditions(1)[0]
    mask = observed.view(case.event.shape)
    completed = model.impute(x, mask, expanded(condition, n), generator)
    assert torch.equal(completed.flatten(1)[:, first], x.flatten(1)[:, first])

    with torch.no_grad():
        joint = model.log_prob(states, expanded(condition, len(states))).exp()
    joint[(states.flatten(1)[:, first] != x.flatten(1)[:1, first]).any(1)] = 0
    assert chi_square_p_value(state_of(completed, case.event), joint / joint.sum()) > 1e-4


@every_option
def test_impute_keeps_observed_values_and_ignores_the_others(case, generator) -> None:
    model, x, condition = case.build(), case.values(9), case.condition(9)
    observed = torch.rand(x.shape, generator=generator) < 0.5
    garbage = torch.where(observed, x.double(), torch.nan)
    completed = model.impute(garbage, observed, condition, generator)
    assert torch.equal(completed[observed], x[observed])
    case.event.check(completed)
    assert torch.equal(model.impute(x, torch.ones_like(observed), condition), x)
    if case is not FIRST[case.model]:  # parts and empty batches depend on the method alone
        return
    state, drawn = generator.get_state(), []
    for rows in (slice(0, 5), slice(5, 9)):
        label = None if condition is None else condition[rows]
        drawn.append(model.impute(x[rows], observed[rows], label, generator))
    generator.set_state(state)
    assert torch.equal(model.impute(x, observed, condition, generator, batch=5), torch.cat(drawn))
    none, some = x[:0], torch.zeros(x.shape[1:], dtype=torch.bool)
    some.flatten()[0] = True
    for seen in (torch.zeros_like(some), some, torch.ones_like(some)):
        assert model.impute(none, seen, case.condition(0)).shape == none.shape


@every_option
def test_weights_that_are_not_finite_draw_nothing(case: Case) -> None:
    """Levels drawn from NaN would look like any others."""
    model, condition = case.build(), case.condition(2)
    x = case.values(2)
    observed = torch.zeros(x.shape, dtype=torch.bool)
    for value in (math.nan, math.inf):
        with torch.no_grad():
            next(model.parameters()).view(-1)[-1] = value
        refuses(lambda: model.sample(2, condition), ["weights", "finite numbers", "NaN"])
        refuses(lambda: model.impute(x, observed, condition), ["weights", "finite", "NaN"])


@cases_where(lambda case: case.discrete and case in FEWEST)
def test_near_zero_a_temperature_takes_the_most_probable(case: Case) -> None:
    model, condition = case.build_exact().eval(), case.condition(6)
    decoder = model.decoder(6, condition)
    with torch.no_grad():
        for _ in decoder.blocks:
            following = decoder.next()
            if isinstance(following, Bernoulli):
                likely = (following.logits > 0).long() * (case.event.num_levels - 1)
            else:
                likely = following.logits.argmax(-1)
            for temperature in (1e-12, 1e-42, 1e-300, 5e-324):
                assert torch.equal(decoder.draw(None, temperature), likely), temperature
            decoder.push(likely)


@cases_where(lambda case: declares(case.kind, "dropout") and case is FIRST[case.model])
def test_nothing_is_dropped_in_drawing(case: Case) -> None:
    """A model that was just made is in training."""
    given = {**case.hyperparameters, "dropout": 0.5}
    model = dataclasses.replace(case, hyperparameters=given).build().train()
    x, condition = case.values(5), case.condition(5)
    observed = torch.zeros(x.shape[1:], dtype=torch.bool)
    drawn = []
    for training in (True, False):
        model.train(training)
        drawn.append(model.sample(5, condition, torch.Generator().manual_seed(0)))
        drawn.append(model.impute(x, observed, condition, torch.Generator().manual_seed(0)))
        assert all(module.training is training for module in model.modules())
    assert torch.equal(drawn[0], drawn[2]) and torch.equal(drawn[1], drawn[3])


@every_option
def test_drawing_at_once_is_drawing_step_by_step(case: Case) -> None:
    """A decoder's own `draw_rest` gives the very numbers of `draw` and `push` in turn."""
    model, condition = case.build().eval(), case.condition(5)
    parts = []
    for draw_rest in (type(model.decoder(5, condition)).draw_rest, Decoder.draw_rest):
        torch.manual_seed(2)  # for latents, which a decoder draws when it is made
        decoder, generator = model.decoder(5, condition), torch.Generator().manual_seed(3)
        with torch.no_grad():
            parts.append(torch.cat(draw_rest(decoder, SamplingOptions(generator)), 1))
            assert draw_rest(decoder, SamplingOptions(generator)) == [], "nothing is left"
    assert torch.equal(*parts)


OVERFLOWING = ("MADE", "NADE", "PixelCNN", "GatedPixelCNN", "WaveNet", "DeepNADE", "RNADE")


@every_model
def test_finite_weights_that_overflow_draw_nothing(kind: type[AutoregressiveModel]) -> None:
    built = create(kind, event_of(kind))
    signs = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in built.parameters():
            weight.copy_(3e38 * (2.0 * torch.randint(2, weight.shape, generator=signs) - 1))
    try:
        drawn = built.sample(3)
    except ValueError as error:
        assert "got NaN on the way" in str(error)
    else:
        assert kind.__name__ not in OVERFLOWING
        built.log_prob(drawn)


def test_finite_weights_that_overflow_score_nothing() -> None:
    model, x = arcore.create_model("pixelcnn", NINE), torch.ones(2, 1, 3, 3)
    with torch.no_grad():
        for weight in model.parameters():
            weight.fill_(1e10)
    for call in (model.log_prob, model.bits_per_dim):
        refuses(lambda call=call: call(x), ["weights", "are numbers, got NaN on the way"])
    assert model.member_log_probs(x).isnan().all()
