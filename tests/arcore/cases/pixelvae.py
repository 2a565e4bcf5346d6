"""Cases of pixelvae."""

from __future__ import annotations

from arcore.events import Binary, Levels
from tests.support.cases import Case
from tests.support.events import CUBE, NINE, RGB, WIDE

VECTOR = {"latent_size": 2, "encoder": [4, 4], "width": 4, "num_layers": 2, "head_width": 12}
MAPS = {**VECTOR, "condition_width": 4}
TWO = {**MAPS, "num_levels": 2, "latent_channels": 2, "prior_width": 4, "prior_blocks": 1}

CASES = [
    Case("pixelvae-binary", NINE, {**MAPS, "encoder": [4]}),
    Case("pixelvae-warmup", NINE, {**VECTOR, "encoder": [4], "upsample": False, "warmup_steps": 9}),
    Case(
        "pixelvae-free-bits",
        NINE,
        {
            **TWO,
            "encoder": [4],
            "free_nats": [0.5, 1.0],
            "warmup_steps": 3,
            "top_warmup_steps": 9,
        },
    ),
    Case("pixelvae-two-levels", NINE, {**TWO, "encoder": [4]}),
    Case("pixelvae-one-bit", Binary((1,)), {**TWO}),
    Case("pixelvae-wide", WIDE, {**VECTOR, "first_kernel": 9, "kernel": 5, "upsample": False}),
    Case("pixelvae-classes", Levels(3, (2, 3)), {**MAPS, "encoder": [4], "num_classes": 2}),
    Case(
        "pixelvae-one-hot",
        CUBE,
        {**VECTOR, "num_classes": 2, "upsample": False, "inputs": "one_hot"},
    ),
    Case(
        "pixelvae-mixture",
        CUBE,
        {**MAPS, "head": "logistic_mixture", "num_mixtures": 3, "head_width": 6},
    ),
    Case(
        "pixelvae-two-levels-classes",
        Levels(2, (1, 3, 3)),
        {**TWO, "encoder": [4], "num_classes": 2},
    ),
    Case(
        "pixelvae-tiny-rgb",
        Levels(2, (3, 2, 2)),
        {**MAPS, "width": 6, "head_width": 18, "num_classes": 2},
        tiny=True,
    ),
    Case(
        "pixelvae-tiny-two-levels",
        RGB,
        {**TWO, "width": 6, "head_width": 18},
        tiny=True,
    ),
]
