"""The systems by name: a module is imported when its model is asked for, and no other with it."""

import importlib
import inspect
import re

from arcore.events import Event
from arcore.hyperparameters import build_hyperparameters
from arcore.model import AutoregressiveModel
from arcore.models import COMBINATIONS, list_models, models_elsewhere
from arcore.primitives.checks import near, require

TOO_LARGE = re.compile(r"allocat|memory|overflow|storage|too large|out of range", re.IGNORECASE)

__all__ = ["create_model", "list_models", "model_class"]


def model_class(name: str) -> type[AutoregressiveModel]:
    """Return the class of a system: of its module in `arcore.models`, or of another package.

    Only that module and what it needs are imported. An unknown name raises a ValueError with the
    nearest one.

    Example:
        >>> model_class("nade").__name__
        'NADE'
    """
    known = list_models()
    if not isinstance(name, str) or name not in known:
        hint = near(name, known)
        raise ValueError(f"name: expected one of {', '.join(known)}, got {name!r}{hint}")
    if name in models_elsewhere():
        return _class_elsewhere(name)
    module = importlib.import_module(f"arcore.models.{name}")
    plain = name.replace("_", "")
    for label, kind in inspect.getmembers(module, inspect.isclass):
        if issubclass(kind, AutoregressiveModel) and label.lower() == plain:
            return kind
    raise ValueError(f"name: expected a class {plain!r} (in any case) in {module.__name__}")


def _class_elsewhere(name: str) -> type[AutoregressiveModel]:
    """Import the class that another package's entry point names."""
    point = models_elsewhere()[name]
    try:
        kind: type[AutoregressiveModel] = point.load()
    except (ImportError, AttributeError) as error:
        raise ValueError(f"name: expected {point.value} for {name!r}, got {error}") from error
    fits = inspect.isclass(kind) and issubclass(kind, AutoregressiveModel)
    require(fits, f"entry point {name} = {point.value}", "a subclass of AutoregressiveModel", kind)
    return kind


def create_model(name: str, event: Event, **hyperparameters: object) -> AutoregressiveModel:
    """Create a model with random weights; every hyperparameter has a default.

    Arguments:
        name: one of `list_models()`, or what is made of them: "mixture" (`arcore.Mixture`) or
            "pool" (`arcore.Pool`).
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
    if isinstance(name, str) and name in COMBINATIONS:
        module = importlib.import_module(f"arcore.{COMBINATIONS[name]}")
        combination: AutoregressiveModel = module.create(event, hyperparameters, _create_member)
        return combination
    kind = model_class(name)
    config = build_hyperparameters(kind.Config, hyperparameters, name)
    try:
        return kind(event, config)
    except (RuntimeError, TypeError, MemoryError, OverflowError) as error:
        # of sizes beyond any memory, or beyond the integers of torch
        if isinstance(error, RuntimeError | TypeError) and not TOO_LARGE.search(str(error)):
            raise
        reason = " ".join(str(error).split())[:120]
        raise ValueError(
            f"hyperparameters: expected sizes that this machine can hold, got {reason}"
        ) from error


def _create_member(name: str, event: Event, **hyperparameters: object) -> AutoregressiveModel:
    require(name not in COMBINATIONS, "members", "models of another kind", name)
    return create_model(name, event, **hyperparameters)
