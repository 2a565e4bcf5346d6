"""Cases of wavenet."""

from __future__ import annotations

from arcore.events import Binary, Levels
from tests.support.cases import Case
from tests.support.events import CUBE, NINE

NET = {"width": 4, "gate_width": 3, "skip_width": 12, "cycle": 3, "num_blocks": 2}

CASES = [
    Case("wavenet-defaults", Binary((5,))),
    Case("wavenet-scaled", NINE, {**NET, "inputs": "scaled"}),
    Case("wavenet-one-bit", Binary((1,)), {**NET, "num_blocks": 1, "cycle": 1}),
    Case("wavenet-kernel-4", Binary((12,)), {**NET, "cycle": 2, "kernel": 4}),
    Case("wavenet-short-sight", Binary((12,)), {**NET, "cycle": 2}, full=False),  # sees 8 samples
    Case("wavenet-classes", Levels(5, (4,)), {**NET, "num_classes": 3}),
    Case("wavenet-vector", CUBE, {**NET, "kernel": 3, "condition_size": 3}),
    Case(
        "wavenet-mixture",
        CUBE,
        {**NET, "head": "logistic_mixture", "num_mixtures": 3, "num_classes": 2},
    ),
    Case(
        "wavenet-symbols",
        Levels(4, (7,)),
        {**NET, "local_classes": 3, "local_strides": [2], "local_width": 5},
    ),
    Case(
        "wavenet-symbols-classes",
        Binary((11,)),
        {**NET, "num_classes": 2, "local_classes": 3, "local_strides": [2, 2], "kernel": 3},
    ),
    Case(
        "wavenet-symbols-repeat",
        Levels(3, (5,)),
        {**NET, "local_classes": 2, "local_strides": [5], "upsampling": "repeat", "num_classes": 2},
    ),
    Case(
        "wavenet-features-mixture",
        Levels(5, (6,)),
        {**NET, "local_size": 2, "local_strides": [4], "head": "logistic_mixture"},
    ),
    Case(
        "wavenet-tiny-features",
        Levels(4, (4,)),
        {**NET, "local_size": 2, "local_strides": [2], "head": "logistic_mixture"},
        tiny=True,
    ),
]
