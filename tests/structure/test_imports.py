"""Imports run one way, stages -> pipeline -> arcore, and arcore needs torch alone."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import arcore
from tests.places import ROOT

TOPS = ("arcore", "pipeline", "stages")
# The house from the roof down: a module imports from rows below its own, or within its room.
ROOMS = (
    ("stages",),
    ("pipeline.reporting", "pipeline.registry"),
    ("pipeline.uses",),
    ("pipeline.evaluation",),
    ("pipeline.search",),
    ("pipeline.training",),
    ("pipeline.cluster",),
    ("pipeline.data",),
    ("pipeline.experiments",),
    ("pipeline.datasets", "pipeline.tracking"),
    ("pipeline.core",),
    ("arcore.coding",),
    ("arcore.zoo",),
    ("arcore.models",),
    ("arcore.families",),
    ("arcore.ensembles",),
    ("arcore.model",),
    ("arcore.layers", "arcore.generation"),
    ("arcore.conditions",),
    ("arcore.hyperparameters", "arcore.decoding", "arcore.distributions", "arcore.units"),
    ("arcore.events",),
    ("arcore.primitives",),
)
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


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


FILES = {module_name(p): p for top in TOPS for p in sorted((ROOT / top).rglob("*.py"))}


def imports_of(module: str) -> Iterator[tuple[str, str | None]]:
    """What a module imports anywhere in its code: modules, and names from them."""
    for node in ast.walk(ast.parse(FILES[module].read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((alias.name, None) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0 and node.module, f"{module}: imports are absolute"
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                yield (inner, None) if inner in FILES else (node.module, alias.name)


GRAPH = {m: sorted({name for name, _ in imports_of(m)} & set(FILES) - {m}) for m in FILES}


def room_of(module: str) -> str:
    """The folder that a module of a room is in; a module of arcore outside rooms stands alone."""
    parts = module.split(".")
    is_room = len(parts) > 2 or FILES[module].name == "__init__.py"
    if parts[0] == "stages":
        return "stages"
    return ".".join(parts[:2] if is_room else parts)


def level_of(module: str) -> int | None:
    room = room_of(module)
    return next(
        (i for i, row in enumerate(ROOMS) if room in row or room.split(".")[0] in row), None
    )


def test_every_module_has_its_room() -> None:
    assert [m for m in FILES if m not in ("arcore", "pipeline") and level_of(m) is None] == []


def test_imports_run_from_upper_rooms_to_lower_ones() -> None:
    wrong = [
        f"{module} imports {other}"
        for module, others in GRAPH.items()
        for other in others
        if module not in TOPS and other not in TOPS and room_of(module) != room_of(other)
        if (level_of(module) or 0) >= (level_of(other) or 0)
    ]
    assert wrong == []


def test_no_module_imports_itself_by_way_of_others() -> None:
    """Between modules, so inside a room too; an import for type checking alone counts."""
    left = {module: set(others) for module, others in GRAPH.items()}
    while ready := [module for module, others in left.items() if not others & set(left)]:
        for module in ready:
            del left[module]
    assert left == {}


def test_no_module_takes_a_private_name_of_another() -> None:
    taken = [
        f"{module} takes {name} of {other}"
        for module in FILES
        for other, name in imports_of(module)
        if other in FILES and name is not None and name.startswith("_")
    ]
    assert taken == []


def test_each_room_says_what_it_is_for() -> None:
    for module, path in FILES.items():
        if path.name == "__init__.py":
            assert ast.get_docstring(ast.parse(path.read_text())), module


def test_arcore_names_only_torch_and_the_standard_library() -> None:
    allowed = {"arcore", "torch", *sys.stdlib_module_names}
    wrong = [
        f"{module} imports {name}"
        for module in FILES
        if module.split(".")[0] == "arcore"
        for name, _ in imports_of(module)
        if name.split(".")[0] not in allowed
    ]
    assert wrong == []


@pytest.mark.parametrize("name", arcore.list_models())
def test_importing_a_model_imports_no_other(name: str) -> None:
    """But those that it is built from."""
    closure, todo = set(), [f"arcore.models.{name}"]
    while todo:
        if (module := todo.pop()) not in closure:
            closure.add(module)
            todo += GRAPH[module]
    script = f"import sys; from arcore.zoo import model_class; model_class({name!r})"
    script += "; print(*(m for m in sys.modules if m.startswith('arcore.models.')))"
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True
    )
    expected = {m for m in closure if m.startswith("arcore.models.")}
    assert set(done.stdout.split()) == expected
