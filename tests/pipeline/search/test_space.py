"""Spaces of searches: what they accept, what they draw, and what they say of the rest."""

import re
from typing import Any

import numpy as np
import optuna
import pytest

from pipeline.search.space import KINDS, Parameter, parse_space
from tests.support.refusals import refused

EXAMPLES: dict[str, list[Any]] = {
    "choice": [[500], [500, 500], None, "raster", 0.5, True],
    "grid": ["raster", "snake"],
    "uniform": [0.0, 0.5],
    "loguniform": [0.0001, 0.1],
    "randint": [1, 4],
    "lograndint": [1, 1000],
}


def drawn(parameter: Parameter, count: int = 300) -> list[Any]:
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    asked = (study.ask({"x": parameter.distribution()}) for _ in range(count))
    return [parameter.decode(trial.params["x"]) for trial in asked]


@pytest.mark.parametrize("kind", KINDS)
def test_draws_are_plain_and_inside(kind: str) -> None:
    (parameter,) = parse_space({"model.x": {kind: EXAMPLES[kind]}}, "space")
    values = drawn(parameter)
    assert all(parameter.contains(value) for value in values)
    assert all(parameter.contains(parameter.decode(parameter.encode(value))) for value in values)
    if kind in ("choice", "grid"):
        assert all(option in values for option in EXAMPLES[kind])
    elif "int" in kind:
        low, high = EXAMPLES[kind]
        assert {type(value) for value in values} == {int}
        assert low <= min(values) and max(values) < high
        assert parameter.examples() == [low, high - 1]
    else:
        assert {type(value) for value in values} == {float}
        assert len(set(values)) == len(values)


def test_a_logarithmic_scale_draws_by_magnitude() -> None:
    (parameter,) = parse_space({"model.x": {"loguniform": [1e-4, 1.0]}}, "space")
    assert np.mean([value < 1e-2 for value in drawn(parameter)]) == pytest.approx(0.5, abs=0.1)


def test_nought_is_nought_however_it_is_written_and_one_is_not_true() -> None:
    (parameter,) = parse_space({"model.dropout": {"choice": [0, 0.1]}}, "space")
    assert parameter.contains(0.0) and not parameter.contains(False)
    assert parameter.decode(parameter.encode(0.0)) == 0
    assert parameter.encode(0.0) in parameter.distribution().choices
    (parameter,) = parse_space({"model.x": {"choice": [1, 2]}}, "space")
    assert parameter.contains(1) and not parameter.contains(True)


@pytest.mark.parametrize(
    ("space", "message"),
    [
        (None, "space: expected a mapping of parameters, got None"),
        ({}, "space: expected a mapping of parameters, got {}"),
        ({"ordering": {"choice": [1]}}, "space.ordering: expected a name below 'model.' or"),
        ({"cluster.num_workers": {"choice": [1]}}, "expected a name below 'model.' or 'trainer.'"),
        ({"model.x": [1, 2]}, "space.model.x: expected one of choice, grid, uniform"),
        ({"model.x": {"choice": [1], "grid": [2]}}, "space.model.x: expected one of choice"),
        ({"model.x": {"choise": [1]}}, "kind of space.model.x 'choise'; did you mean 'choice'?"),
        ({"model.x": {"choice": []}}, "space.model.x.choice: expected a list, got []"),
        ({"model.x": {"choice": [[1], [1]]}}, "expected distinct options, got [[1], [1]]"),
        ({"model.x": {"uniform": [1.0]}}, "expected two numbers [low, high], low < high"),
        ({"model.x": {"uniform": [2.0, 1.0]}}, "space.model.x.uniform: expected two numbers"),
        ({"model.x": {"uniform": [0.0, float("inf")]}}, "expected two numbers [low, high]"),
        ({"model.x": {"uniform": ["a", "b"]}}, "expected two numbers [low, high]"),
        ({"model.x": {"randint": [0.5, 3]}}, "expected two integers [low, high]"),
        ({"model.x": {"randint": [False, 3]}}, "expected two integers [low, high]"),
        ({"model.x": {"loguniform": [0.0, 1.0]}}, "space.model.x.loguniform: expected low > 0"),
    ],
)
def test_bad_spaces_are_one_line(space: Any, message: str) -> None:
    with refused(re.escape(message)):
        parse_space(space, "space")
