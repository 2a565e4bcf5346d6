"""Cases of pixelcnn."""

from __future__ import annotations

from arcore.events import Binary, Levels
from tests.support.cases import Case
from tests.support.events import CUBE, NINE, RGB, TALL

CASES = [
    # a blind spot is part of PixelCNN: a kernel as wide as the image leaves none
    Case("pixelcnn-wide-kernel", NINE, {"hidden": 4, "num_blocks": 2, "first_kernel": 5}),
    Case(
        "pixelcnn-blind-spot", NINE, {"hidden": 4, "num_blocks": 2, "first_kernel": 3}, full=False
    ),
    Case("pixelcnn-one-bit", Binary((1,)), {"hidden": 1, "num_blocks": 1}),
    Case("pixelcnn-vector", Binary((7,)), {"hidden": 8, "num_blocks": 1, "first_kernel": 13}),
    Case("pixelcnn-levels", CUBE, {"hidden": 9, "num_blocks": 2, "head_width": 33}),
    Case(
        "pixelcnn-one-hot",
        CUBE,
        {"hidden": 4, "num_blocks": 1, "inputs": "one_hot", "num_classes": 2},
    ),
    Case(
        "pixelcnn-mixture",
        CUBE,
        {"hidden": 3, "num_blocks": 1, "head": "logistic_mixture", "num_mixtures": 3},
    ),
    *(
        Case(
            f"pixelcnn-{name}",
            NINE,
            {"hidden": 4, "num_blocks": 2, "first_kernel": 5, "ordering": name},
        )
        for name in ("column", "random")
    ),
    Case(
        "pixelcnn-vector-condition",
        CUBE,
        {"hidden": 6, "num_blocks": 2, "first_kernel": 5, "condition_size": 3, "kernel": 5},
    ),
    Case(
        "pixelcnn-map",
        TALL,
        {
            "hidden": 6,
            "num_blocks": 2,
            "first_kernel": 7,
            "condition_shape": (1, 2, 3),
            "condition_width": 4,
        },
    ),
    Case(
        "pixelcnn-prediction",
        CUBE,
        {"hidden": 4, "num_blocks": 1, "head": "logistic_mixture", "linear_prediction": 3},
    ),
    Case("pixelcnn-rgb", RGB, {"hidden": 6, "num_blocks": 1, "num_classes": 2}),
    Case(
        "pixelcnn-rgb-random",
        RGB,
        {"hidden": 6, "num_blocks": 1, "ordering": "random", "ordering_seed": 3, "kernel": 1},
    ),
    Case(
        "pixelcnn-tiny-mixture",
        Levels(3, (2, 1, 2)),
        {"hidden": 4, "head": "logistic_mixture"},
        tiny=True,
    ),
]
