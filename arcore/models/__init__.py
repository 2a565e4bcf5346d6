"""The systems, one final class per file, named as the lecture names them.

A class is imported when it is asked for, and no other with it.

Example:
    >>> from arcore.models import DiagonalBiLSTM
    >>> DiagonalBiLSTM.__module__
    'arcore.models.diagonal_bilstm'
"""

from __future__ import annotations

import importlib
import pkgutil
import re
from pathlib import Path
from typing import Any


def __getattr__(name: str) -> Any:
    """Import a class from the file that has its name in lower case, underscores aside."""
    for module in _modules():
        if module.replace("_", "") == name.lower():
            found = getattr(importlib.import_module(f"arcore.models.{module}"), name, None)
            if found is not None:
                return found
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    """List the classes without importing them."""
    found = []
    for module in _modules():
        text = Path(__path__[0], f"{module}.py").read_text(encoding="utf-8")
        names = re.findall(r"^class (\w+)\(", text, re.MULTILINE)
        found += [name for name in names if name.lower() == module.replace("_", "")]
    return [*globals(), *found]


def _modules() -> list[str]:
    return [module.name for module in pkgutil.iter_modules(__path__)]
