"""Cases of conv_nade."""

from __future__ import annotations

from arcore.events import Binary, Levels
from tests.support.cases import Case
from tests.support.events import CUBE, NINE, RGB, UNEVEN, WIDE

SMALL = {"channels": [6, 6], "kernels": [3, 2]}

CASES = [
    Case("conv_nade-raster", NINE, {**SMALL, "hidden": [8], "ordering": "raster"}),
    Case(
        "conv_nade-orders",
        NINE,
        {"channels": [6, 4], "kernels": [2, 2], "hidden": [12, 8], "num_orderings": 3},
        mask=2,
    ),
    Case(
        "conv_nade-wide-kernel",
        NINE,
        {"channels": [8], "kernels": [8], "hidden": [], "ordering": "column"},
    ),
    Case("conv_nade-no-hidden", WIDE, {**SMALL, "hidden": []}, full=False),
    Case("conv_nade-one-bit", Binary((1,)), {**SMALL, "hidden": [4]}),
    Case("conv_nade-vector", Binary((7,)), {**SMALL, "hidden": [8], "activation": "tanh"}),
    Case("conv_nade-classes", Levels(3, (2, 3)), {**SMALL, "hidden": [8], "num_classes": 2}),
    Case(
        "conv_nade-one-hot",
        CUBE,
        {**SMALL, "hidden": [8], "inputs": "one_hot", "mask_inputs": False},
    ),
    Case("conv_nade-rgb", RGB, {"channels": [6], "kernels": [2], "hidden": [], "num_classes": 2}),
    Case("conv_nade-clip", Binary((2, 1, 2, 2)), {**SMALL, "hidden": [8]}),
    Case(
        "conv_nade-uneven",
        UNEVEN,
        {**SMALL, "hidden": [12], "ordering": "reverse"},
    ),
    Case(
        "conv_nade-uneven-one-hot",
        UNEVEN,
        {**SMALL, "hidden": [4], "inputs": "one_hot", "condition_size": 2},
    ),
    Case(
        "conv_nade-given-vector",
        NINE,
        {**SMALL, "hidden": [12], "condition_size": 3},
    ),
]
