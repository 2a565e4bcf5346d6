"""The systems, one final class per file, named as the lecture names them.

A class is imported when it is asked for, and no other with it.

Another package brings a model by an entry point of the group `arcore.models`, whose name is the
model's and whose value its class: `markov_chain = "my_package.markov_chain:MarkovChain"`.

Example:
    >>> from arcore.models import DiagonalBiLSTM
    >>> DiagonalBiLSTM.__module__
    'arcore.models.diagonal_bilstm'
"""

import functools
import importlib
import importlib.metadata
import pkgutil
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

GROUP = "arcore.models"
# What is made of several models, by the module of arcore that has its class.
COMBINATIONS = {"mixture": "mixtures", "pool": "pools"}


def list_models() -> list[str]:
    """Return the names that `create_model` knows, sorted.

    Example:
        >>> list_models()[:3]
        ['any_order_transformer', 'conv_nade', 'deep_nade']
    """
    return sorted({*own_models(), *models_elsewhere()})


@functools.cache
def own_models() -> tuple[str, ...]:
    """Return the names of the modules of `arcore.models`."""
    return tuple(module.name for module in pkgutil.iter_modules(__path__))


@functools.cache
def models_elsewhere() -> Mapping[str, importlib.metadata.EntryPoint]:
    """Return the models that other packages bring; none replaces one of arcore's own."""
    taken = {*own_models(), *COMBINATIONS}
    found = importlib.metadata.entry_points(group=GROUP)
    return {point.name: point for point in found if point.name not in taken}


def name_of(kind: type) -> str | None:
    """Return the name of a model's class; None for one that no name stands for.

    Example:
        >>> from arcore.models import DiagonalBiLSTM
        >>> name_of(DiagonalBiLSTM)
        'diagonal_bilstm'
    """
    package, _, module = kind.__module__.rpartition(".")
    if package == "arcore.models" and module in own_models():
        return module
    for name, module in COMBINATIONS.items():
        if (kind.__module__, kind.__name__.lower()) == (f"arcore.{module}", name):
            return name
    value = f"{kind.__module__}:{kind.__qualname__}"
    return next((name for name, point in models_elsewhere().items() if point.value == value), None)


def __getattr__(name: str) -> Any:
    """Import a class from the file that has its name in lower case, underscores aside."""
    for module in own_models():
        if module.replace("_", "") == name.lower():
            found = getattr(importlib.import_module(f"arcore.models.{module}"), name, None)
            if found is not None:
                return found
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    """List the classes without importing them."""
    found = []
    for module in own_models():
        text = Path(__path__[0], f"{module}.py").read_text(encoding="utf-8")
        names = re.findall(r"^class (\w+)\(", text, re.MULTILINE)
        found += [name for name in names if name.lower() == module.replace("_", "")]
    return [*globals(), *found]
