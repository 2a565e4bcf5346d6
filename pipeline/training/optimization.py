"""Optimisers and learning-rate schedules by name, from torch."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

import torch

from pipeline.experiments.schema import OptimizerConfig, ScheduleConfig

KINDS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "adam": torch.optim.Adam,
    "adamw": torch.optim.AdamW,
    "sgd": torch.optim.SGD,
    "rmsprop": torch.optim.RMSprop,
    "adagrad": torch.optim.Adagrad,
    "adadelta": torch.optim.Adadelta,
}


def make_optimizer(
    parameters: Iterable[torch.nn.Parameter], config: OptimizerConfig
) -> torch.optim.Optimizer:
    """Make the optimiser that `config` names; `eps`, and what it lacks, has torch's default."""
    options: dict[str, float | tuple[float, float]] = {
        "lr": config.learning_rate,
        "weight_decay": config.weight_decay,
    }
    if config.eps is not None:
        options["eps"] = config.eps
    if config.name in ("adam", "adamw"):
        options |= {"betas": config.betas, "fused": True}
    elif config.name in ("sgd", "rmsprop"):
        options["momentum"] = config.momentum
    return KINDS[config.name](list(parameters), **options)


def schedule_factor(config: ScheduleConfig, step: int, total_steps: int) -> float:
    """Return the learning rate's factor at a step (0-based) of `total_steps`.

    Example:
        >>> schedule_factor(ScheduleConfig(name="cosine"), step=50, total_steps=100)
        0.5
    """
    if step < config.warmup_steps:
        return (step + 1) / config.warmup_steps
    progress = (step - config.warmup_steps) / max(total_steps - config.warmup_steps, 1)
    progress = min(progress, 1.0)
    if config.name == "constant":
        return 1.0
    if config.name == "inverse_time":
        return 1.0 / (1.0 + config.decay * (step - config.warmup_steps))
    if config.name == "exponential":
        return math.exp(-config.decay * (step - config.warmup_steps))
    shape = 1 - progress if config.name == "linear" else 0.5 * (1 + math.cos(math.pi * progress))
    return config.final_factor + (1 - config.final_factor) * shape
