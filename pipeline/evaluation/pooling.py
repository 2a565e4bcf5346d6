"""Pooling trained models: the weights of their conditionals, fitted to the validation rows."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import torch
from torch import Tensor

import arcore
from arcore.events import Levels
from arcore.pools import fit_pool
from pipeline.data.shard_reader import Split
from pipeline.datasets.read_transforms import choose_rows
from pipeline.evaluation import scoring
from pipeline.experiments.schema import EvaluationConfig

NUMBERS = 1 << 27  # logits that are kept, half a gigabyte in float32
AT_ONCE = 1 << 24  # of these, what a batch may have

log = logging.getLogger(__name__)


def fit(
    models: Sequence[arcore.AutoregressiveModel],
    split: Split,
    plan: EvaluationConfig,
    device: torch.device,
) -> tuple[Tensor, list[float]]:
    """Fit the weights of a pool of models to rows that they were not trained on.

    Returns (models,) float64 weights, and the mean nats of those rows before each of Newton's steps
    and at the end. Of rows with many levels a random subset is taken, as many as `NUMBERS` logits
    allow: each has as many conditionals as dimensions, of which to learn a weight a model.

    Raises:
        ValueError: for models that cannot be pooled.
    """
    pooled = arcore.Pool(models).eval().to(device)
    event = pooled.event
    assert isinstance(event, Levels)
    size = event.size * event.num_levels * len(models)
    count = min(len(split), max(1, NUMBERS // size))
    if count < len(split):
        log.info("weights are fitted to %d of %d validation rows", count, len(split))
    chosen = choose_rows(len(split), count, plan.seed)
    at_once = min(plan.batch_size, max(1, AT_ONCE // size))
    batches = []
    for _, batch in scoring.read_batches(pooled, split, at_once, chosen):
        with torch.no_grad():
            logits = pooled.member_logits(batch.x, batch.condition)
        batches.append((logits.float().cpu(), batch.x.cpu()))
    weights, history = fit_pool(batches)
    return weights, [nats * event.size for nats in history]
