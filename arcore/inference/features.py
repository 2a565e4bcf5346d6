"""The hidden layer of a model as features of an event."""

import torch
from torch import Tensor

from arcore.events import Levels
from arcore.model import AutoregressiveModel


@torch.no_grad()
def hidden_features(
    model: AutoregressiveModel, x: Tensor, condition: Tensor | None = None
) -> Tensor:
    """Return the units of the last hidden layer of a model that `has_hidden`, (batch, hidden).

    Of NADE these are g(c + sum_d W_d phi(x_d)), after the last dimension. Of MADE, a unit of
    degree m has seen the first m dimensions of the order.

    Example:
        >>> import arcore
        >>> model = arcore.create_model("nade", arcore.events.Binary((4,)), hidden=3)
        >>> hidden_features(model, torch.zeros(2, 4)).shape
        torch.Size([2, 3])
    """
    if not model.has_hidden:
        return model.hidden(x, condition)
    x = model.event.check(x).to(model.device)
    model._check(x, condition)
    return model.hidden(x, condition)


def first_layer(model: AutoregressiveModel) -> Tensor | None:
    """Return the weights from each dimension to the first hidden units, (units, *event.shape).

    They are of the highest level where levels have weights of their own, and of DeepNADE's observed
    values, not of its masks; None for models without a dense first layer (`model.first_layer`), and
    for tables or levels whose number varies.

    Example:
        >>> import arcore
        >>> model = arcore.create_model("nade", arcore.events.Binary((1, 2, 2)), hidden=3)
        >>> first_layer(model).shape
        torch.Size([3, 1, 2, 2])
    """
    if not isinstance(model.event, Levels) or model.event.uneven is not None:
        return None
    weights = model.first_layer()
    return None if weights is None else weights.detach().reshape(-1, *model.event.extents)
