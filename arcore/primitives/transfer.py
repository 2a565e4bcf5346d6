"""Copies that the host does not wait for, and functions that torch.compile leaves as they are."""

from collections.abc import Callable
from typing import TypeVar

import torch
from torch import Tensor

Result = TypeVar("Result")
ASYNCHRONOUS = ("cuda", "meta")  # of others some read the host's memory when it may be gone


def to_device(values: Tensor, device: torch.device) -> Tensor:
    """Copy to a device; from the host to CUDA by way of pinned memory."""
    if values.device.type != "cpu" or device.type not in ASYNCHRONOUS:
        return values.to(device)
    # a compiler cannot follow pinning
    if device.type == "cuda" and not torch.compiler.is_compiling():
        values = values.contiguous().pin_memory()
    return values.to(device, non_blocking=True)


def outside_compiler(function: Callable[..., Result], *arguments: object) -> Result:
    """Call a function as it is written, also in a compiled model.

    That is for what a compiler cannot follow (a backward pass inside a forward pass), or would
    unroll (a recurrence). Elsewhere it does not load torch's compiler, which takes a second.
    """
    if torch.compiler.is_compiling():
        function = torch.compiler.disable(function)
    return function(*arguments)
