"""Cases of pixelvae."""

from __future__ import annotations

from arcore.events import Binary, Levels
from tests.support.cases import Case
from tests.support.events import CUBE, NINE, RGB, WIDE

LATENT = {
    "latent_size": 2,
    "latent_channels": 2,
    "encoder": [4, 4],
    "prior_width": 4,
    "prior_blocks": 1,
    "condition_width": 4,
    "width": 4,
    "num_layers": 2,
    "head_width": 12,
}

CASES = [
    Case("pixelvae-binary", NINE, {**LATENT, "encoder": [4]}),
    Case("pixelvae-warmup", NINE, {**LATENT, "encoder": [4], "upsample": False, "warmup_steps": 9}),
    Case(
        "pixelvae-free-bits",
        NINE,
        {
            **LATENT,
            "encoder": [4],
            "num_levels": 2,
            "free_nats": [0.5, 1.0],
            "warmup_steps": 3,
            "top_warmup_steps": 9,
        },
    ),
    Case("pixelvae-two-levels", NINE, {**LATENT, "encoder": [4], "num_levels": 2}),
    Case("pixelvae-one-bit", Binary((1,)), {**LATENT, "num_levels": 2}),
    Case("pixelvae-wide", WIDE, {**LATENT, "first_kernel": 9, "upsample": False}),
    Case("pixelvae-classes", Levels(3, (2, 3)), {**LATENT, "encoder": [4], "num_classes": 2}),
    Case(
        "pixelvae-one-hot",
        CUBE,
        {**LATENT, "num_classes": 2, "upsample": False, "inputs": "one_hot"},
    ),
    Case("pixelvae-mixture", CUBE, {**LATENT, "head": "logistic_mixture", "head_width": 6}),
    Case(
        "pixelvae-two-levels-classes",
        Levels(2, (1, 3, 3)),
        {**LATENT, "encoder": [4], "num_levels": 2, "num_classes": 2},
    ),
    Case(
        "pixelvae-tiny-rgb",
        Levels(2, (3, 2, 2)),
        {**LATENT, "width": 6, "head_width": 18, "num_classes": 2},
        tiny=True,
    ),
    Case(
        "pixelvae-tiny-two-levels",
        RGB,
        {**LATENT, "width": 6, "head_width": 18, "num_levels": 2},
        tiny=True,
    ),
]
