"""The categorical distribution, normalised without cancellation."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.distributions import Categorical, Distribution


class Softmax(Categorical):
    """A categorical distribution whose masses sum to one whatever the size of its logits.

    ln P(v) = (l_v - max l) - ln sum_u exp(l_u - max l), in one pass, where torch's own subtracts
    the rounded sum max l + ln sum_u exp(l_u - max l): so two logits of 1e9 have mass 1 each.

    Arguments:
        logits: (*batch, k), of any finite size; they need not be normalised.
        validate_args: for torch's signature; ignored.
    """

    def __init__(self, logits: Tensor, validate_args: bool | None = False) -> None:
        self.logits = torch.log_softmax(logits, -1)
        self._param = self.logits
        self._num_events = logits.shape[-1]
        Distribution.__init__(self, logits.shape[:-1], validate_args=False)

    def expand(self, batch_shape: Sequence[int], _instance: None = None) -> Softmax:
        """Repeat it to a wider batch shape."""
        return Softmax(self.logits.expand(*batch_shape, -1))
