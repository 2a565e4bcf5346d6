"""The hash of the code that a stage needs."""

from __future__ import annotations

<<<<<<< HEAD
import os
import platform
import subprocess
from pathlib import Path

import torch

from arcore.known_models import COMBINATIONS
=======
from arcore import zoo
>>>>>>> main
from pipeline.core.stage_code import ANY, stage_sha256


def code_sha256(stage: str, model: str) -> str | None:
    """Hash the code that a stage needs for a model, as `stage_code.stage_sha256` does."""
<<<<<<< HEAD
    return stage_sha256(f"{stage}.{ANY if model in COMBINATIONS else model}")


def _git(folder: Path, *arguments: str) -> str:
    """Run Git without its optional locks, which would disturb a commit under way."""
    run = subprocess.run(
        ["git", "--no-optional-locks", *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=10,
        check=True,
    )
    return run.stdout.strip()


def device_name(device: torch.device) -> str:
    """Return the accelerator's name, or the CPU's with the number of threads."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    threads = torch.get_num_threads()
    return f"{device.type} ({_cpu_model()}, {threads} thread{'s' if threads > 1 else ''})"


def _cpu_model() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
=======
    return stage_sha256(stage, ANY if model in zoo.COMBINATIONS else model)
>>>>>>> main
