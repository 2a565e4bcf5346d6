"""Choosing by the inverse of a cumulative distribution."""

from __future__ import annotations

import torch
from torch import Tensor

from arcore.primitives.precision import at_least_float32


def choose(probabilities: Tensor, uniform: Tensor) -> Tensor:
    """Return the indices at which the cumulative probabilities pass `uniform`.

    Returns:
        int64 indices in [0, n), (*batch,); one of probability zero is never among them.
    """
    cumulative = probabilities.cumsum(-1)
    if probabilities.device.type != "cpu":
        return first_passed(probabilities, cumulative, uniform)
    wanted = uniform[..., None] * cumulative[..., -1:]
    indices = torch.searchsorted(cumulative, wanted, right=True)[..., 0]
    return indices.remainder_(probabilities.shape[-1])  # of NaN all are passed


def first_passed(probabilities: Tensor, cumulative: Tensor, uniform: Tensor) -> Tensor:
    """Return where cumulative sums first pass `uniform`, at probabilities above zero alone.

    An accelerator adds in a tree, so that a sum may differ from the one before it by its rounding
    where nothing is added.
    """
    sums = cumulative.where(probabilities > 0, 0)
    return (sums > uniform[..., None] * sums.amax(-1, keepdim=True)).int().argmax(-1)


def tempered(logits: Tensor, temperature: float) -> Tensor:
    """Return the probabilities softmax(logits / temperature), (*batch, n), in float32 or more.

    Of any temperature above zero they are numbers: as it goes to zero, those of the most probable.
    """
    logits = logits.to(at_least_float32(logits.dtype))
    if temperature != 1:
        below = logits - logits.amax(-1, keepdim=True)
        logits = below / _held(temperature, logits.dtype)
    return torch.softmax(logits, -1)


def tempered_bit(logits: Tensor, temperature: float) -> Tensor:
    """Return the probability of a one, sigmoid(logits / temperature), in float32 or more."""
    logits = logits.to(at_least_float32(logits.dtype))
    return torch.sigmoid(logits / _held(temperature, logits.dtype))


def _held(temperature: float, dtype: torch.dtype) -> float:
    return min(max(temperature, torch.finfo(dtype).tiny), torch.finfo(dtype).max)
