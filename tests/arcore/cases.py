"""The case table: one row a model configuration, which every law of test_laws.py must hold for.

Adding a model is adding rows to CASES.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.distributions import Distribution

import arcore
from arcore.decoding import Decoder
from arcore.distributions.real_mixture import RealMixture
from arcore.events import Binary, Levels
from arcore.families.latent import LatentVariableModel
from arcore.model import AutoregressiveModel
from arcore.models.wavenet import WaveNet
from arcore.primitives.orderings import ORDERINGS
from arcore.zoo import model_class


@dataclass(frozen=True)
class Case:
    """A model configuration over a tiny event.

    Arguments:
        model, event, hyperparameters: for `create_model`.
        mask: which member of a model with several masks.
        full: every earlier index must influence every later one (False where the masks of a
            narrow or randomly connected network cannot grant it).
    """

    model: str
    event: Levels
    hyperparameters: Mapping[str, Any] = field(default_factory=dict)
    mask: int = 0
    full: bool = True

    def __str__(self) -> str:
        shape = "x".join(map(str, self.event.shape))
        chosen = ",".join(f"{key}={value}" for key, value in self.hyperparameters.items())
        member = f"@{self.mask}" if self.mask else ""
        return f"{self.model}{member}-{self.event.num_levels}^{shape}-{chosen or 'defaults'}"

    def create(self) -> AutoregressiveModel:
        model = arcore.create_model(self.model, self.event, **self.hyperparameters)
        return model.member(self.mask) if self.mask else model

    def build(self, seed: int = 0) -> AutoregressiveModel:
        """Create the model in float64 with random non-zero weights and biases."""
        return randomize(self.create().double(), seed)

    def build_exact(self) -> AutoregressiveModel:
        """Build the model, or p(x | z) at some z of one whose likelihood is only bounded."""
        return exact_part(self.build())

    def levels(self, batch: int, seed: int = 0) -> Tensor:
        generator = torch.Generator().manual_seed(seed)
        shape = (batch, *self.event.shape)
        return torch.randint(self.event.num_levels, shape, generator=generator)

    def labels(self, batch: int) -> Tensor | None:
        """Conditions that differ from row to row (classes in turn), None for an unconditional."""
        if (symbols := self.hyperparameters.get("local_classes")) is not None:
            return self._symbols(batch, symbols)
        if (classes := self.hyperparameters.get("num_classes")) is not None:
            return torch.arange(batch) % classes
        shape = self._condition_shape()
        if shape is None:
            return None
        generator = torch.Generator().manual_seed(batch)
        return torch.randint(-64, 64, (batch, *shape), generator=generator).double() / 64

    def conditions(self, batch: int) -> list[Tensor | None]:
        """One condition a class, or two others, each the same for the whole batch."""
        classes = self.hyperparameters.get("num_classes")
        if classes is not None and "local_classes" not in self.hyperparameters:
            return [torch.full((batch,), c) for c in range(classes)]
        pair = self.labels(2)
        if pair is None:
            return [None]
        return [one.expand(batch, *one.shape).contiguous() for one in pair]

    def _frames(self) -> int:
        return -(-self.event.size // math.prod(self.hyperparameters["local_strides"]))

    def _symbols(self, batch: int, symbols: int) -> Tensor:
        generator = torch.Generator().manual_seed(batch)
        drawn = torch.randint(symbols, (batch, self._frames()), generator=generator)
        drawn[:, 0] = torch.arange(batch) % symbols
        classes = self.hyperparameters.get("num_classes")
        if classes is None:
            return drawn
        return torch.cat([torch.arange(batch)[:, None] % classes, drawn], 1)

    def _condition_shape(self) -> tuple[int, ...] | None:
        given = self.hyperparameters
        if (size := given.get("local_size")) is not None:
            return (self._frames(), size)
        if (size := given.get("condition_size")) is not None:
            return (size,)
        return given.get("condition_sequence") or given.get("condition_shape")


@torch.no_grad()
def randomize(model: AutoregressiveModel, seed: int = 0) -> AutoregressiveModel:
    """Fill parameters with non-zero multiples of 1/64.

    Sums of such numbers are exact in float64, whatever the order in which a matrix product adds
    them, so that the bit-exact laws hold on every machine or show a real leak.
    """
    generator = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        inputs = parameter[0].numel() if parameter.dim() == 4 else parameter.shape[-1]
        std = min(1.0, 2 / inputs**0.5)
        drawn = torch.empty(parameter.shape, dtype=torch.float64).normal_(generator=generator)
        steps = (64 * std * drawn).round()
        parameter.copy_(torch.where(steps == 0, 1, steps) / 64)
    return model


NINE = Binary((1, 3, 3))
CUBE = Levels(3, (2, 2, 2))
RGB = Levels(2, (3, 2, 2))
WIDE = Binary((1, 2, 5))
TALL = Levels(2, (2, 3, 2))
ROW = Levels(3, (2, 1, 3))
TANH = {"hidden": [12, 12], "activation": "tanh"}
SMALL = {"channels": [6, 6], "kernels": [3, 2]}
LSTM = {"hidden": 6, "head_width": 16}
SCALES = {**LSTM, "head_width": 24, "base_hidden": 6, "base_num_layers": 1, "condition_width": 6}
COARSE = {
    "base": "pixelcnn",
    "base_size": 1,
    "base_width": 8,
    "base_layers": 1,
    "width": 8,
    "num_blocks": 1,
    "head_width": 16,
}
NET = {"width": 4, "gate_width": 3, "skip_width": 12, "cycle": 3, "num_blocks": 2}
PATCHES = {"upscaling": "B", "patch_grid": 2, "patch_blocks": 1}
ONE_PATCH = {"upscaling": "B", "patch_grid": 1, "patch_blocks": 1}
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
VIDEO_BASE = {
    "width": 4,
    "encoder_blocks": 1,
    "recurrent_width": 4,
    "decoder_blocks": 1,
    "head_width": 12,
}
VIDEO = {**VIDEO_BASE, "first_kernel": 5}
CLIP = Binary((3, 1, 2, 2))  # the least in which every weight has a part
COLOURS = Levels(2, (3, 2, 2, 1))

CASES = [
    *(Case("nade", NINE, {"hidden": 8, "ordering": name}) for name in ORDERINGS),
    Case("nade", Binary((1,))),
    Case("nade", Levels(3, (1,))),
    Case("nade", Binary((12,)), {"hidden": 8, "block": 5}),
    Case("nade", NINE, {"hidden": 8, "activation": "relu", "block": 1}),
    Case("nade", CUBE, {"hidden": 8, "ordering": "snake", "block": 3}),
    Case("nade", CUBE, {"hidden": 8, "inputs": "one_hot", "ordering": "random", "block": 3}),
    Case("nade", CUBE, {"hidden": 8, "inputs": "one_hot", "activation": "relu", "block": 8}),
    Case("nade", Levels(5, (3,)), {"hidden": 4, "num_classes": 3, "ordering_seed": 7}),
    Case("nade", Levels(2, (5,)), {"hidden": 1, "ordering": "reverse"}),
    *(Case("made", NINE, {"hidden": [24], "ordering": name}) for name in ORDERINGS),
    Case("made", Binary((1,))),
    Case("made", Levels(3, (1,)), {"hidden": [4, 4], "num_classes": 2}),
    Case("made", Binary((1,)), {"num_masks": 0, "order_agnostic": True, "direct": False}),
    Case("made", Binary((12,)), {"hidden": [24, 24], "activation": "tanh"}),
    Case("made", Binary((6,)), {"hidden": [520, 520]}),  # wide enough for groups of rows
    Case("made", NINE, {"hidden": [24, 16, 24], "activation": "sigmoid", "direct": False}),
    Case("made", NINE, {"hidden": [16], "conditioning_weights": True, "ordering": "random"}),
    Case("made", CUBE, {"hidden": [24, 24], "inputs": "one_hot", "ordering": "column"}),
    Case("made", CUBE, {"hidden": [24], "direct": False, "conditioning_weights": True}),
    Case("made", Levels(5, (3,)), {"hidden": [6], "num_classes": 3, "inputs": "one_hot"}),
    Case("made", Levels(2, (5,)), {"hidden": [1], "activation": "tanh"}),
    Case("made", CUBE, {"hidden": [1, 1], "direct": False, "activation": "tanh"}, full=False),
    Case("made", NINE, {"hidden": [12], "num_masks": 4}, mask=3),
    Case("made", NINE, {"hidden": [12, 12], "num_masks": 3, "order_agnostic": True}, mask=2),
    Case("made", NINE, {"num_masks": 3, "direct": False, **TANH}, mask=1, full=False),
    Case(
        "made",
        CUBE,
        {
            "hidden": [16],
            "num_masks": 5,
            "order_agnostic": True,
            "connectivity_agnostic": False,
            "inputs": "one_hot",
            "num_classes": 2,
        },
        mask=4,
    ),
    Case(
        "made",
        NINE,
        {
            "hidden": [12, 12],
            "num_masks": 0,
            "order_agnostic": True,
            "conditioning_weights": True,
            "ordering": "spiral",
        },
        mask=1000,
    ),
    *(Case("deep_nade", NINE, {"hidden": [12], "ordering": name}) for name in ORDERINGS),
    Case("deep_nade", Binary((1,))),
    Case("deep_nade", Levels(3, (1,)), {"hidden": [4, 4], "num_classes": 2}),
    Case("deep_nade", Binary((7,)), {"hidden": [12, 12, 12], "activation": "tanh"}),
    Case("deep_nade", NINE, {"hidden": [12], "mask_inputs": False, "ordering": "spiral"}),
    Case("deep_nade", CUBE, {"hidden": [16, 16], "inputs": "one_hot", "num_classes": 3}),
    Case("deep_nade", Levels(5, (3,)), {"hidden": [8], "ordering_seed": 7}),
    Case("deep_nade", NINE, {"hidden": [12, 12], "num_orderings": 4}, mask=3),
    Case("deep_nade", CUBE, {"hidden": [16], "activation": "tanh", "ordering": "snake"}, mask=1000),
    Case("conv_nade", NINE, {**SMALL, "hidden": [8], "ordering": "raster"}),
    Case("conv_nade", NINE, {"channels": [6, 4], "kernels": [2, 2], "hidden": [12, 8]}, mask=2),
    Case("conv_nade", NINE, {"channels": [8], "kernels": [8], "hidden": [], "ordering": "column"}),
    Case("conv_nade", WIDE, {**SMALL, "hidden": []}, full=False),
    Case("conv_nade", Binary((1,)), {**SMALL, "hidden": [4]}),
    Case("conv_nade", Binary((7,)), {**SMALL, "hidden": [8], "activation": "tanh"}),
    Case("conv_nade", Levels(3, (2, 3)), {**SMALL, "hidden": [8], "num_classes": 2}),
    Case("conv_nade", CUBE, {**SMALL, "hidden": [8], "inputs": "one_hot", "mask_inputs": False}),
    Case("conv_nade", RGB, {"channels": [6], "kernels": [2], "hidden": [], "num_classes": 2}),
    Case("conv_nade", Binary((2, 1, 2, 2)), {**SMALL, "hidden": [8]}),
    # a blind spot is part of PixelCNN: a kernel as wide as the image leaves none
    Case("pixelcnn", NINE, {"hidden": 4, "num_blocks": 2, "first_kernel": 5}),
    Case("pixelcnn", NINE, {"hidden": 4, "num_blocks": 2, "first_kernel": 3}, full=False),
    Case("pixelcnn", Binary((1,)), {"hidden": 1, "num_blocks": 1}),
    Case("pixelcnn", Binary((7,)), {"hidden": 8, "num_blocks": 1, "first_kernel": 13}),
    Case("pixelcnn", CUBE, {"hidden": 9, "num_blocks": 2, "head_width": 33}),
    Case("pixelcnn", CUBE, {"hidden": 4, "num_blocks": 1, "inputs": "one_hot", "num_classes": 2}),
    Case("pixelcnn", CUBE, {"hidden": 3, "num_blocks": 1, "head": "logistic_mixture"}),
    *(
        Case("gated_pixelcnn", NINE, {"width": 4, "num_layers": 3, "ordering": name})
        for name in ORDERINGS[1:]
    ),
    Case("gated_pixelcnn", WIDE, {"width": 6, "num_layers": 4, "ordering": "column"}),
    Case(
        "gated_pixelcnn",
        Levels(2, (2, 2, 3)),
        {"width": 6, "num_layers": 2, "ordering": "reverse", "condition_shape": (1, 2, 3)},
    ),
    Case(
        "gated_pixelcnn",
        Levels(2, (2, 2, 3)),
        {"width": 6, "num_layers": 2, "ordering": "column", "head": "logistic_mixture"},
    ),
    *(
        Case("pixelcnn", NINE, {"hidden": 4, "num_blocks": 2, "first_kernel": 5, "ordering": name})
        for name in ("column", "random")
    ),
    Case("pixelcnn", RGB, {"hidden": 6, "num_blocks": 1, "num_classes": 2}),
    Case("pixelcnn", RGB, {"hidden": 6, "num_blocks": 1, "ordering": "random"}),
    Case("gated_pixelcnn", NINE, {"width": 4, "num_layers": 3}),
    Case("gated_pixelcnn", WIDE, {"width": 6, "num_layers": 4, "first_kernel": 3}),
    Case("gated_pixelcnn", Binary((1,)), {"width": 2, "num_layers": 1}),
    Case("gated_pixelcnn", Levels(3, (2, 3)), {"width": 4, "num_layers": 2, "num_classes": 3}),
    Case("gated_pixelcnn", CUBE, {"width": 5, "num_layers": 2, "inputs": "one_hot"}),
    Case("gated_pixelcnn", CUBE, {"width": 4, "num_layers": 2, "condition_size": 3}),
    Case("gated_pixelcnn", CUBE, {"width": 4, "num_layers": 2, "condition_shape": (2, 1, 1)}),
    Case("gated_pixelcnn", CUBE, {"width": 4, "num_layers": 2, "head": "logistic_mixture"}),
    Case(
        "gated_pixelcnn",
        RGB,
        {"width": 6, "num_layers": 2, "head": "logistic_mixture", "condition_shape": (1, 2, 3)},
    ),
    Case("gated_pixelcnn", RGB, {"width": 10, "num_layers": 2, "head_width": 25}),
    # the Row LSTM's triangle leaves out pixels that a first kernel as wide as the image sees
    Case("row_lstm", NINE, {**LSTM}),
    Case("row_lstm", NINE, {**LSTM, "first_kernel": 3, "residual": False, "kernel": 5}, full=False),
    Case("row_lstm", Binary((1,)), {"hidden": 1, "num_layers": 1, "skip": False}),
    Case("row_lstm", Binary((7,)), {**LSTM, "first_kernel": 13, "num_layers": 1}),
    Case("row_lstm", WIDE, {**LSTM, "hidden": 8, "first_kernel": 9, "skip": False}),
    Case("row_lstm", Levels(3, (2, 3)), {**LSTM, "num_layers": 1, "num_classes": 3}),
    Case("row_lstm", CUBE, {**LSTM, "hidden": 8, "head_width": 24, "inputs": "one_hot"}),
    Case("row_lstm", CUBE, {**LSTM, "head": "logistic_mixture", "condition_size": 3}),
    Case("row_lstm", RGB, {**LSTM, "hidden": 9, "head_width": 36, "num_classes": 2}),
    Case("row_lstm", TALL, {**LSTM, "condition_shape": (1, 2, 3), "kernel": 1}),
    Case("diagonal_bilstm", NINE, {**LSTM, "first_kernel": 3, "hidden": 8}),
    Case("diagonal_bilstm", NINE, {**LSTM, "residual": False}),
    Case("diagonal_bilstm", Binary((1,)), {"hidden": 1, "num_layers": 1, "skip": False}),
    Case("diagonal_bilstm", Binary((7,)), {**LSTM, "hidden": 8, "residual": False}),
    Case("diagonal_bilstm", WIDE, {**LSTM, "first_kernel": 3, "residual": False, "skip": False}),
    Case("diagonal_bilstm", Levels(3, (2, 3)), {**LSTM, "num_layers": 1, "num_classes": 3}),
    Case("diagonal_bilstm", CUBE, {**LSTM, "hidden": 8, "head_width": 24, "inputs": "one_hot"}),
    Case("diagonal_bilstm", CUBE, {**LSTM, "head": "logistic_mixture", "condition_size": 3}),
    Case("diagonal_bilstm", RGB, {**LSTM, "hidden": 9, "head_width": 36, "num_classes": 2}),
    Case("diagonal_bilstm", TALL, {**LSTM, "hidden": 8, "condition_shape": (1, 2, 3)}),
    Case("multiscale_pixelrnn", NINE, {**SCALES}),
    Case("multiscale_pixelrnn", NINE, {**SCALES, "core": "row_lstm", "residual": False}),
    Case("multiscale_pixelrnn", NINE, {**SCALES, "factor": 3, "skip": False}),
    Case("multiscale_pixelrnn", Binary((1,)), {"base_hidden": 1, "core": "row_lstm"}),
    Case("multiscale_pixelrnn", Levels(2, (3, 1, 1)), {**SCALES, "base_hidden": 9}),
    Case("multiscale_pixelrnn", Binary((7,)), {**SCALES, "hidden": 8}, full=False),
    Case("multiscale_pixelrnn", WIDE, {**SCALES, "num_layers": 1}),
    Case("multiscale_pixelrnn", Levels(3, (2, 3)), {**SCALES, "num_classes": 2}),
    Case("multiscale_pixelrnn", CUBE, {**SCALES, "inputs": "one_hot", "condition_size": 3}),
    Case("multiscale_pixelrnn", CUBE, {**SCALES, "head": "logistic_mixture", "num_classes": 2}),
    Case("multiscale_pixelrnn", RGB, {**SCALES, "hidden": 9, "base_hidden": 9, "head_width": 36}),
    Case("multiscale_pixelrnn", TALL, {**SCALES, "condition_shape": (1, 2, 3)}),
    Case("parallel_multiscale", NINE, {**COARSE, "base_size": 2}),
    Case("parallel_multiscale", Binary((3, 4)), {**COARSE, "base_size": 2, **ONE_PATCH}),
    Case("parallel_multiscale", Binary((1,)), {**COARSE}),
    Case("parallel_multiscale", Binary((7,)), {**COARSE, "base_size": 2, **PATCHES}, full=False),
    Case("parallel_multiscale", ROW, {**COARSE, "base_size": 2, "inputs": "one_hot"}),
    Case(
        "parallel_multiscale",
        ROW,
        {**COARSE, "base_size": 2, "head": "logistic_mixture", "num_classes": 2},
    ),
    Case("parallel_multiscale", RGB, {**COARSE, "condition_size": 3}),
    Case("parallel_multiscale", TALL, {**COARSE, "condition_shape": (1, 2, 3)}, full=False),
    Case("parallel_multiscale", TALL, {**COARSE, **ONE_PATCH, "num_classes": 2}),
    Case(
        "parallel_multiscale",
        Levels(2, (2, 1, 5)),
        {**COARSE, "base_size": 2, **ONE_PATCH, "head": "logistic_mixture"},
    ),
    Case("pixelvae", NINE, {**LATENT, "encoder": [4]}),
    Case("pixelvae", NINE, {**LATENT, "encoder": [4], "upsample": False, "warmup_steps": 9}),
    Case("pixelvae", NINE, {**LATENT, "encoder": [4], "num_levels": 2}),
    Case("pixelvae", Binary((1,)), {**LATENT, "num_levels": 2}),
    Case("pixelvae", WIDE, {**LATENT, "first_kernel": 9, "upsample": False}),
    Case("pixelvae", Levels(3, (2, 3)), {**LATENT, "encoder": [4], "num_classes": 2}),
    Case("pixelvae", CUBE, {**LATENT, "num_classes": 2, "upsample": False, "inputs": "one_hot"}),
    Case("pixelvae", CUBE, {**LATENT, "head": "logistic_mixture", "head_width": 6}),
    Case(
        "pixelvae",
        Levels(2, (1, 3, 3)),
        {**LATENT, "encoder": [4], "num_levels": 2, "num_classes": 2},
    ),
    Case("wavenet", NINE),
    Case("wavenet", NINE, {**NET, "inputs": "scaled"}),
    Case("wavenet", Binary((1,)), {**NET, "num_blocks": 1, "cycle": 1}),
    Case("wavenet", Binary((12,)), {**NET, "cycle": 2, "kernel": 4}),
    Case("wavenet", Binary((12,)), {**NET, "cycle": 2}, full=False),  # sees 8 samples
    Case("wavenet", Levels(5, (4,)), {**NET, "num_classes": 3}),
    Case("wavenet", CUBE, {**NET, "kernel": 3, "condition_size": 3}),
    Case("wavenet", CUBE, {**NET, "head": "logistic_mixture", "num_classes": 2}),
    Case("wavenet", Levels(4, (7,)), {**NET, "local_classes": 3, "local_strides": [2]}),
    Case(
        "wavenet",
        Binary((11,)),
        {**NET, "num_classes": 2, "local_classes": 3, "local_strides": [2, 2], "kernel": 3},
    ),
    Case(
        "wavenet",
        Levels(3, (5,)),
        {**NET, "local_classes": 2, "local_strides": [5], "upsampling": "repeat", "num_classes": 2},
    ),
    Case(
        "wavenet",
        Levels(9, (6,)),
        {**NET, "local_size": 2, "local_strides": [4], "head": "logistic_mixture"},
    ),
    Case("video_pixel_network", NINE, {**VIDEO}),
    Case("video_pixel_network", NINE, {**VIDEO, "decoder_blocks": 3, "first_kernel": 3}),
    Case("video_pixel_network", WIDE, {**VIDEO, "first_kernel": 9}),
    Case("video_pixel_network", Binary((1,)), {**VIDEO}),
    Case("video_pixel_network", RGB, {**VIDEO, "width": 6, "head_width": 24, "num_classes": 2}),
    Case("video_pixel_network", CLIP, {**VIDEO, "encoder_blocks": 2, "decoder_blocks": 2}),
    Case("video_pixel_network", CLIP, {**VIDEO, "dilations": [2], "condition_size": 3}),
    Case("video_pixel_network", CLIP, {**VIDEO, "condition_sequence": (3, 2)}),
    Case("video_pixel_network", COLOURS, {**VIDEO, "width": 8, "head_width": 24}),
    Case("video_pixel_network", CUBE, {**VIDEO, "head": "logistic_mixture", "num_classes": 2}),
    Case("video_pixel_network", Levels(3, (2, 2)), {**VIDEO, "inputs": "one_hot"}),
    Case("video_pixel_baseline", Binary((1,)), {**VIDEO_BASE}),
    Case("video_pixel_baseline", Binary((3, 1, 2, 1)), {**VIDEO_BASE, "num_classes": 2}),
    Case("video_pixel_baseline", CLIP, {**VIDEO_BASE, "condition_sequence": (3, 2)}),
    Case("video_pixel_baseline", CLIP, {**VIDEO_BASE, "condition_size": 3}),
    Case("video_pixel_baseline", Levels(3, (3, 1, 1, 2)), {**VIDEO_BASE, "inputs": "one_hot"}),
    Case("video_pixel_baseline", Levels(2, (3, 3, 1, 1)), {**VIDEO_BASE}),
]

# Colours, conditions and logistic mixtures with few enough states to compare frequencies; too small
# for the laws on weights.
INTRICATE = [
    Case("gated_pixelcnn", Levels(2, (3, 1, 2)), {"width": 6, "num_layers": 2, "num_classes": 2}),
    Case(
        "gated_pixelcnn",
        Levels(3, (2, 1, 2)),
        {"width": 6, "num_layers": 2, "head": "logistic_mixture", "condition_size": 3},
    ),
    Case("pixelcnn", Levels(3, (2, 1, 2)), {"hidden": 4, "head": "logistic_mixture"}),
    Case("row_lstm", Levels(2, (3, 1, 2)), {**LSTM, "hidden": 9, "num_classes": 2}),
    Case(
        "pixelvae",
        Levels(2, (3, 2, 2)),
        {**LATENT, "width": 6, "head_width": 18, "num_classes": 2},
    ),
    Case("pixelvae", RGB, {**LATENT, "width": 6, "head_width": 18, "num_levels": 2}),
    Case(
        "wavenet",
        Levels(4, (4,)),
        {**NET, "local_size": 2, "local_strides": [2], "head": "logistic_mixture"},
    ),
    Case("video_pixel_network", Levels(2, (2, 1, 2, 2)), {**VIDEO}),
    Case("video_pixel_network", Levels(2, (2, 3, 1, 1)), {**VIDEO, "condition_sequence": (2, 2)}),
    Case("parallel_multiscale", Levels(2, (2, 1, 3)), {**COARSE, "head": "logistic_mixture"}),
]

DISCRETE_MODELS = [
    name for name in arcore.list_models() if issubclass(model_class(name).supports[0], Levels)
]
every_case = pytest.mark.parametrize("case", CASES, ids=str)
even_intricate = pytest.mark.parametrize("case", [*CASES, *INTRICATE], ids=str)


def cases_where(holds: Callable[[Case], bool]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("case", [case for case in CASES if holds(case)], ids=str)


def all_levels(event: Levels) -> Tensor:
    """All num_levels ** D values of a tiny event, (states, *shape)."""
    k, size = event.num_levels, event.size
    digits = torch.arange(k**size)[:, None] // k ** torch.arange(size) % k
    return digits.view(-1, *event.shape)


def state_of(x: Tensor, event: Levels) -> Tensor:
    """The row of `all_levels` that each example is."""
    return (x.flatten(1) * event.num_levels ** torch.arange(event.size)).sum(1)


class GivenLatents(AutoregressiveModel):
    """p(x | z) of a latent-variable model at one z, the same for all events: an exact model."""

    def __init__(self, model: LatentVariableModel) -> None:
        self.supports = model.supports
        super().__init__(model.event, model.hyperparameters)
        self.model = model
        generator = torch.Generator().manual_seed(0)
        self.latents = tuple(
            (torch.randn(1, *shape, generator=generator) * 64).round() / 64
            for shape in model.latent_shapes
        )

    def _given(self, batch: int) -> tuple[Tensor, ...]:
        return tuple(z.to(self.dtype).expand(batch, *z.shape[1:]) for z in self.latents)

    @property
    def schedule(self) -> tuple[Tensor, ...]:
        return self.model.schedule

    def _conditionals(self, x: Tensor, condition: Tensor | None) -> Distribution:
        return self.model.conditionals_given(x, self._given(len(x)), condition)

    def decoder(self, batch: int, condition: Tensor | None = None) -> Decoder:
        return self.model.decoder(batch, condition, self._given(batch))


def exact_part(model: AutoregressiveModel) -> AutoregressiveModel:
    """The model, or p(x | z) at some z of one whose likelihood is only bounded."""
    return GivenLatents(model) if isinstance(model, LatentVariableModel) else model


def has_own_objective(model: AutoregressiveModel) -> bool:
    """Whether `forward` is another loss than -ln p(x), with draws of its own (masks, noise)."""
    likelihoods = (AutoregressiveModel.forward, WaveNet.forward)  # the latter takes spans too
    return type(model).forward not in likelihoods


def loss_of(model: AutoregressiveModel, x: Tensor, *given: Tensor | None, seed: int = 0) -> Tensor:
    """The training loss as a step computes it: what it draws is a function of the seed."""
    torch.manual_seed(seed)
    loss: Tensor = model(x, *given)
    return loss


def parameters_of(distribution: Distribution) -> Tensor:
    """What decides a conditional: logits, or a mixture's weights, means and scales, (..., P)."""
    if isinstance(distribution, RealMixture):
        parts = (distribution.log_weights, distribution.means, distribution.log_scales)
        return torch.cat(parts, -1)
    logits: Tensor = distribution.logits
    return logits if logits.dim() > len(distribution.batch_shape) else logits[..., None]


def logits_of(model: AutoregressiveModel, x: Tensor, condition: Tensor | None) -> Tensor:
    """The conditionals' parameters in drawing order, (batch, D, P)."""
    logits = parameters_of(model.conditionals(x, condition))
    return logits.reshape(len(x), model.event.size, -1)[:, torch.cat(model.schedule)]


@torch.no_grad()
def influence(model: AutoregressiveModel, x: Tensor, condition: Tensor | None) -> Tensor:
    """Which indices change which conditionals: (D, D) bool, [t, s] for drawing steps t and s."""
    before = logits_of(model, x, condition)
    changes = []
    for index in torch.cat(model.schedule).tolist():
        other = x.flatten(1).clone()
        other[:, index] += 1
        if isinstance(model.event, Levels):
            other[:, index] %= model.event.num_levels
        after = logits_of(model, other.view(x.shape), condition)
        changes.append((after != before).any(-1).any(0))
    return torch.stack(changes, 1)


def chi_square_p_value(states: Tensor, probabilities: Tensor) -> float:
    """How well counts of drawn states fit; states expected fewer than 5 times are pooled."""
    expected = probabilities * len(states)
    observed = torch.bincount(states, minlength=len(expected)).double()
    rare = expected < 5
    if rare.any():
        expected = torch.cat([expected[~rare], expected[rare].sum().view(1)])
        observed = torch.cat([observed[~rare], observed[rare].sum().view(1)])
    expected, observed = expected[expected > 0], observed[expected > 0]
    if len(expected) == 1:
        return 1.0
    statistic = ((observed - expected) ** 2 / expected).sum()
    return float(torch.special.gammaincc(torch.tensor((len(expected) - 1) / 2), statistic / 2))
