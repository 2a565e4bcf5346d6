"""What a result came from: code and hardware."""

from __future__ import annotations

import os
import platform
import subprocess
from pathlib import Path

import torch

from arcore.known_models import COMBINATIONS
from pipeline.core.stage_code import ANY, stage_sha256

# What a number comes from beside its data. DVC rewrites dvc.lock while it runs; outputs, results
# and texts decide nothing.
DECISIVE = (
    "arcore", "pipeline", "stages", "reproductions",
    "params.yaml", "dvc.yaml", "pyproject.toml", "constraints.txt",
)  # fmt: skip


def commit(folder: Path | None = None) -> str:
    """Return the Git commit of the code, with `-dirty` if code or parameters differ from it.

    Those are the files under `DECISIVE`, new ones that Git does not ignore included.

    Outside a Git checkout (a job's working directory, an installed package): ARCORE_COMMIT, which
    `stages.submit` sets to the commit that it sends, else "unknown".

    Arguments:
        folder: of the checkout; None for this code's own.
    """
    try:
        if folder is None:  # in site-packages the checkout around it would be another project's
            folder = Path(__file__).parent
            _git(folder, "ls-files", "--error-unmatch", Path(__file__).name)
        name = _git(folder, "describe", "--always", "--abbrev=12", "--exclude=*")
        changed = _git(folder, "status", "--porcelain", "--", *(f":/{path}" for path in DECISIVE))
    except (OSError, subprocess.SubprocessError):
        return os.environ.get("ARCORE_COMMIT") or "unknown"
    return f"{name}-dirty" if changed else name


def code_sha256(stage: str, model: str) -> str | None:
    """Hash the code that a stage needs for a model, as `stage_code.stage_sha256` does."""
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
