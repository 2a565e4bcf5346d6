"""create_model: errors and warnings that help."""

from __future__ import annotations

import dataclasses
import re

import pytest
import torch

import arcore
from arcore.events import Binary, Levels, Real
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


@pytest.mark.parametrize(
    ("name", "event", "given", "message"),
    [
        ("made", BINARY, {"mask_seed": 3}, "mask_seed: 3 has no effect without several masks"),
        ("pixelcnn", IMAGE, {"kernel": 5, "num_blocks": 0}, "kernel: 5 .* without num_blocks >= 1"),
        (
            "gated_pixelcnn",
            IMAGE,
            {"kernel": 5, "num_layers": 1},
            "kernel: 5 has no effect without num_layers >= 2",
        ),
        ("nade", BINARY, {"ordering_seed": 3}, "ordering_seed: 3 has no effect without ordering"),
        ("pixelcnn", IMAGE, {"num_mixtures": 3}, "num_mixtures: 3 has no effect without head"),
        ("pixelcnn", IMAGE, {"condition_width": 3}, "condition_width: 3 has no effect without con"),
        ("parallel_multiscale", IMAGE, {"patch_grid": 3}, "patch_grid: 3 .* without upscaling: B"),
        ("pixelvae", IMAGE, {"prior_blocks": 3}, "prior_blocks: 3 .* without num_levels: 2"),
        ("multiscale_pixelrnn", IMAGE, {"kernel": 5}, "kernel: 5 .* without core: row_lstm"),
        ("wavenet", Levels(4, (9,)), {"local_width": 3}, "local_width: 3 .* without local_classes"),
    ],
)
def test_an_option_without_effect_is_warned_of(name, event, given, message) -> None:
    with pytest.warns(UserWarning, match=message) as caught:
        arcore.create_model(name, event, **given)
    assert [one.filename for one in caught] == [__file__]


def test_options_at_their_defaults_are_not_warned_of() -> None:
    for name in arcore.list_models():
        fields = arcore.zoo.model_class(name).Config
        for field in dataclasses.fields(fields):
            fields().warn_of_idle([field.name])


def test_a_seed_that_draws_members_is_not_warned_of() -> None:
    """Warnings are errors here."""
    models = [
        arcore.create_model("deep_nade", BINARY, ordering="raster", ordering_seed=seed)
        for seed in (3, 4)
    ]
    orders = [model.member(1).order for model in models]
    assert not torch.equal(*orders)


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
