"""Functions that torch.compile leaves as they are."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

import torch

Function = TypeVar("Function", bound=Callable[..., Any])


def compile_guard(function: Function) -> Function:
    """Return a function that a compiled model calls as it is written.

    That is for what a compiler cannot follow (a backward pass inside a forward pass), or would
    unroll (a recurrence). It loads torch's compiler, a second, so wrap when a layer is built.
    """
    return cast(Function, torch.compiler.disable(function))
