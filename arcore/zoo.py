"""The systems by name: each module of `arcore.models` is one, imported when it is asked for."""

from __future__ import annotations

import difflib
import importlib
import inspect
import pkgutil
import re
from collections.abc import Mapping, Sequence
from typing import Any

import arcore.models
from arcore import mixtures, pools
from arcore.events import Event
from arcore.hyperparameters import build_hyperparameters
from arcore.model import AutoregressiveModel
from arcore.primitives.checks import require

TOO_LARGE = re.compile(r"allocat|memory|overflow|storage|too large|out of range", re.IGNORECASE)
COMBINATIONS = (mixtures.NAME, pools.NAME)  # what is made of several models


def list_models() -> list[str]:
    """Return the names that `create_model` knows, sorted.

    Example:
        >>> list_models()[:3]
        ['conv_nade', 'deep_nade', 'diagonal_bilstm']
    """
    return sorted(module.name for module in pkgutil.iter_modules(arcore.models.__path__))


def model_class(name: str) -> type[AutoregressiveModel]:
    """Return the class of a system: the model that its module defines under the module's name.

    Only that module and what it needs are imported.

    Arguments:
        name: one of `list_models()`.

    Raises:
        ValueError: for an unknown name (with the nearest one).

    Example:
        >>> model_class("nade").__name__
        'NADE'
    """
    known = list_models()
    if not isinstance(name, str) or name not in known:
        near = difflib.get_close_matches(str(name), known, n=1)
        hint = f" (did you mean {near[0]!r}?)" if near else ""
        raise ValueError(f"name: expected one of {', '.join(known)}, got {name!r}{hint}")
    module = importlib.import_module(f"arcore.models.{name}")
    plain = name.replace("_", "")
    for label, kind in inspect.getmembers(module, inspect.isclass):
        if issubclass(kind, AutoregressiveModel) and label.lower() == plain:
            return kind
    raise ValueError(f"name: expected a class {plain!r} (in any case) in {module.__name__}")


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
    if name in COMBINATIONS:
        config = build_hyperparameters(mixtures.MixtureConfig, hyperparameters, name)
        return _combine(name, event, config.to_dict()["members"])
    kind = model_class(name)
    config = build_hyperparameters(kind.Config, hyperparameters, name)
    try:
        return kind(event, config)
    except (RuntimeError, MemoryError, OverflowError) as error:  # of sizes beyond any memory
        if isinstance(error, RuntimeError) and not TOO_LARGE.search(str(error)):
            raise
        reason = " ".join(str(error).split())[:120]
        raise ValueError(
            f"hyperparameters: expected sizes that this machine can hold, got {reason}"
        ) from error


def _combine(
    kind: str, event: Event, members: Sequence[Mapping[str, Any]]
) -> mixtures.Mixture | pools.Pool:
    """Mix or pool new models with equal weights; see `MixtureConfig.members`."""
    require(isinstance(members, (list, tuple)), "members", "a list of models", members)
    parts, counts = [], []
    for member in members:
        fits = isinstance(member, Mapping) and isinstance(member.get("name"), str)
        fits = fits and all(isinstance(key, str) and key != "event" for key in member)
        require(fits, "members", "mappings of a name and hyperparameters", member)
        fields = dict(member)
        name, count = fields.pop("name"), fields.pop("num_members", 1)
        require(name not in COMBINATIONS, "members", "models of another kind", name)
        parts.append(create_model(name, event, **fields))
        counts.append(count)
    if kind == mixtures.NAME:
        return mixtures.Mixture(parts, num_members=counts)
    require(counts == [1] * len(counts), "num_members", "1 for each member of a pool", counts)
    return pools.Pool(parts)
