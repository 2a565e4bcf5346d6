"""The case table: one row for each model configuration that `tests/arcore/properties` check.

Each module here holds rows as `CASES`. A property takes the rows, or the models,
that it is about by what they declare, never by name: `cases_where`, `models_where`.
"""

import dataclasses
import functools
import importlib
import inspect
import pkgutil
from collections.abc import Callable
from typing import Any

import pytest

import arcore
from arcore.events import Levels
from arcore.model import AutoregressiveModel
from arcore.zoo import model_class
from tests.support import worked_example
from tests.support.cases import Case

CASES: list[Case] = [
    case
    for module in pkgutil.iter_modules(__path__)
    for case in importlib.import_module(f"{__name__}.{module.name}").CASES
] + worked_example.cases()
FIRST = {case.model: case for case in reversed(CASES) if case.event.size > 1}
MODELS: dict[str, type[AutoregressiveModel]] = {
    **{name: model_class(name) for name in arcore.list_models()},
    **{case.model: case.defined for case in CASES if case.defined is not None},
}


def cases_where(
    holds: Callable[[Case], bool], tiny: bool = False
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Run a test on the cases of which something holds, those marked tiny only if asked for.

    The cases of a model are one test, which stops at the first that fails and names it: to pytest
    thousands of tests cost more than what they do.
    """
    chosen: dict[str, list[Case]] = {}
    for case in CASES:
        if (tiny or not case.tiny) and holds(case):
            chosen.setdefault(case.model, []).append(case)

    def decorated(test: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(test)
        def each(cases: list[Case], **fixtures: Any) -> None:
            generator = fixtures.get("generator")
            state = None if generator is None else generator.get_state()
            for case in cases:
                if generator is not None:
                    generator.set_state(state)
                try:
                    test(case=case, **fixtures)
                except Exception as error:
                    error.add_note(f"case {case}")
                    raise

        signature = inspect.signature(test)
        taken = [
            parameter.replace(name="cases") if parameter.name == "case" else parameter
            for parameter in signature.parameters.values()
        ]
        each.__signature__ = signature.replace(parameters=taken)  # type: ignore[attr-defined]
        return pytest.mark.parametrize("cases", list(chosen.values()), ids=list(chosen))(each)

    return decorated


def models_where(holds: Callable[[type[AutoregressiveModel]], bool]) -> pytest.MarkDecorator:
    """Run a test on the models, as `kind`, of which something holds."""
    chosen = {name: kind for name, kind in MODELS.items() if holds(kind)}
    return pytest.mark.parametrize("kind", chosen.values(), ids=chosen)


def options_of(case: Case) -> set[object]:
    """What a case shows: its kind of event, what it names (S-curves or not), what it turns on."""
    unset = {field.name: field.default for field in dataclasses.fields(case.kind.Config)}
    uneven = isinstance(case.event, Levels) and case.event.uneven is not None
    return {(type(case.event), uneven)} | {
        (name, value if name != "ordering" else value == "s_curve")
        if isinstance(value, str | bool)
        else name
        for name, value in case.hyperparameters.items()
        if isinstance(value, str | bool) or not unset[name]
    }


def fewest_cases() -> set[Case]:
    """For each model as few cases as show together what all of them do."""
    chosen = set(FIRST.values())
    for model, first in FIRST.items():
        cases = [case for case in CASES if case.model == model and not case.tiny]
        left = set().union(*map(options_of, cases)) - options_of(first)
        while left:
            best = max(cases, key=lambda case: len(options_of(case) & left))
            left -= options_of(best)
            chosen.add(best)
    return chosen


FEWEST = fewest_cases()
every_case = cases_where(lambda case: True)
every_option = cases_where(lambda case: case in FEWEST)  # for what does not depend on sizes
every_model = models_where(lambda kind: True)
