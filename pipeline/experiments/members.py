"""How many masks or orderings of a model are validated and scored, where nothing says so."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def defaults(model: Mapping[str, Any]) -> dict[str, dict[str, int]]:
    """Return the defaults of `trainer.validate_members` and `evaluation.num_members`.

    A model trained for several masks is validated and scored as the mixture of all of them. One
    for several orderings is scored so, and validated by the estimate of one, which is faster.

    Arguments:
        model: its name and hyperparameters, of which `num_masks` or `num_orderings` counts.

    Example:
        >>> defaults({"name": "made", "num_masks": 8})
        {'trainer': {'validate_members': 8}, 'evaluation': {'num_members': 8}}
        >>> defaults({"name": "deep_nade", "num_orderings": 16})
        {'trainer': {'validate_members': 1}, 'evaluation': {'num_members': 16}}
    """
    masks, orderings = (_count(model.get(name)) for name in ("num_masks", "num_orderings"))
    members = {"num_members": max(masks, orderings)}
    return {"trainer": {"validate_members": masks}, "evaluation": members}


def _count(given: object) -> int:
    """Return a number of masks or orderings; 1 for none, and for what the model refuses."""
    return given if isinstance(given, int) and given > 1 else 1
