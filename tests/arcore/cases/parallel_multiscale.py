"""Cases of parallel_multiscale."""

from __future__ import annotations

from arcore.events import Binary, Levels
from tests.support.cases import Case
from tests.support.events import CUBE, NINE, RGB, ROW, TALL

COARSE = {
    "base": "pixelcnn",
    "base_size": 1,
    "base_width": 8,
    "base_layers": 1,
    "width": 8,
    "num_blocks": 1,
    "head_width": 16,
}
GATED = {"base": "gated_pixelcnn", "base_size": 2, "base_width": 6, "base_layers": 3}
PATCHES = {"upscaling": "B", "patch_grid": 2, "patch_blocks": 1}
ONE_PATCH = {"upscaling": "B", "patch_grid": 1, "patch_blocks": 1}

CASES = [
    Case("parallel_multiscale-binary", NINE, {**COARSE, "base_size": 2}),
    Case("parallel_multiscale-gated-base", NINE, {**COARSE, **GATED}),
    Case(
        "parallel_multiscale-gated-base-classes",
        Binary((1, 3, 4)),
        {**COARSE, **GATED, **ONE_PATCH, "num_classes": 2},
    ),
    Case("parallel_multiscale-one-patch", Binary((3, 4)), {**COARSE, "base_size": 2, **ONE_PATCH}),
    Case("parallel_multiscale-one-bit", Binary((1,)), {**COARSE}),
    Case(
        "parallel_multiscale-vector",
        Binary((7,)),
        {**COARSE, "base_size": 2, **PATCHES},
        full=False,
    ),
    Case("parallel_multiscale-one-hot", ROW, {**COARSE, "base_size": 2, "inputs": "one_hot"}),
    Case(
        "parallel_multiscale-mixture",
        ROW,
        {
            **COARSE,
            "base_size": 2,
            "head": "logistic_mixture",
            "num_mixtures": 3,
            "num_classes": 2,
        },
    ),
    Case(
        "parallel_multiscale-prediction",
        CUBE,
        {**COARSE, "head": "logistic_mixture", "linear_prediction": 3},
    ),
    Case("parallel_multiscale-rgb", RGB, {**COARSE, "condition_size": 3}),
    Case(
        "parallel_multiscale-map",
        TALL,
        {**COARSE, "condition_shape": (1, 2, 3), "condition_width": 4},
        full=False,
    ),
    Case(
        "parallel_multiscale-classes",
        TALL,
        {**COARSE, **ONE_PATCH, "kernel": 5, "patch_kernel": 5, "num_classes": 2},
    ),
    Case(
        "parallel_multiscale-wide-mixture",
        Levels(2, (2, 1, 5)),
        {
            **COARSE,
            "base_size": 2,
            **ONE_PATCH,
            "head": "logistic_mixture",
            "linear_prediction": 3,
        },
    ),
    Case(
        "parallel_multiscale-tiny-mixture",
        Levels(2, (2, 1, 3)),
        {**COARSE, "head": "logistic_mixture"},
        tiny=True,
    ),
]
