"""The hidden layer of a model as features of an event."""

import torch
from torch import Tensor

from arcore.events import Levels
from arcore.layers import level_features
from arcore.layers.level_features import shifted
from arcore.model import AutoregressiveModel
from arcore.models.deep_nade import DeepNADE
from arcore.models.made import MADE
from arcore.models.nade import NADE


def has_features(model: AutoregressiveModel) -> bool:
    """Tell whether a model has a hidden layer that stands for a whole event."""
    return isinstance(model, NADE | MADE)


@torch.no_grad()
def hidden_features(
    model: AutoregressiveModel, x: Tensor, condition: Tensor | None = None
) -> Tensor:
    """Return the units of the last hidden layer of NADE or MADE, (batch, hidden).

    Of NADE these are g(c + sum_d W_d phi(x_d)), after the last dimension. Of MADE, a unit of
    degree m has seen the first m dimensions of the order.

    Example:
        >>> import arcore
        >>> model = arcore.create_model("nade", arcore.events.Binary((4,)), hidden=3)
        >>> hidden_features(model, torch.zeros(2, 4)).shape
        torch.Size([2, 3])
    """
    if not isinstance(model, NADE | MADE):
        raise ValueError(f"model: expected NADE or MADE, got {type(model).__name__}")
    x = model.event.check(x).to(model.device)
    model._check(x, condition)
    flat, inputs = x.flatten(1), model.hyperparameters.inputs
    shown = level_features.encode(flat, model.event, inputs, model.dtype)
    if isinstance(model, NADE):  # weights are stored in the ordering
        sums = torch.einsum("bdf,dfh->bh", shown[:, model.order], model.input_weight)
        sums = sums + model._start(len(x), condition)
        is_sigmoid = model.hyperparameters.activation == "sigmoid"
        return torch.sigmoid(sums) if is_sigmoid else torch.relu(sums)
    h = shown.flatten(1)
    for depth, layer in enumerate(model._hidden()):
        a: Tensor = layer(h)
        h = model._activate(shifted(a, model.class_hidden, condition) if depth == 0 else a)
    return h


def first_layer(model: AutoregressiveModel) -> Tensor | None:
    """Return the weights from each dimension to the first hidden units, (units, *event.shape).

    They are of the highest level where levels have weights of their own, and of DeepNADE's observed
    values, not of its masks; None for models other than NADE, MADE and DeepNADE, and for tables or
    levels whose number varies.

    Example:
        >>> import arcore
        >>> model = arcore.create_model("nade", arcore.events.Binary((1, 2, 2)), hidden=3)
        >>> first_layer(model).shape
        torch.Size([3, 1, 2, 2])
    """
    if not isinstance(model.event, Levels) or model.event.uneven is not None:
        return None
    if isinstance(model, NADE):  # rows are in the ordering
        weights = model.input_weight[model.position, -1].detach().T
    elif isinstance(model, MADE):
        layer = model._hidden()[0]
        masked = layer.masked(layer.weight).detach()
        weights = masked.view(len(masked), model.event.size, -1)[..., -1]
    elif isinstance(model, DeepNADE):
        values = model.num_features - model.hyperparameters.mask_inputs  # the mask comes last
        weights = model.dense.input_weight[:, values - 1].detach().T
    else:
        return None
    return weights.reshape(-1, *model.event.extents)
