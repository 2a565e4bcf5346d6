"""Optimisers and schedules by name."""

import math
import sys

import pytest
import torch

from pipeline.core.errors import UserError
from pipeline.experiments.schema import OptimizerConfig, ScheduleConfig
from pipeline.training import optimization

SCHEDULES = ("constant", "linear", "cosine", "inverse_time", "exponential")


def factors(steps: int, **schedule) -> list[float]:
    config = ScheduleConfig(**schedule)
    return [optimization.schedule_factor(config, step, steps) for step in range(steps)]


@pytest.mark.parametrize(
    ("made", "config", "options"),
    [
        ("Adam", {"betas": (0.5, 0.6)}, {"betas": (0.5, 0.6), "eps": 1e-8}),
        ("AdamW", {"weight_decay": 0.3}, {"weight_decay": 0.3}),
        ("SGD", {"momentum": 0.9}, {"momentum": 0.9}),
        ("RMSprop", {"momentum": 0.9, "eps": 0.1}, {"momentum": 0.9, "eps": 0.1}),
        ("Adagrad", {"eps": 1e-6}, {"eps": 1e-6, "weight_decay": 0.0}),
        ("Adadelta", {}, {"eps": 1e-6, "rho": 0.9}),
    ],
)
def test_every_optimizer_has_its_options_and_steps_downhill(
    monkeypatch: pytest.MonkeyPatch, made, config, options
) -> None:
    """Without torch's compiler, whose import takes longer than a short training."""
    monkeypatch.setitem(sys.modules, "torch._dynamo", None)
    weight = torch.nn.Parameter(torch.tensor([1.0, -2.0]))
    asked = OptimizerConfig(name=made.lower(), learning_rate=0.01, **config)
    optimizer = optimization.make_optimizer([weight], asked)
    assert type(optimizer).__name__ == made
    expected = options | {"lr": 0.01}
    assert {key: optimizer.defaults[key] for key in expected} == expected
    (weight**2).sum().backward()
    before = weight.detach().clone()
    optimizer.step()
    assert (weight.detach().abs() < before.abs()).all()
    optimizer.load_state_dict(optimizer.state_dict())
    optimizer.zero_grad()


@pytest.mark.parametrize(
    ("kind", "config", "message"),
    [
        (OptimizerConfig, {"name": "adam", "momentum": 0.9}, "momentum: expected 0 for adam, got"),
        (OptimizerConfig, {"name": "sgd", "eps": 0.1}, "eps: expected null for sgd, got 0.1"),
        (OptimizerConfig, {"name": "sgd", "betas": (0.5, 0.9)}, "betas: expected the default for"),
        (ScheduleConfig, {"decay": 0.1}, "decay: expected 0 for cosine, got 0.1"),
        (ScheduleConfig, {"name": "constant", "final_factor": 0.1}, "final_factor: expected 0 for"),
        (ScheduleConfig, {"name": "inverse_time", "final_factor": 1.0}, "final_factor: expected 0"),
    ],
)
def test_options_that_would_be_ignored_are_refused(kind, config, message: str) -> None:
    with pytest.raises(UserError, match=f"^trainer.(optimizer|schedule).{message}"):
        kind(**config)


def test_schedules_by_hand() -> None:
    assert factors(3, name="constant") == [1, 1, 1]
    assert factors(4, name="linear") == [1, 0.75, 0.5, 0.25]
    assert factors(4, name="linear", final_factor=0.5) == [1, 0.875, 0.75, 0.625]
    # cos(0), cos(60 deg), cos(120 deg), so (1 + 1)/2, (1 + 0.5)/2, (1 - 0.5)/2
    assert factors(3, name="cosine") == pytest.approx([1, 0.75, 0.25])
    assert factors(3, name="inverse_time", decay=1.0) == pytest.approx([1, 1 / 2, 1 / 3])
    halves = factors(4, name="exponential", decay=math.log(2), warmup_steps=1)
    assert halves == pytest.approx([1, 1, 1 / 2, 1 / 4])
    assert factors(6, name="linear", warmup_steps=2) == [0.5, 1, 1, 0.75, 0.5, 0.25]


@pytest.mark.parametrize("name", SCHEDULES)
def test_a_warmup_longer_than_the_run_only_rises(name: str) -> None:
    assert factors(4, name=name, warmup_steps=8) == [1 / 8, 2 / 8, 3 / 8, 4 / 8]
