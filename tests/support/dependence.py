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
    before = logits_of(model, x, condition)
    changes = []
    for index in torch.cat(model.schedule).tolist():
        other = x.flatten(1).clone()
        other[:, index] += 1
        if isinstance(model.event, Levels):
            other[:, index] %= model.event.levels_by_dimension[index]
        if isinstance(model.event, Table) and (count := model.event.columns[index].count):
            other[:, index] %= count
        after = logits_of(model, other.view(x.shape), condition)
        changes.append((after != before).any(-1).any(0))
    return torch.stack(changes, 1)
