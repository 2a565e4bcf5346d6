"""Keeping what a benchmark measured, with the code and the machine that it was measured on."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import torch

from pipeline.core import provenance

ROOT = Path(__file__).resolve().parent.parent


def commit() -> str:
    """Return the commit of this checkout, with -dirty where its code differs from it."""
    told = subprocess.check_output(
        ["git", "rev-parse", "--short=8", "HEAD"], cwd=ROOT, text=True
    ).strip()
    code = ["arcore", "pipeline", "stages", "benchmarks/*.py"]
    differs = subprocess.run(["git", "diff", "--quiet", "HEAD", "--", *code], cwd=ROOT).returncode
    return f"{told}-dirty" if differs else told


def write(path: Path, content: dict[str, Any]) -> None:
    """Write a record of numbers as JSON."""
    device = provenance.device_name(torch.device("cpu"))
    torch_version = torch.__version__
    record = {"at": commit(), "device": device, "torch": torch_version, **content}
    path.write_text(json.dumps(record, indent=1) + "\n")
