"""Keeping what a benchmark measured, with the code and the machine that it was measured on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

from pipeline.artifacts.origin import commit, device_name

ROOT = Path(__file__).resolve().parent.parent


def origin() -> dict[str, str]:
    """Return what numbers of now are of: the commit, the processor, torch."""
    device = device_name(torch.device("cpu"))
    return {"at": commit(ROOT), "device": device, "torch": torch.__version__}


def write(path: Path, content: dict[str, Any]) -> None:
    """Write a record of numbers as JSON."""
    path.write_text(json.dumps({**origin(), **content}, indent=1) + "\n")
