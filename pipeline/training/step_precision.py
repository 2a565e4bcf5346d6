"""The precision of a training's steps, and where the hardware has bfloat16."""

from __future__ import annotations

import torch

from pipeline.core import private_apis
from pipeline.training.collectives import Workers


def has_bfloat16(device: torch.device) -> bool:
    """Tell whether a device multiplies bfloat16 in hardware."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device.type != "cpu":
        return False
    if not hasattr(torch.cpu, "get_capabilities"):
        return private_apis.has_avx512_bfloat16()
    found = torch.cpu.get_capabilities()
    return any(there is True and "bf16" in name for name, there in found.items())


def of_steps(asked: str, workers: Workers) -> str:
    """Return the precision of all workers' steps: what was asked for, or what `auto` is here.

    Arguments:
        asked: `trainer.precision`.
        workers: of whom one without bfloat16 decides for all, as they train one model.
    """
    if asked != "auto":
        return asked
    has = torch.tensor([float(has_bfloat16(workers.device))], device=workers.device)
    return "bfloat16" if workers.minimum(has) == [1.0] else "float32"
