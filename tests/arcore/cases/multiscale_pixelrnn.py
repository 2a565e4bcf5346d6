"""Cases of multiscale_pixelrnn."""

from __future__ import annotations

from arcore.events import Binary, Levels
from tests.support.cases import Case
from tests.support.events import CUBE, NINE, RGB, TALL, WIDE

LSTM = {"hidden": 6, "head_width": 16}
SCALES = {**LSTM, "head_width": 24, "base_hidden": 6, "base_num_layers": 1, "condition_width": 6}

CASES = [
    Case("multiscale_pixelrnn-binary", NINE, {**SCALES}),
    Case(
        "multiscale_pixelrnn-row-lstm",
        NINE,
        {**SCALES, "core": "row_lstm", "kernel": 5, "residual": False},
    ),
    Case("multiscale_pixelrnn-factor-3", NINE, {**SCALES, "factor": 3, "skip": False}),
    Case("multiscale_pixelrnn-one-bit", Binary((1,)), {"base_hidden": 1, "core": "row_lstm"}),
    Case("multiscale_pixelrnn-one-pixel", Levels(2, (3, 1, 1)), {**SCALES, "base_hidden": 9}),
    Case("multiscale_pixelrnn-vector", Binary((7,)), {**SCALES, "hidden": 8}, full=False),
    Case("multiscale_pixelrnn-wide", WIDE, {**SCALES, "num_layers": 1, "first_kernel": 5}),
    Case("multiscale_pixelrnn-classes", Levels(3, (2, 3)), {**SCALES, "num_classes": 2}),
    Case("multiscale_pixelrnn-one-hot", CUBE, {**SCALES, "inputs": "one_hot", "condition_size": 3}),
    Case(
        "multiscale_pixelrnn-mixture",
        CUBE,
        {**SCALES, "head": "logistic_mixture", "num_mixtures": 4, "num_classes": 2},
    ),
    Case(
        "multiscale_pixelrnn-rgb", RGB, {**SCALES, "hidden": 9, "base_hidden": 9, "head_width": 36}
    ),
    Case("multiscale_pixelrnn-map", TALL, {**SCALES, "condition_shape": (1, 2, 3)}),
]
