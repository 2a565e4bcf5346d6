"""Cases of nade."""

from __future__ import annotations

from arcore.events import Binary, Levels
from tests.support.cases import Case
from tests.support.events import CUBE, NINE, SOME_ORDERINGS, UNEVEN

CASES = [
    *(Case(f"nade-{name}", NINE, {"hidden": 8, "ordering": name}) for name in SOME_ORDERINGS),
    Case("nade-one-bit", Binary((1,))),
    Case("nade-one-level", Levels(3, (1,))),
    Case("nade-uneven-blocks", Binary((12,)), {"hidden": 8, "block": 5}),
    Case("nade-relu", NINE, {"hidden": 8, "activation": "relu", "block": 1}),
    Case("nade-cube-snake", CUBE, {"hidden": 8, "ordering": "snake", "block": 3}),
    Case(
        "nade-one-hot", CUBE, {"hidden": 8, "inputs": "one_hot", "ordering": "random", "block": 3}
    ),
    Case(
        "nade-one-hot-relu",
        CUBE,
        {"hidden": 8, "inputs": "one_hot", "activation": "relu", "block": 8},
    ),
    Case(
        "nade-classes",
        Levels(5, (3,)),
        {"hidden": 4, "num_classes": 3, "ordering": "random", "ordering_seed": 7},
    ),
    Case("nade-one-hidden", Levels(2, (5,)), {"hidden": 1, "ordering": "reverse"}),
    Case("nade-uneven", UNEVEN, {"hidden": 8, "ordering": "reverse"}),
    Case("nade-uneven-one-hot", UNEVEN, {"hidden": 8, "inputs": "one_hot", "condition_size": 2}),
    Case("nade-vector", NINE, {"hidden": 8, "condition_size": 3}),
]
