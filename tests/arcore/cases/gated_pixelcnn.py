"""Cases of gated_pixelcnn."""

from __future__ import annotations

from arcore.events import Binary, Levels
from arcore.primitives.orderings import ORDERINGS
from tests.support.cases import Case
from tests.support.events import CUBE, NINE, RGB, WIDE

CASES = [
    *(
        Case(f"gated_pixelcnn-{name}", NINE, {"width": 4, "num_layers": 3, "ordering": name})
        for name in ORDERINGS[1:]
    ),
    Case("gated_pixelcnn-column-wide", WIDE, {"width": 6, "num_layers": 4, "ordering": "column"}),
    Case(
        "gated_pixelcnn-reverse-map",
        Levels(2, (2, 2, 3)),
        {"width": 6, "num_layers": 2, "ordering": "reverse", "condition_shape": (1, 2, 3)},
    ),
    Case(
        "gated_pixelcnn-column-mixture",
        Levels(2, (2, 2, 3)),
        {
            "width": 6,
            "num_layers": 2,
            "ordering": "column",
            "head": "logistic_mixture",
            "linear_prediction": 5,
        },
    ),
    Case("gated_pixelcnn-raster", NINE, {"width": 4, "num_layers": 3}),
    Case(
        "gated_pixelcnn-wide", WIDE, {"width": 6, "num_layers": 4, "first_kernel": 3, "kernel": 5}
    ),
    Case("gated_pixelcnn-narrow", NINE, {"width": 4, "num_layers": 3, "kernel": 1}),
    Case(
        "gated_pixelcnn-another-random",
        WIDE,
        {"width": 6, "num_layers": 2, "ordering": "random", "ordering_seed": 5},
    ),
    Case("gated_pixelcnn-one-bit", Binary((1,)), {"width": 2, "num_layers": 1}),
    Case(
        "gated_pixelcnn-classes", Levels(3, (2, 3)), {"width": 4, "num_layers": 2, "num_classes": 3}
    ),
    Case("gated_pixelcnn-one-hot", CUBE, {"width": 5, "num_layers": 2, "inputs": "one_hot"}),
    Case("gated_pixelcnn-vector", CUBE, {"width": 4, "num_layers": 2, "condition_size": 3}),
    Case(
        "gated_pixelcnn-map",
        CUBE,
        {
            "width": 4,
            "num_layers": 2,
            "condition_shape": (2, 1, 1),
            "condition_width": 5,
        },
    ),
    Case(
        "gated_pixelcnn-mixture",
        CUBE,
        {
            "width": 4,
            "num_layers": 2,
            "head": "logistic_mixture",
            "num_mixtures": 3,
            "linear_prediction": 3,
        },
    ),
    Case(
        "gated_pixelcnn-rgb-mixture",
        RGB,
        {"width": 6, "num_layers": 2, "head": "logistic_mixture", "condition_shape": (1, 2, 3)},
    ),
    Case("gated_pixelcnn-rgb", RGB, {"width": 10, "num_layers": 2, "head_width": 25}),
    Case(
        "gated_pixelcnn-tiny-rgb",
        Levels(2, (3, 1, 2)),
        {"width": 6, "num_layers": 2, "num_classes": 2},
        tiny=True,
    ),
    Case(
        "gated_pixelcnn-tiny-mixture",
        Levels(3, (2, 1, 2)),
        {"width": 6, "num_layers": 2, "head": "logistic_mixture", "condition_size": 3},
        tiny=True,
    ),
]
