"""Cases of rnade."""

from __future__ import annotations

from typing import Any

from arcore.events import Real
from tests.support.cases import Case
from tests.support.events import REALS, SOME_ORDERINGS

DENSITY: dict[str, Any] = {"hidden": 6, "components": 3}

CASES = [
    *(Case(f"rnade-{name}", REALS, {**DENSITY, "ordering": name}) for name in SOME_ORDERINGS),
    Case("rnade-one-real", Real((1,))),
    Case("rnade-plane", Real((2,)), {"hidden": 4, "components": 1, "min_log_scale": -1.0}),
    Case(
        "rnade-laplace-classes", Real((2,)), {**DENSITY, "component": "laplace", "num_classes": 3}
    ),
    Case("rnade-uneven-blocks", Real((12,)), {**DENSITY, "block": 5}),
    Case("rnade-laplace", Real((7,)), {**DENSITY, "block": 1, "component": "laplace"}),
    Case(
        "rnade-classes",
        REALS,
        {**DENSITY, "num_classes": 2, "block": 4, "ordering": "random", "ordering_seed": 7},
    ),
    Case(
        "rnade-sigma-preconditioner", REALS, {**DENSITY, "sigma_preconditioner": True, "block": 4}
    ),
    Case("rnade-bins", Real((2, 2), bin_width=0.25), {"hidden": 8, "mean_range": (-1.0, 2.0)}),
    Case("rnade-vector", REALS, {**DENSITY, "condition_size": 3, "block": 4}),
    Case("rnade-plane-vector", Real((2,)), {**DENSITY, "condition_size": 2}),
]
