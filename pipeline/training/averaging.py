"""Averages of a model's weights over its training."""

from __future__ import annotations

import copy

import torch
from torch.optim.swa_utils import get_ema_multi_avg_fn

from arcore.model import AutoregressiveModel


class AveragedModel:
    """A copy of a model whose weights are exponential moving averages, from the first step's on.

    As torch's `AveragedModel`, which counts its steps in a tensor of the host and copies that to
    the device in each of them, for which the host would wait.

    Attributes:
        module: the copy.
        begun: whether it has averages, to which `update` adds; without, `update` copies.

    Arguments:
        model: that learns.
        decay: of the average, in [0, 1).

    Example:
        >>> import arcore
        >>> model = arcore.create_model("nade", arcore.events.Binary((4,)))
        >>> average = AveragedModel(model, decay=0.9)
        >>> average.update(model)
    """

    def __init__(self, model: AutoregressiveModel, decay: float) -> None:
        self.module = copy.deepcopy(model)
        self.begun = False
        persistent = set(model.state_dict())
        self._buffers = [name for name, _ in model.named_buffers() if name in persistent]
        self._add = get_ema_multi_avg_fn(decay)

    @torch.no_grad()
    def update(self, model: AutoregressiveModel) -> None:
        """Add a step's weights to the averages, and copy buffers that belong to the model's state.

        Others (masks of a step) follow from `eval()`.
        """
        averages, weights = list(self.module.parameters()), list(model.parameters())
        if self.begun:
            self._add(averages, weights, 1)  # which ignores the count
        else:
            for average, weight in zip(averages, weights, strict=True):
                average.copy_(weight)
        for name in self._buffers:
            self.module.get_buffer(name).copy_(model.get_buffer(name))
        self.begun = True
