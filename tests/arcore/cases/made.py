"""Cases of made."""

from __future__ import annotations

from arcore.events import Binary, Levels
from tests.support.cases import Case
from tests.support.events import CUBE, NINE, SOME_ORDERINGS, UNEVEN

TANH = {"hidden": [12, 12], "activation": "tanh"}

CASES = [
    *(Case(f"made-{name}", NINE, {"hidden": [24], "ordering": name}) for name in SOME_ORDERINGS),
    Case("made-one-bit", Binary((1,))),
    Case("made-one-level", Levels(3, (1,)), {"hidden": [4, 4], "num_classes": 2}),
    Case(
        "made-one-bit-any-mask",
        Binary((1,)),
        {"num_masks": 0, "order_agnostic": True, "direct": False},
    ),
    Case("made-two-layers", Binary((12,)), {"hidden": [24, 24], "activation": "tanh"}),
    Case("made-wide", Binary((6,)), {"hidden": [520, 520]}),  # wide enough for groups of rows
    Case(
        "made-three-layers",
        NINE,
        {"hidden": [24, 16, 24], "activation": "sigmoid", "direct": False},
    ),
    Case(
        "made-conditioning",
        NINE,
        {"hidden": [16], "conditioning_weights": True, "ordering": "random"},
    ),
    Case("made-one-hot", CUBE, {"hidden": [24, 24], "inputs": "one_hot", "ordering": "column"}),
    Case(
        "made-conditioning-cube",
        CUBE,
        {"hidden": [24], "direct": False, "conditioning_weights": True},
    ),
    Case("made-classes", Levels(5, (3,)), {"hidden": [6], "num_classes": 3, "inputs": "one_hot"}),
    Case("made-one-hidden", Levels(2, (5,)), {"hidden": [1], "activation": "tanh"}),
    Case(
        "made-narrow", CUBE, {"hidden": [1, 1], "direct": False, "activation": "tanh"}, full=False
    ),
    Case("made-masks", NINE, {"hidden": [12], "num_masks": 4}, mask=3),
    Case("made-orders", NINE, {"hidden": [12, 12], "num_masks": 3, "order_agnostic": True}, mask=2),
    Case("made-masks-narrow", NINE, {"num_masks": 3, "direct": False, **TANH}, mask=1, full=False),
    Case(
        "made-orders-classes",
        CUBE,
        {
            "hidden": [16],
            "num_masks": 5,
            "order_agnostic": True,
            "connectivity_agnostic": False,
            "inputs": "one_hot",
            "num_classes": 2,
        },
        mask=4,
    ),
    Case(
        "made-any-mask",
        NINE,
        {
            "hidden": [12, 12],
            "num_masks": 0,
            "order_agnostic": True,
            "conditioning_weights": True,
            "ordering": "spiral",
        },
        mask=1000,
    ),
    Case("made-uneven", UNEVEN, {"hidden": [12, 12], "ordering": "reverse"}),
    Case(
        "made-uneven-one-hot",
        UNEVEN,
        {"hidden": [12, 12], "inputs": "one_hot", "condition_size": 2},
    ),
    Case("made-vector", NINE, {"hidden": [12, 12], "condition_size": 3}),
]
