"""Choosing by the inverse of a cumulative distribution."""

from __future__ import annotations

from torch import Tensor


def choose(probabilities: Tensor, uniform: Tensor) -> Tensor:
    """Return the indices at which the cumulative probabilities pass `uniform`.

    Arguments:
        probabilities: (*batch, n), of any positive sum.
        uniform: numbers in [0, 1), (*batch,).

    Returns:
        int64 indices in [0, n), (*batch,); one of probability zero is never among them.

    Example:
        >>> import torch
        >>> choose(torch.tensor([[0.5, 0.0, 0.5]]), torch.tensor([0.5])).tolist()
        [2]
    """
    cumulative = probabilities.cumsum(-1)
    indices: Tensor = (uniform[..., None] * cumulative[..., -1:] >= cumulative).sum(-1)
    return indices.clamp(max=probabilities.shape[-1] - 1)
