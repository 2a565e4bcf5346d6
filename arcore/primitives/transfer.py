"""Copies from the host to a device, which the host does not wait for."""

from __future__ import annotations

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
