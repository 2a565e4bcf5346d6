"""Bits."""

from __future__ import annotations

from torch import Tensor
from torch.distributions import Bernoulli


class Bits(Bernoulli):
    """torch's Bernoulli, whose `log_prob` takes levels of any dtype.

    Torch computes ln p in the dtype of the value: it refuses integers, and rounds what it takes
    the difference of to a value's bfloat16.

    Arguments:
        logits: ln p(1) - ln p(0), of the batch shape.

    Example:
        >>> import torch
        >>> Bits(logits=torch.zeros(2)).log_prob(torch.tensor([0, 1])).tolist()
        [-0.6931471824645996, -0.6931471824645996]
    """

    def log_prob(self, value: Tensor) -> Tensor:
        """Return ln p of each bit, in nats and the logits' dtype."""
        return super().log_prob(value.to(self.logits.dtype))
