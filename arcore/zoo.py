"""The list of systems: names to models."""

from __future__ import annotations

import difflib

from arcore.events import Event
from arcore.model import AutoregressiveModel, build_hyperparameters
from arcore.models.made import MADE
from arcore.models.nade import NADE

MODELS: dict[str, type[AutoregressiveModel]] = {
    "nade": NADE,
    "made": MADE,
}


def list_models() -> list[str]:
    """Return the names that `create_model` knows, sorted.

    Example:
        >>> list_models()
        ['made', 'nade']
    """
    return sorted(MODELS)


def create_model(name: str, event: Event, **hyperparameters: object) -> AutoregressiveModel:
    """Create a model with random weights; every hyperparameter has a default.

    Arguments:
        name: one of `list_models()`.
        event: what is modelled, e.g. `arcore.events.Binary((1, 28, 28))`.
        hyperparameters: fields of the model's `Config`.

    Raises:
        ValueError: for an unknown name or hyperparameter (with the nearest one), a value out of
            range, or an event of a kind that the model does not support.

    Example:
        >>> from arcore.events import Binary
        >>> create_model("nade", Binary((3,)), hidden=2).event.size
        3
    """
    if name not in MODELS:
        near = difflib.get_close_matches(str(name), MODELS, n=1)
        hint = f" (did you mean {near[0]!r}?)" if near else ""
        raise ValueError(f"name: expected one of {', '.join(list_models())}, got {name!r}{hint}")
    kind = MODELS[name]
    return kind(event, build_hyperparameters(kind.Config, hyperparameters, name))
