"""Copies from the host to a device, which the host does not wait for."""

from __future__ import annotations

import torch
from torch import Tensor


def to_device(values: Tensor, device: torch.device) -> Tensor:
    """Copy to a device; from the host to CUDA by way of pinned memory.

    Example:
        >>> to_device(torch.arange(2), torch.device("cpu"))
        tensor([0, 1])
    """
    # a compiler cannot follow pinning
    if device.type == "cuda" and values.device.type == "cpu" and not torch.compiler.is_compiling():
        values = values.pin_memory()
    # of copies to the host none may be read before it is there
    return values.to(device, non_blocking=device.type != "cpu")
