"""Missing dimensions given observed ones, exactly, where a model's order allows it."""

import torch
from torch import Tensor

from arcore.model import AutoregressiveModel
from arcore.primitives.checks import require
from arcore.primitives.precision import summed


def observed_first(model: AutoregressiveModel, observed: Tensor) -> AutoregressiveModel | None:
    """Return a model in whose schedule all observed dimensions come before the missing ones.

    `impute` then draws from the posterior. It is the model itself if its order is of that kind,
    where a block may hold both, else one trained for any order (`orders`) under another: orderless
    models, and MADE with a new order for each step of training. The model shares its weights; None
    where its order is another, it is an ensemble or only bounded.

    Arguments:
        observed: bool, of the event's shape.
    """
    mask = _checked(model, observed)
    if not (model.generates and model.exact):
        return None
    blocks = [mask[block.to(mask.device)] for block in model.schedule]
    first = next((i for i, block in enumerate(blocks) if not bool(block.all())), len(blocks))
    if not any(bool(block.any()) for block in blocks[first + 1 :]):
        return model
    return _reordered(model, mask) if model.orders == "any" else None


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
    require(
        model.exact and model.generates,
        "model",
        "an exact one that is no ensemble",
        type(model).__name__,
    )
    ordered = observed_first(model, observed)
    if ordered is None:
        raise ValueError("observed: expected dimensions that are first in the model's order")
    mask = observed.to(model.device)
    with torch.no_grad():
        terms = ordered.conditionals(x, condition).log_prob(ordered._as_value(x))
    return summed(torch.where(mask, 0, terms))


def reordered(model: AutoregressiveModel, observed: Tensor) -> AutoregressiveModel | None:
    """Return a model under an order that has the observed dimensions first, trained for it or not.

    It is `observed_first`, or a model of "other" `orders`, such as NADE, under another one, whose
    distribution differs from its own `log_prob`, but sums to 1; None where neither is possible.

    Example:
        >>> import arcore
        >>> nade = arcore.create_model("nade", arcore.events.Binary((3,)), hidden=2)
        >>> torch.cat(reordered(nade, torch.tensor([False, False, True])).schedule).tolist()
        [2, 0, 1]
    """
    found = observed_first(model, observed)
    if found is None and model.generates and model.orders == "other":
        return _reordered(model, observed.flatten())
    return found


def _reordered(model: AutoregressiveModel, observed: Tensor) -> AutoregressiveModel:
    """Return a model under its order with the observed dimensions first, each kind as it was."""
    order = torch.cat(model.schedule).to(observed.device)
    known = observed[order]
    return model.under(torch.cat([order[known], order[~known]]))


def _checked(model: AutoregressiveModel, observed: Tensor) -> Tensor:
    fits = isinstance(observed, Tensor) and observed.dtype == torch.bool
    require(fits, "observed", "a bool tensor", getattr(observed, "dtype", observed))
    shape = model.event.extents
    require(observed.shape == shape, "observed", f"shape {shape}", tuple(observed.shape))
    return observed.flatten()
