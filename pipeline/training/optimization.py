"""Optimisers and learning-rate schedules by name, from torch."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

import torch

from pipeline.experiments.schema import OptimizerConfig, ScheduleConfig


def make_optimizer(
    parameters: Iterable[torch.nn.Parameter], config: OptimizerConfig
) -> torch.optim.Optimizer:
    """Make the optimiser that `config` names, with torch's default for every option left out."""
    kind: Callable[..., torch.optim.Optimizer]
    options: dict[str, object] = {"lr": config.learning_rate, "weight_decay": config.weight_decay}
    if config.eps is not None:
        options["eps"] = config.eps
    if config.name in ("adam", "adamw"):
        kind = torch.optim.AdamW if config.name == "adamw" else torch.optim.Adam
        options |= {"betas": config.betas, "fused": True}
    elif config.name == "sgd":
        kind = torch.optim.SGD
        options |= {"momentum": config.momentum}
    elif config.name == "rmsprop":
        kind = torch.optim.RMSprop
        options |= {"momentum": config.momentum}
    else:
        kind = torch.optim.Adagrad if config.name == "adagrad" else torch.optim.Adadelta
    return kind(list(parameters), **options)


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
    shape = 1 - progress if config.name == "linear" else 0.5 * (1 + math.cos(math.pi * progress))
    return config.final_factor + (1 - config.final_factor) * shape
