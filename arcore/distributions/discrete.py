"""Discrete distributions that torch lacks, and choosing by an inverse cumulative distribution."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.distributions import Bernoulli, Categorical, Distribution
from torch.nn.functional import logsigmoid

from arcore.primitives.precision import at_least_float32


def choose(probabilities: Tensor, uniform: Tensor) -> Tensor:
    """Return the indices at which the cumulative probabilities pass `uniform`."""
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
    """Return the probabilities softmax(logits / temperature), (*batch, n), in float32 or more."""
    logits = logits.to(at_least_float32(logits.dtype))
    if temperature != 1:
        below = logits - logits.amax(-1, keepdim=True)
        logits = below / _held(temperature, logits.dtype)
    return torch.softmax(logits, -1)


def tempered_bit(logits: Tensor, temperature: float) -> Tensor:
    """Return the probability of a one, sigmoid(logits / temperature), in float32 or more."""
    logits = logits.to(at_least_float32(logits.dtype))
    if temperature != 1:
        logits = logits / _held(temperature, logits.dtype)
    return torch.sigmoid(logits)


def _held(temperature: float, dtype: torch.dtype) -> float:
    return min(max(temperature, torch.finfo(dtype).tiny), torch.finfo(dtype).max)


class Bits(Bernoulli):
    """torch's Bernoulli, whose `log_prob` takes levels of any dtype.

    Torch computes ln p in the dtype of the value: it refuses integers, and rounds what it takes
    the difference of to a value's bfloat16.

    Arguments:
        logits: ln p(1) - ln p(0), of the batch shape.
    """

    def log_prob(self, value: Tensor) -> Tensor:
        """Return ln p of each bit, in nats and the logits' dtype."""
        return super().log_prob(value.to(self.logits.dtype))


class Softmax(Categorical):
    """A categorical distribution whose masses sum to one whatever the size of its logits.

    ln P(v) = (l_v - max l) - ln sum_u exp(l_u - max l), in one pass; torch's own subtracts a
    rounded sum, so that two logits of 1e9 have mass 1 each.
    """

    def __init__(self, logits: Tensor, validate_args: bool | None = False) -> None:
        self.logits = torch.log_softmax(logits, -1)
        self._param = self.logits
        self._num_events = logits.shape[-1]
        Distribution.__init__(self, logits.shape[:-1], validate_args=False)

    def expand(self, batch_shape: Sequence[int], _instance: None = None) -> Softmax:
        """Repeat it to a wider batch shape."""
        return Softmax(self.logits.expand(*batch_shape, -1))


class GrayBernoulli(Bernoulli):
    """Bits whose targets are gray: levels v in [0, 256) that stand for probabilities z = v / 255.

    log_prob(v) = z ln p + (1 - z) ln(1 - p), minus the cross-entropy in nats: a likelihood for the
    levels 0 and 255 alone, which are what is drawn.

    Arguments:
        logits: of p, of the batch shape.
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
