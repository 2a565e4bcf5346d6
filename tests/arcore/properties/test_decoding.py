"""The incremental form: the same conditionals as in parallel, and errors at its edges."""

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from arcore.decoding import Decoder
from arcore.generation import RecomputingDecoder
from arcore.model import AutoregressiveModel
from tests.arcore.cases import FEWEST, cases_where, every_case, every_model, every_option
from tests.support.cases import Case, create, event_of
from tests.support.dependence import logits_of, parameters_of
from tests.support.refusals import refuses

TIGHT = {"rtol": 1e-9, "atol": 1e-9}


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
    model, x, condition = case.build_exact(), case.values(9), case.condition(9)
    fast, score = walk(model.decoder(9, condition), x)
    slow, _ = walk(RecomputingDecoder(model, 9, condition), x)
    assert_close(fast, slow, **TIGHT)
    assert_close(fast, logits_of(model, x, condition), **TIGHT)
    assert_close(score, model.log_prob(x, condition), **TIGHT)


@every_option
def test_values_may_be_pushed_without_their_distribution_or_after_it_twice(case: Case) -> None:
    """As a prefix that is given is: what follows depends on the values alone."""
    model, x, condition = case.build_exact(), case.values(3), case.condition(3)
    every, some = model.decoder(3, condition), model.decoder(3, condition)
    flat = x.flatten(1)
    for index, block in enumerate(every.blocks):
        expected = parameters_of(every.next())
        if index % 3 == 2:
            some.next()
            assert_close(parameters_of(some.next()), expected, **TIGHT)
        every.push(flat[:, block])
        some.push(flat[:, block])
    if len(every.blocks) > 1:
        last = model.decoder(3, condition)
        for block in last.blocks[:-1]:
            last.push(flat[:, block])
        assert_close(parameters_of(last.next()), expected, **TIGHT)


@every_option
def test_a_decoder_takes_blocks_of_its_shape_alone(case: Case) -> None:
    decoder = case.build_exact().decoder(2, case.condition(2))
    size = len(decoder.blocks[0])
    for values in (torch.zeros(2), torch.zeros(1, size), torch.zeros(2, size + 1), [[0]]):
        with pytest.raises(ValueError, match=rf"^values: expected .* \(2, {size}\)"):
            decoder.push(values)
    decoder.push(torch.zeros(2, size))


@every_model
def test_a_decoder_needs_a_batch(kind: type[AutoregressiveModel]) -> None:
    for batch in (-1, 2.0, "2"):
        with pytest.raises(ValueError, match="^batch: expected an integer >= 0"):
            create(kind, event_of(kind)).decoder(batch)


@every_model
def test_decoder_ends(kind: type[AutoregressiveModel]) -> None:
    decoder = create(kind, event_of(kind)).decoder(2)
    for block in decoder.blocks:
        decoder.next()
        decoder.push(torch.zeros(2, len(block)).long())
    for method, argument in ((decoder.next, ()), (decoder.push, (torch.zeros(2, 1),))):
        refuses(lambda m=method, a=argument: m(*a), [method.__name__, "a block left", "the end"])


@cases_where(lambda case: not case.follows_autocast)
def test_conditionals_are_those_of_scores_whatever_autocast(case: Case) -> None:
    model, x, condition = case.build_exact().float(), case.values(9), case.condition(9)
    plain, total = walk(model.decoder(9, condition), x)
    with torch.autocast("cpu", torch.bfloat16):
        coarse, other = walk(model.decoder(9, condition), x)
    assert torch.equal(coarse, plain) and torch.equal(other, total)


@cases_where(lambda case: case.discrete and case in FEWEST)
def test_conditionals_score_levels_of_any_dtype(case: Case) -> None:
    model, x, condition = case.build_exact(), case.values(9), case.condition(9)
    conditionals = model.conditionals(x, condition)
    expected = conditionals.log_prob(x.double())
    for dtype in (torch.int64, torch.uint8, torch.bfloat16):
        assert torch.equal(conditionals.log_prob(x.to(dtype)), expected)
    decoder = model.decoder(9, condition)
    first = decoder.next()
    drawn = decoder.draw(torch.Generator().manual_seed(0))
    assert drawn.dtype == torch.int64 and first.log_prob(drawn).isfinite().all()
