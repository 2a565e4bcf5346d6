"""Drawing samples to look at: of every class in turn, or of real rows' beginnings."""

import time
from functools import partial

import numpy as np
import torch
from torch import Tensor

import arcore
from arcore.conditions import Map, Vector
from pipeline.data import sound_batches
from pipeline.evaluation.scoring import ChosenRows
from pipeline.experiments.schema import EvaluationConfig


def draw(
    model: arcore.AutoregressiveModel,
    plan: EvaluationConfig,
    shown: ChosenRows,
) -> tuple[np.ndarray, float]:
    """Sample events; return the seconds that it took too.

    Sounds have the lengths, speakers and texts of the test rows shown, clips go on from these rows'
    first frames, and other events have these rows' vectors or maps, or are of each class in turn.
    """
    generator = torch.Generator(model.device).manual_seed(plan.seed)
    if model.event.is_open:
        twin, condition = sound_batches.to_sample(model, shown.split.whole(), shown.numbers)
        run = partial(twin.sample, len(shown), condition, generator)
    elif shown.context_frames:
        real = shown.read(model)
        observed = torch.zeros(model.event.extents, dtype=torch.bool, device=model.device)
        observed[: shown.context_frames] = True
        run = partial(model.impute, real.x, observed, real.condition, generator)
    elif isinstance(model.condition_kind, Vector | Map):
        run = partial(model.sample, len(shown), shown.read(model).condition, generator)
    else:
        count, classes = plan.num_samples, None
        if model.num_classes is not None:
            classes = torch.arange(count, device=model.device) % model.num_classes
        run = partial(model.sample, count, classes, generator)
    began = time.perf_counter()
    drawn: Tensor = run()
    return drawn.cpu().numpy(), time.perf_counter() - began
