"""Copies of this checkout's code."""

from __future__ import annotations

import shutil
from pathlib import Path

from tests.places import ROOT

PACKAGES = ("arcore", "pipeline", "stages", "reproductions")
PARAMS = "experiments: {}\n"


def copy_code(folder: Path) -> None:
    """Copy the packages, without the experiments of hours."""
    ignored = shutil.ignore_patterns("__pycache__", "dvc.yaml", "dvc.lock", "params.yaml")
    for name in PACKAGES:
        shutil.copytree(ROOT / name, folder / name, ignore=ignored)
    (folder / "reproductions" / "params.yaml").write_text(PARAMS)
