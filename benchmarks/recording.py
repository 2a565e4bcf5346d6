"""Keeping what a benchmark measured, with the code and the machine that it was measured on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

from pipeline.core import provenance

ROOT = Path(__file__).resolve().parent.parent


def write(path: Path, content: dict[str, Any]) -> None:
    """Write a record of numbers as JSON."""
    device = provenance.device_name(torch.device("cpu"))
    at = provenance.commit(ROOT)
    record = {"at": at, "device": device, "torch": torch.__version__, **content}
    path.write_text(json.dumps(record, indent=1) + "\n")
