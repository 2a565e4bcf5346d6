"""Missing dimensions given observed ones, exactly, where a model's order allows it."""

import torch
from torch import Tensor

from arcore.ensembles import Ensemble
from arcore.families.any_order import AnyOrderModel
from arcore.model import AutoregressiveModel
from arcore.models.made import MADE
from arcore.models.nade import NADE
from arcore.primitives.checks import require
from arcore.primitives.precision import summed


def observed_first(model: AutoregressiveModel, observed: Tensor) -> AutoregressiveModel | None:
    """Return a model in whose schedule all observed dimensions come before the missing ones.

    `impute` then draws from the posterior. That is an orderless model under another order, MADE
    where each step of its training had another one (`order_agnostic` with `num_masks` 0), and any
    other exact model itself if its order is of that kind; a block may hold both. The model shares
    its weights; None where its order is another, it is an ensemble or only bounded.

    Arguments:
        observed: bool, of the event's shape.
    """
    mask = _checked(model, observed)
    if isinstance(model, Ensemble) or not model.exact:
        return None
    order = torch.cat(model.schedule).to(mask.device)
    if isinstance(model, AnyOrderModel):
        return model.under(_sorted(order, mask))
    blocks = [mask[block.to(mask.device)] for block in model.schedule]
    first = next((i for i, block in enumerate(blocks) if not bool(block.all())), len(blocks))
    if not any(bool(block.any()) for block in blocks[first + 1 :]):
        return model
    if isinstance(model, MADE) and model.hyperparameters.order_agnostic:
        if model.hyperparameters.num_masks == 0:
            return model.under(_sorted(order, mask))
    return None


def log_prob_missing(
    model: AutoregressiveModel, x: Tensor, observed: Tensor, condition: Tensor | None = None
) -> Tensor:
    """Return ln p(x_missing | x_observed, condition), (batch,), in nats.

        ln p(x_m | x_o) = sum over missing d of ln p(x_d | x_o, x_<d),

    in an order that has the observed dimensions first (`observed_first`), of whole events x and a
    bool `observed` of the event's shape.

    Raises:
        ValueError: for a model whose order is another; `arcore.inference.posterior` estimates it.

    Example:
        >>> import arcore
        >>> nade = arcore.create_model("deep_nade", arcore.events.Binary((3,)), hidden=[4])
        >>> right = torch.tensor([False, True, True])
        >>> both = torch.tensor([[0, 1, 1], [1, 1, 1]])
        >>> round(log_prob_missing(nade, both, right).exp().sum().item(), 4)
        1.0
    """
    single = model.exact and not isinstance(model, Ensemble)
    require(single, "model", "an exact one that is no ensemble", type(model).__name__)
    ordered = observed_first(model, observed)
    if ordered is None:
        raise ValueError("observed: expected dimensions that are first in the model's order")
    mask = observed.to(model.device)
    with torch.no_grad():
        terms = ordered.conditionals(x, condition).log_prob(ordered._as_value(x))
    return summed(torch.where(mask, 0, terms))


def reordered(model: AutoregressiveModel, observed: Tensor) -> AutoregressiveModel | None:
    """Return a model under an order that has the observed dimensions first, trained for it or not.

    It is `observed_first`, or NADE under another order (`NADE.under`), whose distribution is not
    that of its own `log_prob`, but sums to 1; None where neither is possible.

    Example:
        >>> import arcore
        >>> nade = arcore.create_model("nade", arcore.events.Binary((3,)), hidden=2)
        >>> torch.cat(reordered(nade, torch.tensor([False, False, True])).schedule).tolist()
        [2, 0, 1]
    """
    found = observed_first(model, observed)
    if found is None and isinstance(model, NADE):
        return model.under(_sorted(model.order, observed.flatten().to(model.device)))
    return found


def _sorted(order: Tensor, observed: Tensor) -> Tensor:
    """Return an order with the observed dimensions first, each kind as it was."""
    known = observed[order]
    return torch.cat([order[known], order[~known]])


def _checked(model: AutoregressiveModel, observed: Tensor) -> Tensor:
    fits = isinstance(observed, Tensor) and observed.dtype == torch.bool
    require(fits, "observed", "a bool tensor", getattr(observed, "dtype", observed))
    shape = model.event.extents
    require(observed.shape == shape, "observed", f"shape {shape}", tuple(observed.shape))
    return observed.flatten()
