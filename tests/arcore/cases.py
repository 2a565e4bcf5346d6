"""The case table: one row a model configuration, which every law of test_laws.py must hold for.

Adding a model is adding rows to CASES.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from torch import Tensor

import arcore
from arcore.events import Binary, Levels
from arcore.model import AutoregressiveModel
from arcore.orderings import ORDERINGS


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

    def levels(self, batch: int, seed: int = 0) -> Tensor:
        generator = torch.Generator().manual_seed(seed)
        shape = (batch, *self.event.shape)
        return torch.randint(self.event.num_levels, shape, generator=generator)

    def labels(self, batch: int) -> Tensor | None:
        """Class labels that take every class in turn, or None for an unconditional model."""
        classes = self.hyperparameters.get("num_classes")
        return None if classes is None else torch.arange(batch) % classes

    def conditions(self, batch: int) -> list[Tensor | None]:
        """One condition a class, the same for the whole batch."""
        classes = self.hyperparameters.get("num_classes")
        return [None] if classes is None else [torch.full((batch,), c) for c in range(classes)]


@torch.no_grad()
def randomize(model: AutoregressiveModel, seed: int = 0) -> AutoregressiveModel:
    """Fill parameters with non-zero multiples of 1/64.

    Sums of such numbers are exact in float64, whatever the order in which a matrix product adds
    them, so that the bit-exact laws hold on every machine or show a real leak.
    """
    generator = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        std = min(1.0, 2 / parameter.shape[-1] ** 0.5)
        drawn = torch.empty(parameter.shape, dtype=torch.float64).normal_(generator=generator)
        steps = (64 * std * drawn).round()
        parameter.copy_(torch.where(steps == 0, 1, steps) / 64)
    return model


NINE = Binary((1, 3, 3))
CUBE = Levels(3, (2, 2, 2))
TANH = {"hidden": [12, 12], "activation": "tanh"}

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
]

every_case = pytest.mark.parametrize("case", CASES, ids=str)


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


def logits_of(model: AutoregressiveModel, x: Tensor, condition: Tensor | None) -> Tensor:
    """The conditionals' logits in drawing order, (batch, D, logits)."""
    logits = model.conditionals(x, condition).logits
    return logits.reshape(len(x), model.event.size, -1)[:, torch.cat(model.schedule)]


@torch.no_grad()
def influence(model: AutoregressiveModel, x: Tensor, condition: Tensor | None) -> Tensor:
    """Which indices change which conditionals: (D, D) bool, [t, s] for drawing steps t and s."""
    before = logits_of(model, x, condition)
    changes = []
    for index in torch.cat(model.schedule).tolist():
        other = x.flatten(1).clone()
        other[:, index] = (other[:, index] + 1) % model.event.num_levels
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
