"""Modules and packages: sizes, docstrings, the page that draws them, and who writes outputs."""

import ast
import collections
import re
import subprocess
import sys
from collections.abc import Iterable

from tests.places import ROOT
from tests.support.sources import FILES, code_of, nodes_of, tree_of

PAGE = ROOT / "docs" / "architecture.md"


def problem_of(name: str) -> str | None:
    """What is wrong with a dotted name of a module, class, function or method, if anything."""
    folder, rest = ROOT, name.split(".")
    while rest and (folder / rest[0]).is_dir():
        folder, rest = folder / rest[0], rest[1:]
    path = folder / "__init__.py"
    if rest and (folder / f"{rest[0]}.py").is_file():
        path = folder / f"{rest.pop(0)}.py"
    body = tree_of(code_of(path)).body
    for part in rest:
        defined = (n for n in body if isinstance(n, ast.ClassDef | ast.FunctionDef))
        found = next((node for node in defined if node.name == part), None)
        if found is None:
            return f"{name}: no {part} in {path.relative_to(ROOT)}"
        body = found.body
    return None


def test_each_hop_names_what_is_there() -> None:
    names = set(re.findall(r"`((?:arcore|pipeline|stages)(?:\.\w+)+)`", PAGE.read_text()))
    assert len(names) > 10
    assert list(filter(None, map(problem_of, sorted(names)))) == []


def test_pictures_and_tables_are_those_of_the_imports() -> None:
    script = [sys.executable, str(PAGE.with_suffix(".py"))]
    done = subprocess.run(script, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


PARTS = re.compile(r"\bimport\b.*\b(locks|replacing)\b|\b(locks\.held|replacing\()")
OURS = [path for module, path in FILES.items() if module.split(".")[0] != "arcore"]


def test_one_package_writes_outputs() -> None:
    users = [path.relative_to(ROOT) for path in OURS if PARTS.search(code_of(path))]
    elsewhere = [str(path) for path in users if path.parent.name != "artifacts"]
    parts = ["pipeline/repro/update_targets.py", "pipeline/training/checkpoint_store.py"]
    assert sorted(elsewhere) == parts


def test_arguments_have_one_heading() -> None:
    others = {"Args:", "Parameters:", "Params:"}
    found = [
        f"{module}: {node.name}" if hasattr(node, "name") else module
        for module, path in FILES.items()
        for node in nodes_of(code_of(path))
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef)
        and others & {line.strip() for line in (ast.get_docstring(node) or "").split("\n")}
    ]
    assert found == [], "Arguments: is the heading"


def twice(names: Iterable[str]) -> set[str]:
    return {name for name, count in collections.Counter(names).items() if count > 1}


def test_no_two_modules_have_one_name() -> None:
    assert not twice(path.name for path in FILES.values() if path.name != "__init__.py")


BOTH = {"OutlierDetector"}  # of events, and of tables by scikit-learn's interface


def test_no_two_classes_have_one_name() -> None:
    bodies = (tree_of(code_of(path)).body for path in FILES.values())
    found = twice(node.name for body in bodies for node in body if isinstance(node, ast.ClassDef))
    assert found == BOTH
