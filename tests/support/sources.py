"""The modules of this checkout's packages, each read and parsed once, and copies of them."""

import ast
import functools
import shutil
from pathlib import Path

from tests.places import ROOT

PACKAGES = ("arcore", "pipeline", "stages", "reproductions")
PARAMS = "experiments: {}\n"


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


FILES = {module_name(p): p for top in PACKAGES for p in sorted((ROOT / top).rglob("*.py"))}


@functools.cache
def code_of(path: Path) -> str:
    return path.read_text(encoding="utf-8")


@functools.cache
def tree_of(code: str) -> ast.Module:
    return ast.parse(code)


@functools.cache
def nodes_of(code: str) -> list[ast.AST]:
    return list(ast.walk(tree_of(code)))


def copy_code(folder: Path) -> None:
    """Copy the packages, without the experiments of hours."""
    ignored = shutil.ignore_patterns("__pycache__", "dvc.yaml", "dvc.lock", "params.yaml")
    for name in PACKAGES:
        shutil.copytree(ROOT / name, folder / name, ignore=ignored)
    (folder / "reproductions" / "params.yaml").write_text(PARAMS)
