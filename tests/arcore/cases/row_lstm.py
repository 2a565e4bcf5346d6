"""Cases of row_lstm."""

from __future__ import annotations

from arcore.events import Binary, Levels
from tests.support.cases import Case
from tests.support.events import CUBE, NINE, RGB, TALL, WIDE

LSTM = {"hidden": 6, "head_width": 16}

CASES = [
    # the Row LSTM's triangle leaves out pixels that a first kernel as wide as the image sees
    Case("row_lstm-binary", NINE, {**LSTM}),
    Case(
        "row_lstm-triangle",
        NINE,
        {**LSTM, "first_kernel": 3, "residual": False, "kernel": 5},
        full=False,
    ),
    Case("row_lstm-one-bit", Binary((1,)), {"hidden": 1, "num_layers": 1, "skip": False}),
    Case("row_lstm-vector", Binary((7,)), {**LSTM, "first_kernel": 13, "num_layers": 1}),
    Case("row_lstm-wide", WIDE, {**LSTM, "hidden": 8, "first_kernel": 9, "skip": False}),
    Case("row_lstm-classes", Levels(3, (2, 3)), {**LSTM, "num_layers": 1, "num_classes": 3}),
    Case("row_lstm-one-hot", CUBE, {**LSTM, "hidden": 8, "head_width": 24, "inputs": "one_hot"}),
    Case(
        "row_lstm-mixture",
        CUBE,
        {**LSTM, "head": "logistic_mixture", "num_mixtures": 3, "condition_size": 3},
    ),
    Case("row_lstm-rgb", RGB, {**LSTM, "hidden": 9, "head_width": 36, "num_classes": 2}),
    Case(
        "row_lstm-map",
        TALL,
        {**LSTM, "condition_shape": (1, 2, 3), "condition_width": 4, "kernel": 1},
    ),
    Case(
        "row_lstm-tiny-rgb",
        Levels(2, (3, 1, 2)),
        {**LSTM, "hidden": 9, "num_classes": 2},
        tiny=True,
    ),
]
