"""Other views of one model's weights."""

from __future__ import annotations

import copy
from typing import TypeVar

from torch import nn

Module = TypeVar("Module", bound=nn.Module)


def shared(module: Module) -> Module:
    """Copy a tree of modules, sharing parameters but neither buffers nor whether it is trained."""
    view = copy.copy(module)
    view._buffers = dict(module._buffers)
    view._modules = {
        name: None if child is None else shared(child) for name, child in module._modules.items()
    }
    return view
