"""Copies that the host does not wait for, and functions that torch.compile leaves as they are."""

from collections.abc import Callable
from typing import Any, TypeVar, cast

import torch
from torch import Tensor

ASYNCHRONOUS = ("cuda", "meta")  # of others some read the host's memory when it may be gone


def to_device(values: Tensor, device: torch.device) -> Tensor:
    """Copy to a device; from the host to CUDA by way of pinned memory."""
    if values.device.type != "cpu" or device.type not in ASYNCHRONOUS:
        return values.to(device)
    # a compiler cannot follow pinning
    if device.type == "cuda" and not torch.compiler.is_compiling():
        values = values.contiguous().pin_memory()
    return values.to(device, non_blocking=True)


Function = TypeVar("Function", bound=Callable[..., Any])


def compile_guard(function: Function) -> Function:
    """Return a function that a compiled model calls as it is written.

    That is for what a compiler cannot follow (a backward pass inside a forward pass), or would
    unroll (a recurrence). It loads torch's compiler, a second, so wrap when a layer is built.
    """
    return cast(Function, torch.compiler.disable(function))
