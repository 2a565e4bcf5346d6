"""What slow references of vector models share: conditions by their definition, missing levels."""

import torch
from torch import Tensor

from arcore.events import Event


def shift(weight: Tensor, condition: Tensor) -> Tensor:
    """A class's row of a weight, or the sum of all rows, each as often as the vector says."""
    if condition.dtype == torch.int64:
        return torch.stack([weight[int(label)] for label in condition])
    terms = [condition[:, row, None] * weight[row] for row in range(len(weight))]
    return torch.stack(terms).sum(0)


def without_missing_levels(logits: Tensor, event: Event) -> Tensor:
    """Logits (batch, D, k) in raster order, minus infinity where a dimension lacks a level."""
    logits = logits.clone()
    for dimension, count in enumerate(event.levels_by_dimension):
        if logits.shape[-1] > 1:
            logits[:, dimension, count:] = -torch.inf
    return logits
