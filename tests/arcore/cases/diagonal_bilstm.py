"""Cases of diagonal_bilstm."""

from __future__ import annotations

from arcore.events import Binary, Levels
from tests.support.cases import Case
from tests.support.events import CUBE, NINE, RGB, TALL, WIDE

LSTM = {"hidden": 6, "head_width": 16}

CASES = [
    Case("diagonal_bilstm-binary", NINE, {**LSTM, "first_kernel": 3, "hidden": 8}),
    Case("diagonal_bilstm-no-residual", NINE, {**LSTM, "residual": False}),
    Case("diagonal_bilstm-one-bit", Binary((1,)), {"hidden": 1, "num_layers": 1, "skip": False}),
    Case("diagonal_bilstm-vector", Binary((7,)), {**LSTM, "hidden": 8, "residual": False}),
    Case(
        "diagonal_bilstm-wide", WIDE, {**LSTM, "first_kernel": 3, "residual": False, "skip": False}
    ),
    Case("diagonal_bilstm-classes", Levels(3, (2, 3)), {**LSTM, "num_layers": 1, "num_classes": 3}),
    Case(
        "diagonal_bilstm-one-hot",
        CUBE,
        {**LSTM, "hidden": 8, "head_width": 24, "inputs": "one_hot"},
    ),
    Case(
        "diagonal_bilstm-mixture",
        CUBE,
        {**LSTM, "head": "logistic_mixture", "num_mixtures": 3, "condition_size": 3},
    ),
    Case("diagonal_bilstm-rgb", RGB, {**LSTM, "hidden": 9, "head_width": 36, "num_classes": 2}),
    Case(
        "diagonal_bilstm-map",
        TALL,
        {**LSTM, "hidden": 8, "condition_shape": (1, 2, 3), "condition_width": 4},
    ),
]
