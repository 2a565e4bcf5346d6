"""What a result came from: commit and hardware."""

from __future__ import annotations

import os
import platform
import subprocess
from pathlib import Path

import torch


def commit(folder: Path | None = None) -> str:
    """Return the Git commit of the code, with `-dirty` if tracked files differ from it.

    Outside a Git checkout (a job's working directory, an installed package): ARCORE_COMMIT, which
    `stages.submit` sets to the commit that it sends, else "unknown".

    Arguments:
        folder: of the checkout; None for this code's own.
    """
    try:
        run = subprocess.run(
            ["git", "describe", "--always", "--abbrev=12", "--dirty", "--exclude=*"],
            cwd=folder or Path(__file__).parent,
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return os.environ.get("ARCORE_COMMIT") or "unknown"
    return run.stdout.strip()


def device_name(device: torch.device) -> str:
    """Return the accelerator's name, or the CPU's with the number of threads."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    threads = torch.get_num_threads()
    return f"{device.type} ({_cpu_model()}, {threads} thread{'s' if threads > 1 else ''})"


def _cpu_model() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
