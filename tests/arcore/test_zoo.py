"""create_model: errors and warnings that help."""

import math
import re

import pytest

import arcore
from arcore.events import Binary, Gray, Levels, Real
from tests.support.events import CLIP, REALS
from tests.support.refusals import raising, refuses

BINARY, COLOURS, IMAGE = Binary((4,)), Levels(4, (3, 2, 2)), Levels(256, (3, 32, 32))
SOUND, GRAY = Levels(8, (None,)), Gray((2, 1, 3, 3))
RNNS = ("row_lstm", "diagonal_bilstm", "multiscale_pixelrnn")
MIXTURE = {"head": "logistic_mixture", "linear_prediction": 3}
CLIPS = ("video_pixel_network", "video_pixel_baseline")
BAD = [
    ("nad", BINARY, {}, ["name", "made, ", "'nad'", "did you mean 'nade'"]),
    (None, BINARY, {}, ["name", "made, ", "None"]),
    ([1], BINARY, {}, ["name", "nade", "[1]"]),
    ("nade", Real((4,)), {}, ["event", "Levels", "Real"]),
    ("nade", (4,), {}, ["event", "Levels", "(4,)"]),
    ("nade", Binary((None,)), {}, ["shape", "fixed", "(None,)"]),
    ("nade", BINARY, {"hiden": 3}, ["nade", "'hiden'", "did you mean 'hidden'"]),
    ("made", BINARY, {"block": 3}, ["made", "hyperparameters among hidden", "'block'"]),
    ("nade", BINARY, {"hidden": "500"}, ["hidden", "integer", "'500'"]),
    ("nade", BINARY, {"activation": "gelu"}, ["activation", "sigmoid", "'gelu'"]),
    ("nade", BINARY, {"ordering": "zigzag"}, ["ordering", "raster", "'zigzag'"]),
    ("nade", BINARY, {"ordering_seed": 1 << 31}, ["ordering_seed", "[0, 2^31)", "2147483648"]),
    ("made", BINARY, {"hidden": 500}, ["hidden", "list of integers", "500"]),
    ("made", BINARY, {"num_masks": 1, "order_agnostic": True}, ["num_masks", "order_agnostic"]),
    ("made", BINARY, {"num_masks": 4, "connectivity_agnostic": False}, ["num_masks", "or", "4"]),
    ("made", BINARY, {"dropout": 1.0}, ["dropout", "[0, 1)", "1.0"]),
    ("deep_nade", BINARY, {"hidden": []}, ["hidden", "non-empty", "()"]),
    ("rnn_nade", SOUND, {}, ["event", "first of several", "None"]),
    ("rnn_nade", Binary((3, None)), {}, ["event", "first of several", "None"]),
    ("rnn_nade", BINARY, {"recurrent": 0}, ["recurrent", "0"]),
    ("nade_k", BINARY, {"steps": 0}, ["steps", "0"]),
    ("conv_nade", BINARY, {"channels": []}, ["channels", "non-empty", "()"]),
    ("conv_nade", BINARY, {"kernels": [3]}, ["kernels", "2 of them", "(3,)"]),
    *((name, COLOURS, {"first_kernel": 4}, ["first_kernel", "odd", "4"]) for name in RNNS),
    *((name, COLOURS, {"head": "sigmoid"}, ["head", "softmax", "'sigmoid'"]) for name in RNNS),
    *((name, COLOURS, {"hidden": 2}, ["hidden", "one map per colour, 3", "2"]) for name in RNNS),
    ("pixelcnn", COLOURS, MIXTURE | {"linear_prediction": 4}, ["linear_prediction", "odd", "4"]),
    ("pixelcnn", COLOURS, MIXTURE | {"linear_prediction": 1}, ["linear_prediction", ">= 3", "1"]),
    ("pixelcnn", COLOURS, {"linear_prediction": 3}, ["linear_prediction", "logistic_mixture"]),
    ("gated_pixelcnn", COLOURS, MIXTURE | {"inputs": "one_hot"}, ["linear_prediction", "scaled"]),
    ("gated_pixelcnn", COLOURS, MIXTURE | {"ordering": "random"}, ["ordering", "one of", "random"]),
    (
        "parallel_multiscale",
        COLOURS,
        {"linear_prediction": 3},
        ["linear_prediction", "None unless"],
    ),
    ("row_lstm", COLOURS, MIXTURE, ["row_lstm", "'linear_prediction'"]),
    ("spatial_lstm", COLOURS, {"head": "mcgsm"}, ["head for levels", "'mcgsm'"]),
    ("spatial_lstm", REALS, {}, ["head", "mcgsm for reals", "'softmax'"]),
    ("spatial_lstm", REALS, {"head": "mcgsm", "inputs": "one_hot"}, ["inputs", "'one_hot'"]),
    ("gated_pixelcnn", REALS, {"head": "mcgsm", "embedding_width": 3}, ["embedding_width", "3"]),
    (RNNS[2], COLOURS, {"core": "made"}, ["core", "diagonal_bilstm, row_lstm", "'made'"]),
    (RNNS[2], COLOURS, {"factor": 1}, ["factor", ">= 2", "1"]),
    (RNNS[2], COLOURS, {"base_hidden": 2}, ["base_hidden", "3 colours", "2"]),
    ("parallel_multiscale", IMAGE, {"base": "made"}, ["base", "gated_pixelcnn, pixelcnn", "made"]),
    ("parallel_multiscale", IMAGE, {"upscaling": "C"}, ["upscaling", "one of A, B", "'C'"]),
    ("parallel_multiscale", IMAGE, {"kernel": 4}, ["kernel", "an odd integer", "4"]),
    ("parallel_multiscale", IMAGE, {"patch_kernel": 2}, ["patch_kernel", ">= 3", "2"]),
    ("parallel_multiscale", IMAGE, {"head_width": 2}, ["head_width", "one map per colour, 3", "2"]),
    ("pixelvae", BINARY, {"num_levels": 3}, ["num_levels", "1 or 2", "3"]),
    ("pixelvae", BINARY, {"num_levels": 2, "upsample": False}, ["upsample", "two levels", "False"]),
    ("pixelvae", BINARY, {"encoder": []}, ["encoder", "non-empty", "()"]),
    ("pixelvae", BINARY, {"top_warmup_steps": 1}, ["top_warmup_steps", "0 for one level", "1"]),
    ("pixelvae", BINARY, {"free_nats": [1, 2]}, ["free_nats", "[] or 1 numbers", "(1, 2)"]),
    ("pixelvae", BINARY, {"num_levels": 2, "free_nats": [1]}, ["free_nats", "2 numbers", "(1,)"]),
    ("pixelvae", BINARY, {"free_nats": [-1.0]}, ["free_nats", ">= 0", "-1.0"]),
    ("pixelvae", BINARY, {"free_nats": [math.inf]}, ["free_nats", ">= 0", "inf"]),
    ("pixelvae", BINARY, {"kernel": 4}, ["kernel", "odd", "4"]),
    *((name, CLIP, {"context_frames": 3}, ["context_frames", "fewer than", "3"]) for name in CLIPS),
    (CLIPS[0], CLIP, {"condition_sequence": (2, 4)}, ["condition_sequence", "3 frames", "(2"]),
    (CLIPS[0], CLIP, {"condition_sequence": (2,)}, ["condition_sequence", "two extents"]),
    (CLIPS[0], CLIP, {"dilations": []}, ["dilations", "a non-empty list of integers >= 1"]),
    (CLIPS[0], CLIP, {"kernel": 2}, ["kernel", "an odd integer", "2"]),
    *((name, Binary((1,) * 5), {}, ["event", "at most four extents"]) for name in CLIPS),
    ("gated_pixelcnn", GRAY, {}, ["event", "GatedPixelCNN expects Levels", "got Gray"]),
    (CLIPS[0], GRAY, {"head": "logistic_mixture"}, ["head", "softmax for gray targets"]),
    ("wavenet", SOUND, {"kernel": 1}, ["kernel", "expected"]),
    ("wavenet", SOUND, {"local_strides": []}, ["local_strides", "expected"]),
    ("wavenet", SOUND, {"local_classes": 2, "local_size": 2}, ["local_classes and local_size"]),
    ("wavenet", SOUND, {"num_classes": 2, "local_size": 2}, ["num_classes and local_size"]),
    ("wavenet", SOUND, {"cycle": 21}, ["cycle", "an integer in 1..20", "21"]),
    ("wavenet", Levels(4, (None, 2)), {}, ["event", "a fixed shape or (None,)"]),
]


@pytest.mark.parametrize(("name", "event", "hyperparameters", "parts"), BAD)
def test_bad_arguments_are_named(
    name: object, event: object, hyperparameters: dict[str, object], parts: list[str]
) -> None:
    refuses(lambda: arcore.create_model(name, event, **hyperparameters), parts)


def test_errors_that_are_not_of_sizes_are_not_called_so(monkeypatch: pytest.MonkeyPatch) -> None:
    kind = arcore.zoo.model_class("nade")
    for message, error in [
        ("No CUDA GPUs are available", RuntimeError),
        ("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory", ValueError),
        ("Storage size calculation overflowed with sizes=[8, 8]", ValueError),
    ]:
        monkeypatch.setattr(kind, "__init__", raising(RuntimeError(message)))
        with pytest.raises(error, match=re.escape(message[:30])):
            arcore.create_model("nade", BINARY)
