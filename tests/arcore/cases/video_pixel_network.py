"""Cases of video_pixel_network."""

from __future__ import annotations

from arcore.events import Binary, Levels
from tests.support.cases import Case
from tests.support.events import CLIP, COLOURS, CUBE, NINE, RGB, WIDE

VIDEO_BASE = {
    "width": 4,
    "encoder_blocks": 1,
    "recurrent_width": 4,
    "decoder_blocks": 1,
    "head_width": 12,
}
VIDEO = {**VIDEO_BASE, "first_kernel": 5}

CASES = [
    Case("video_pixel_network-image", NINE, {**VIDEO}),
    Case(
        "video_pixel_network-three-blocks", NINE, {**VIDEO, "decoder_blocks": 3, "first_kernel": 3}
    ),
    Case("video_pixel_network-wide", WIDE, {**VIDEO, "first_kernel": 9}),
    Case("video_pixel_network-one-bit", Binary((1,)), {**VIDEO}),
    Case("video_pixel_network-rgb", RGB, {**VIDEO, "width": 6, "head_width": 24, "num_classes": 2}),
    Case(
        "video_pixel_network-clip",
        CLIP,
        {**VIDEO, "encoder_blocks": 2, "decoder_blocks": 2, "kernel": 5},
    ),
    Case("video_pixel_network-dilated", CLIP, {**VIDEO, "dilations": [2], "condition_size": 3}),
    Case("video_pixel_network-frames", CLIP, {**VIDEO, "condition_sequence": (3, 2)}),
    Case("video_pixel_network-colours", COLOURS, {**VIDEO, "width": 8, "head_width": 24}),
    Case(
        "video_pixel_network-mixture",
        CUBE,
        {**VIDEO, "head": "logistic_mixture", "num_mixtures": 3, "num_classes": 2},
    ),
    Case("video_pixel_network-one-hot", Levels(3, (2, 2)), {**VIDEO, "inputs": "one_hot"}),
    Case("video_pixel_network-tiny-clip", Levels(2, (2, 1, 2, 2)), {**VIDEO}, tiny=True),
    Case(
        "video_pixel_network-tiny-frames",
        Levels(2, (2, 3, 1, 1)),
        {**VIDEO, "condition_sequence": (2, 2)},
        tiny=True,
    ),
]
