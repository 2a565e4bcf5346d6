"""Which dimensions decide which conditionals, by perturbation."""

import torch
from torch import Tensor
from torch.distributions import Distribution

from arcore.distributions.real_mixture import RealMixture
from arcore.distributions.table_row import TableRow
from arcore.events import Levels, Table
from arcore.model import AutoregressiveModel


def parameters_of(distribution: Distribution) -> Tensor:
    """What decides a conditional: logits, or a mixture's weights, means and scales, (..., P)."""
    if isinstance(distribution, TableRow):
        return torch.cat([distribution.logits, parameters_of(distribution.mixture)], -1)
    if isinstance(distribution, RealMixture):
        parts = (distribution.log_weights, distribution.means, distribution.log_scales)
        return torch.cat(parts, -1)
    logits: Tensor = distribution.logits
    return logits if logits.dim() > len(distribution.batch_shape) else logits[..., None]


def logits_of(model: AutoregressiveModel, x: Tensor, condition: Tensor | None) -> Tensor:
    """The conditionals' parameters in drawing order, (batch, D, P)."""
    logits = parameters_of(model.conditionals(x, condition))
    return logits.reshape(len(x), model.event.size, -1)[:, torch.cat(model.schedule)]


@torch.no_grad()
def influence(model: AutoregressiveModel, x: Tensor, condition: Tensor | None) -> Tensor:
    """Which indices change which conditionals: (D, D) bool, [t, s] for drawing steps t and s."""
    order, batch = torch.cat(model.schedule).tolist(), len(x)
    x = x.repeat(len(order), *[1] * (x.dim() - 1))  # all at once, in places that are compared
    if condition is not None:
        condition = condition.repeat(len(order), *[1] * (condition.dim() - 1))
    other = x.flatten(1).clone()
    for step, index in enumerate(order):
        values = other[step * batch : (step + 1) * batch, index]
        values += 1
        if isinstance(model.event, Levels):
            values %= model.event.levels_by_dimension[index]
        if isinstance(model.event, Table) and (count := model.event.columns[index].count):
            values %= count
    after, before = (logits_of(model, rows.view(x.shape), condition) for rows in (other, x))
    return (after != before).any(-1).view(len(order), batch, -1).any(1).t()
