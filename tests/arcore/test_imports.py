"""Imports run one way, stages -> pipeline -> arcore, and arcore needs torch alone."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BLOCKED = (
    "ray", "dvc", "hydra", "omegaconf", "mlflow", "pyarrow", "sklearn", "pandas", "matplotlib",
    "safetensors", "yaml", "pipeline", "stages",
)  # fmt: skip
IMPORT_EVERYTHING = f"""
import importlib, pkgutil, sys

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {BLOCKED!r}:
            raise ImportError(f"blocked: {{name}}")

sys.meta_path.insert(0, Blocker())
import arcore

names = [module.name for module in pkgutil.walk_packages(arcore.__path__, "arcore.")]
for name in names:
    importlib.import_module(name)
assert not set({BLOCKED!r}) & set(sys.modules)
print(len(names))
"""


def test_arcore_imports_with_torch_alone() -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", IMPORT_EVERYTHING],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) >= 10


def imported_packages(folder: str) -> Iterator[tuple[str, str]]:
    """The top-level packages that each file of a folder imports, anywhere in its code."""
    for path in sorted((ROOT / folder).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                names = [folder if node.level else node.module or ""]
            for name in names:
                yield str(path.relative_to(ROOT)), name.partition(".")[0]


def test_arcore_names_only_torch_and_the_standard_library() -> None:
    allowed = {"arcore", "torch", *sys.stdlib_module_names}
    assert [pair for pair in imported_packages("arcore") if pair[1] not in allowed] == []


@pytest.mark.parametrize(
    ("folder", "forbidden"), [("arcore", {"pipeline", "stages"}), ("pipeline", {"stages"})]
)
def test_imports_run_one_way(folder: str, forbidden: set[str]) -> None:
    pairs = list(imported_packages(folder))
    assert pairs and [pair for pair in pairs if pair[1] in forbidden] == []
