"""docs/architecture.md is in step with the code, and each name in it is one of the code's."""

import ast
import re
import subprocess
import sys

from tests.places import ROOT
from tests.support.sources import code_of, tree_of

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
