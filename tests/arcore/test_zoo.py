"""create_model: errors and warnings that help."""

from __future__ import annotations

import re

import pytest

import arcore
from arcore.events import Binary, Real
from tests.support.refusals import refuses

BINARY, IMAGE = Binary((4,)), Binary((1, 4, 4))
BAD = [
    (("nad", BINARY), {}, ["name", "made, ", "'nad'", "did you mean 'nade'"]),
    (("transformer", BINARY), {}, ["name", "made, ", "'transformer'"]),
    ((None, BINARY), {}, ["name", "made, ", "None"]),
    (("nade", Real((4,))), {}, ["event", "Levels", "Real"]),
    (("made", Real((4,))), {}, ["event", "Levels", "Real"]),
    (("nade", (4,)), {}, ["event", "Levels", "(4,)"]),
    (("made", None), {}, ["event", "Levels", "None"]),
    (([1], BINARY), {}, ["name", "nade", "[1]"]),
    (("nade", BINARY), {"ordering_seed": 1 << 31}, ["ordering_seed", "[0, 2^31)", "2147483648"]),
    (("nade", Binary((None,))), {}, ["shape", "fixed", "(None,)"]),
    (("nade", BINARY), {"hiden": 3}, ["nade", "'hiden'", "did you mean 'hidden'"]),
    (("made", BINARY), {"hiden": [3]}, ["made", "'hiden'", "did you mean 'hidden'"]),
    (("made", BINARY), {"block": 3}, ["made", "hyperparameters among hidden", "'block'"]),
    (("nade", BINARY), {"hidden": 0}, ["hidden", ">= 1", "0"]),
    (("nade", BINARY), {"hidden": "500"}, ["hidden", "integer", "'500'"]),
    (("nade", BINARY), {"hidden": [500]}, ["hidden", "integer", "(500,)"]),
    (("nade", BINARY), {"activation": "gelu"}, ["activation", "sigmoid", "'gelu'"]),
    (("nade", BINARY), {"ordering": "zigzag"}, ["ordering", "raster", "'zigzag'"]),
    (("nade", BINARY), {"ordering_seed": -1}, ["ordering_seed", "[0, 2^31)", "-1"]),
    (("made", BINARY), {"hidden": 500}, ["hidden", "list of integers", "500"]),
    (("made", BINARY), {"hidden": []}, ["hidden", "non-empty", "()"]),
    (("made", BINARY), {"hidden": [8, 0]}, ["hidden", ">= 1", "0"]),
    (("made", BINARY), {"inputs": ["scaled"]}, ["inputs", "one_hot", "('scaled',)"]),
    (("made", BINARY), {"num_masks": 1, "order_agnostic": True}, ["num_masks", "order_agnostic"]),
    (
        ("made", BINARY),
        {"num_masks": 4, "connectivity_agnostic": False},
        ["num_masks", "order_agnostic or connectivity_agnostic", "4"],
    ),
    (("made", BINARY), {"direct": 1}, ["direct", "true or false", "1"]),
    (("made", BINARY), {"dropout": 1.0}, ["dropout", "[0, 1)", "1.0"]),
    (("made", BINARY), {"num_classes": 2.5}, ["num_classes", "integer", "2.5"]),
]


@pytest.mark.parametrize(("args", "hyperparameters", "parts"), BAD)
def test_bad_arguments_are_named(
    args: tuple, hyperparameters: dict[str, object], parts: list[str]
) -> None:
    refuses(lambda: arcore.create_model(*args, **hyperparameters), parts)


def test_errors_that_are_not_of_sizes_are_not_called_so(monkeypatch: pytest.MonkeyPatch) -> None:
    kind = arcore.zoo.model_class("nade")
    for message, error in [
        ("No CUDA GPUs are available", RuntimeError),
        ("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory", ValueError),
        ("Storage size calculation overflowed with sizes=[8, 8]", ValueError),
    ]:

        def fails(*_: object, message: str = message) -> None:
            raise RuntimeError(message)

        monkeypatch.setattr(kind, "__init__", fails)
        with pytest.raises(error, match=re.escape(message[:30])):
            arcore.create_model("nade", BINARY)
