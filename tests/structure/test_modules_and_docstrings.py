"""Modules stay short, names are used once, and docstrings are of one form."""

import ast
import collections
from collections.abc import Iterable

from tests.support.sources import FILES, code_of, nodes_of, tree_of

MAX_LINES = 400


def test_modules_are_short() -> None:
    assert [m for m, path in FILES.items() if code_of(path).count("\n") > MAX_LINES] == []


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


def test_no_two_classes_have_one_name() -> None:
    bodies = (tree_of(code_of(path)).body for path in FILES.values())
    assert not twice(
        node.name for body in bodies for node in body if isinstance(node, ast.ClassDef)
    )
