"""docs/architecture.md is in step with the code, and each name in it is one of the code's."""

from __future__ import annotations

import ast
import re
import subprocess
import sys

import pytest

from tests.places import ROOT
from tests.support.sources import code_of, tree_of

PAGE = ROOT / "docs" / "architecture.md"
NAMES = sorted(set(re.findall(r"`((?:arcore|pipeline|stages)(?:\.\w+)+)`", PAGE.read_text())))


def test_names_are_found() -> None:
    assert len(NAMES) > 10


def test_pictures_and_tables_of_rooms_are_those_of_the_imports() -> None:
    script = [sys.executable, str(PAGE.with_suffix(".py"))]
    done = subprocess.run(script, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", NAMES)
def test_a_hop_names_what_is_there(name: str) -> None:
    folder, rest = ROOT, name.split(".")
    while rest and (folder / rest[0]).is_dir():
        folder, rest = folder / rest[0], rest[1:]
    path = folder / f"{rest.pop(0)}.py" if rest else folder / "__init__.py"
    assert path.is_file(), f"{name}: no {path.relative_to(ROOT)}"
    body = tree_of(code_of(path)).body
    for part in rest:
        defined = (
            node
            for node in body
            if isinstance(node, ast.ClassDef | ast.FunctionDef) and node.name == part
        )
        found = next(defined, None)
        assert found is not None, f"{name}: no {part} in {path.relative_to(ROOT)}"
        body = found.body
