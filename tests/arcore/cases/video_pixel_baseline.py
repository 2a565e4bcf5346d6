"""Cases of video_pixel_baseline."""

from __future__ import annotations

from arcore.events import Binary, Levels
from tests.support.cases import Case
from tests.support.events import CLIP

VIDEO_BASE = {
    "width": 4,
    "encoder_blocks": 1,
    "recurrent_width": 4,
    "decoder_blocks": 1,
    "head_width": 12,
}

CASES = [
    Case("video_pixel_baseline-one-bit", Binary((1,)), {**VIDEO_BASE}),
    Case("video_pixel_baseline-classes", Binary((3, 1, 2, 1)), {**VIDEO_BASE, "num_classes": 2}),
    Case("video_pixel_baseline-frames", CLIP, {**VIDEO_BASE, "condition_sequence": (3, 2)}),
    Case(
        "video_pixel_baseline-vector",
        CLIP,
        {**VIDEO_BASE, "condition_size": 3, "dilations": [2], "kernel": 5},
    ),
    Case(
        "video_pixel_baseline-one-hot", Levels(3, (3, 1, 1, 2)), {**VIDEO_BASE, "inputs": "one_hot"}
    ),
    Case("video_pixel_baseline-colours", Levels(2, (3, 3, 1, 1)), {**VIDEO_BASE}),
]
