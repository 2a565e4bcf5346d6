"""Optimisers and learning-rate schedules by name, from torch."""

import inspect
import math
from collections.abc import Callable, Iterable

import torch

from pipeline.experiments.schema import OptimizerConfig, ScheduleConfig

KINDS: dict[str, type[torch.optim.Optimizer]] = {
    "adam": torch.optim.Adam,
    "adamw": torch.optim.AdamW,
    "sgd": torch.optim.SGD,
    "rmsprop": torch.optim.RMSprop,
    "adagrad": torch.optim.Adagrad,
    "adadelta": torch.optim.Adadelta,
}


def make_optimizer(
    parameters: Iterable[torch.nn.Parameter], optimizer: OptimizerConfig
) -> torch.optim.Optimizer:
    """Make the optimiser that `optimizer` names; `eps`, and what it lacks, has torch's default."""
    options: dict[str, float | tuple[float, float]] = {
        "lr": optimizer.learning_rate,
        "weight_decay": optimizer.weight_decay,
    }
    if optimizer.eps is not None:
        options["eps"] = optimizer.eps
    if optimizer.name in ("adam", "adamw"):
        options |= {"betas": optimizer.betas, "fused": True}
    elif optimizer.name in ("sgd", "rmsprop"):
        options["momentum"] = optimizer.momentum
    return _without_compiler(KINDS[optimizer.name])(list(parameters), **options)


def _without_compiler(kind: type[torch.optim.Optimizer]) -> Callable[..., torch.optim.Optimizer]:
    """Return an optimiser class whose methods do not import torch's compiler.

    torch wraps them so that a compiled program leaves them alone, for which each process would
    import `torch._dynamo`, longer than a short training takes. Here only models are compiled.
    """
    names = ("add_param_group", "zero_grad", "step", "state_dict", "load_state_dict")
    own = {name: inspect.unwrap(getattr(kind, name)) for name in names}
    own["step"] = torch.no_grad()(own["step"])
    return type(kind.__name__, (kind,), own)


def schedule_factor(schedule: ScheduleConfig, step: int, total_steps: int) -> float:
    """Return the learning rate's factor at a step (0-based) of `total_steps`.

    Example:
        >>> schedule_factor(ScheduleConfig(name="cosine"), step=50, total_steps=100)
        0.5
    """
    if step < schedule.warmup_steps:
        return (step + 1) / schedule.warmup_steps
    progress = (step - schedule.warmup_steps) / max(total_steps - schedule.warmup_steps, 1)
    progress = min(progress, 1.0)
    if schedule.name == "constant":
        return 1.0
    if schedule.name == "inverse_time":
        return 1.0 / (1.0 + schedule.decay * (step - schedule.warmup_steps))
    if schedule.name == "exponential":
        return math.exp(-schedule.decay * (step - schedule.warmup_steps))
    shape = 1 - progress if schedule.name == "linear" else 0.5 * (1 + math.cos(math.pi * progress))
    return schedule.final_factor + (1 - schedule.final_factor) * shape
