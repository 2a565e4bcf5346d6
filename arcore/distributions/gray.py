"""Bits with gray targets."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.distributions import Bernoulli
from torch.nn.functional import logsigmoid

from arcore.distributions.inversion import tempered_bit


class GrayBernoulli(Bernoulli):
    """Bits whose targets are gray: levels v in [0, 256) that stand for probabilities z = v / 255.

    log_prob(v) = z ln p + (1 - z) ln(1 - p), minus the cross-entropy in nats: a likelihood for the
    levels 0 and 255 alone, which are what is drawn.

    Arguments:
        logits: of p, of the batch shape.

    Example:
        >>> GrayBernoulli(logits=torch.zeros(2)).log_prob(torch.tensor([0, 51])).tolist()
        [-0.6931471824645996, -0.6931471824645996]
    """

    LAST = 255

    def log_prob(self, value: Tensor) -> Tensor:
        """Return minus the cross-entropy of each level, in nats."""
        z = value.to(self.logits.dtype) / self.LAST
        return logsigmoid(-self.logits) + z * self.logits

    def invert(self, uniform: Tensor, temperature: float = 1.0) -> Tensor:
        """Return the levels of numbers in [0, 1), int64: 255 where they are below p."""
        return (uniform < tempered_bit(self.logits, temperature)).long() * self.LAST

    def sample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        """Draw levels 0 and 255 by torch's global generator."""
        bits: Tensor = super().sample(torch.Size(sample_shape))
        return bits * self.LAST

    def select(self, block: Tensor) -> GrayBernoulli:
        """Select a block of flattened indices: batch shape (first extent, len(block))."""
        return GrayBernoulli(logits=self.logits.flatten(1)[:, block], validate_args=False)
