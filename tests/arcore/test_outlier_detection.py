"""The fitted detector: its threshold, the interval of its rate, its scores and its files."""

import json
import math
from pathlib import Path

import pytest
import torch

import arcore
from arcore.inference import OutlierDetector, Threshold
from tests.support.refusals import refuses
from tests.support.statistics import all_levels

BITS = arcore.events.Binary((1, 2, 3))


def model_of(seed: int = 0, **hyperparameters: object) -> arcore.AutoregressiveModel:
    torch.manual_seed(seed)
    model = arcore.create_model("nade", BITS, hidden=4, **hyperparameters)
    with torch.no_grad():  # far from uniform
        for weight in model.parameters():
            weight.add_(torch.randn_like(weight))
    return model


@pytest.mark.parametrize(("rows", "rate"), [(19, 0.05), (99, 0.1), (250, 0.37), (9, 0.9)])
def test_a_threshold_is_an_order_statistic_whose_share_below_is_beta(rows, rate) -> None:
    from scipy import stats  # which takes long

    scores = torch.randperm(rows, generator=torch.Generator().manual_seed(0)) + 1.0
    found = Threshold.fit(scores, rate)
    rank = math.floor(rate * (rows + 1))
    assert found.score == pytest.approx(rank, rel=2e-6) and found.num_rows == rows
    assert found.score < rank, "the row of this rank is inside, however it is rounded"
    ends = stats.beta(rank, rows + 1 - rank).ppf([0.025, 0.975])
    assert [found.low, found.high] == pytest.approx(ends, rel=1e-9)


def test_the_rate_reached_is_in_the_interval_as_often_as_it_says() -> None:
    scores = torch.rand(2000, 60, generator=torch.Generator().manual_seed(0))
    one = Threshold.fit(scores[0], 0.1)
    reached = scores.double().kthvalue(6, 1).values  # of uniform scores, the threshold is its rate
    assert float(reached[0]) == pytest.approx(one.score, abs=2e-6)
    inside = (one.low < reached) & (reached < one.high)
    assert float(inside.double().mean()) == pytest.approx(0.95, abs=0.015)


def test_scores_are_corrected_and_signs_are_those_of_scikit_learn() -> None:
    model, other, x = model_of(), model_of(1), all_levels(BITS)
    bits = [-one.log_prob(x).detach().double() / math.log(2) for one in (model, other)]
    ratio = OutlierDetector(model, 0.2, background=other).fit(x)
    length = OutlierDetector(model, 0.2, background=lambda x: x.flatten(1).sum(1).numpy()).fit(x)
    for rows in (x.numpy(), x[:, 0], x.flatten(1), x.movedim(1, -1)):
        torch.testing.assert_close(ratio.score_samples(rows), bits[1] - bits[0])
    torch.testing.assert_close(length.score_samples(x), x.flatten(1).sum(1) - bits[0])
    assert torch.equal(ratio.predict(x), 1 - 2 * (ratio.decision_function(x) < 0).long())
    assert int((ratio.predict(x) == -1).sum()) == math.floor(0.2 * 65) - 1


def test_what_is_saved_comes_back(tmp_path: Path) -> None:
    x, path, other = all_levels(BITS), tmp_path / "detector.json", model_of(1)
    detector = OutlierDetector(model_of(), 0.3, background=other)
    refuses(lambda: detector.save(path), ["detector", "a fitted one"])
    detector.fit(x).save(path)
    loaded = OutlierDetector(model_of(), background=other).load(path)
    assert (loaded.threshold, loaded.rate) == (detector.threshold, 0.3)
    assert torch.equal(loaded.predict(x), detector.predict(x))
    for change in (
        {"threshold": {}},
        {"threshold": vars(loaded.threshold) | {"score": "x"}},
        {"format": 2},
    ):
        path.write_text(json.dumps(json.loads(path.read_text()) | change))
        refuses(lambda: loaded.load(path), [str(path)])


ROWS = torch.zeros(30, 1, 2, 3)
BAD = [
    (lambda d: d.fit(ROWS[:18]), ["validation", "19 rows or more for a rate of 0.05", "got 18"]),
    (lambda d: d.fit(ROWS[:, 0, 1:]), ["validation", "shape (batch, 1, 2, 3)", "(30, 1, 3)"]),
    (lambda d: d.fit(ROWS).predict(ROWS + 2), ["x", "levels in [0, 2)"]),
    (lambda d: d.predict(ROWS), ["detector", "a fitted one", "None"]),
    (lambda d: OutlierDetector(d.model, 0.0), ["rate", "a number in (0, 1)", "0.0"]),
    (lambda d: OutlierDetector(d.model, 1), ["rate", "a number in (0, 1)", "1"]),
    (lambda d: OutlierDetector(model_of(num_classes=2)), ["model", "an unconditional model"]),
    (
        lambda d: OutlierDetector(d.model, background=lambda x: [0.0]).fit(ROWS),
        ["background", "finite bits of shape (30,)"],
    ),
    (lambda d: OutlierDetector(d.model, rate="0.1"), ["rate", "a number in (0, 1)", "'0.1'"]),
    (lambda d: OutlierDetector(d.model, rate=True), ["rate", "a number in (0, 1)", "True"]),
    (lambda d: d.load("nowhere"), ["nowhere", "a detector's file", "No such"]),
]


@pytest.mark.parametrize(("call", "parts"), BAD)
def test_bad_input_is_refused(call, parts: list[str]) -> None:
    refuses(lambda: call(OutlierDetector(model_of())), parts)
