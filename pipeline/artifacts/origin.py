"""What an output came from: the commit of the code, the device, and the versions of libraries."""

from __future__ import annotations

import functools
import importlib.metadata
import os
import platform
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

# What a number comes from beside its data. Outputs, results and texts decide nothing.
DECISIVE = (
    "arcore", "pipeline", "stages", "reproductions", "params.yaml", "dvc.yaml", "pyproject.toml",
    "constraints.txt",
)  # fmt: skip
WRITTEN_BY_RUNS = ("*dvc.lock", "reproductions/dvc.yaml")
LIBRARIES = ("torch", "numpy", "ray", "pyarrow")


def commit(folder: Path | None = None) -> str:
    """Return the Git commit of the code, with `-dirty` if code or parameters differ from it.

    Those are the files under `DECISIVE`, new ones that Git does not ignore included.

    Outside a Git checkout (a job's working directory, an installed package): ARCORE_COMMIT, which
    `stages.submit` sets to the commit that it sends, else "unknown".
    """
    try:
        if folder is None:  # in site-packages the checkout around it would be another project's
            folder = Path(__file__).parent
            _git(folder, "ls-files", "--error-unmatch", Path(__file__).name)
        name = _git(folder, "describe", "--always", "--abbrev=12", "--exclude=*")
        counted = [f":/{path}" for path in DECISIVE]
        counted += [f":(top,exclude){path}" for path in WRITTEN_BY_RUNS]
        changed = _git(folder, "status", "--porcelain", "--", *counted)
    except (OSError, subprocess.SubprocessError):
        return os.environ.get("ARCORE_COMMIT") or "unknown"
    return f"{name}-dirty" if changed else name


def device_name(device: torch.device) -> str:
    """Return the accelerator's name, or the CPU's with its instruction sets and threads.

    Numbers depend on the sets that torch uses, which `ATEN_CPU_CAPABILITY` may lower.
    """
    import torch

    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    threads, sets = torch.get_num_threads(), torch.backends.cpu.get_cpu_capability()
    known = _cpu_info()
    if sets == "AVX512" and "amx_tile" in known.get("flags", "").split():
        sets = "AVX512 and AMX"
    name = known.get("model name") or platform.processor() or platform.machine()
    return f"{device.type} ({name}, {sets}, {threads} thread{'s' if threads > 1 else ''})"


@functools.cache
def versions() -> dict[str, str]:
    """Return the versions of Python and of the libraries that numbers depend on."""
    found = {"python": platform.python_version()}
    return found | {name: importlib.metadata.version(name) for name in LIBRARIES}


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


def _cpu_info() -> dict[str, str]:
    """Return what Linux says of the first processor; nothing on other systems."""
    try:
        first = Path("/proc/cpuinfo").read_text(encoding="utf-8").partition("\n\n")[0]
    except OSError:
        return {}
    pairs = (line.partition(":") for line in first.splitlines())
    return {name.strip(): value.strip() for name, _, value in pairs}
