"""The case table: one row for each model configuration that `tests/arcore/properties` check.

Each module here holds rows as `CASES`. A property takes the rows, or the models,
that it is about by what they declare, never by name: `cases_where`, `models_where`.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable

import pytest

import arcore
from arcore.model import AutoregressiveModel
from arcore.zoo import model_class
from tests.support import worked_example
from tests.support.cases import Case

CASES: list[Case] = [
    case
    for module in pkgutil.iter_modules(__path__)
    for case in importlib.import_module(f"{__name__}.{module.name}").CASES
] + worked_example.cases()
MODELS: dict[str, type[AutoregressiveModel]] = {
    **{name: model_class(name) for name in arcore.list_models()},
    **{case.model: case.defined for case in CASES if case.defined is not None},
}


def cases_where(holds: Callable[[Case], bool], tiny: bool = False) -> pytest.MarkDecorator:
    """Run a test on the cases of which something holds, those marked tiny only if asked for."""
    chosen = [case for case in CASES if (tiny or not case.tiny) and holds(case)]
    return pytest.mark.parametrize("case", chosen, ids=str)


def models_where(holds: Callable[[type[AutoregressiveModel]], bool]) -> pytest.MarkDecorator:
    """Run a test on the models, as `kind`, of which something holds."""
    chosen = {name: kind for name, kind in MODELS.items() if holds(kind)}
    return pytest.mark.parametrize("kind", chosen.values(), ids=chosen)


every_case = cases_where(lambda case: True)
every_model = models_where(lambda kind: True)
