"""Cases of deep_nade."""

from __future__ import annotations

from arcore.events import Binary, Levels
from tests.support.cases import Case
from tests.support.events import CUBE, NINE, SOME_ORDERINGS, UNEVEN

CASES = [
    *(
        Case(f"deep_nade-{name}", NINE, {"hidden": [12], "ordering": name})
        for name in SOME_ORDERINGS
    ),
    Case("deep_nade-one-bit", Binary((1,))),
    Case("deep_nade-one-level", Levels(3, (1,)), {"hidden": [4, 4], "num_classes": 2}),
    Case("deep_nade-three-layers", Binary((7,)), {"hidden": [12, 12, 12], "activation": "tanh"}),
    Case(
        "deep_nade-no-mask-inputs",
        NINE,
        {"hidden": [12], "mask_inputs": False, "ordering": "spiral"},
    ),
    Case("deep_nade-one-hot", CUBE, {"hidden": [16, 16], "inputs": "one_hot", "num_classes": 3}),
    Case("deep_nade-five-levels", Levels(5, (3,)), {"hidden": [8], "ordering_seed": 7}),
    Case("deep_nade-orders", NINE, {"hidden": [12, 12], "num_orderings": 4}, mask=3),
    Case(
        "deep_nade-any-order",
        CUBE,
        {"hidden": [16], "activation": "tanh", "ordering": "snake"},
        mask=1000,
    ),
    Case("deep_nade-uneven", UNEVEN, {"hidden": [12], "ordering": "reverse"}),
    Case(
        "deep_nade-uneven-one-hot",
        UNEVEN,
        {"hidden": [12], "inputs": "one_hot", "condition_size": 2},
    ),
    Case("deep_nade-vector", NINE, {"hidden": [12], "condition_size": 3}),
]
