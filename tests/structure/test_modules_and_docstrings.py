"""Modules stay short, names are used once, and docstrings are of one form."""

from __future__ import annotations

import ast
import collections
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from tests.places import ROOT
from tests.support.sources import FILES, code_of, nodes_of, tree_of

MAX_LINES = 400
MODULES = list(FILES.values())


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def docstrings_of(path: Path) -> Iterator[tuple[str, str]]:
    for node in nodes_of(code_of(path)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
            yield getattr(node, "name", "module"), ast.get_docstring(node) or ""


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_a_module_is_short(path: Path) -> None:
    lines = len(code_of(path).splitlines())
    assert lines <= MAX_LINES, f"{lines} lines"


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_arguments_have_one_heading(path: Path) -> None:
    for name, text in docstrings_of(path):
        headings = {"Args:", "Parameters:", "Params:"} & {line.strip() for line in text.split("\n")}
        assert not headings, f"{name}: Arguments: is the heading, got {headings}"


def twice(names: Iterable[str]) -> set[str]:
    return {name for name, count in collections.Counter(names).items() if count > 1}


def test_no_two_modules_have_one_name() -> None:
    assert not twice(path.name for path in MODULES if path.name != "__init__.py")


def test_no_two_classes_have_one_name() -> None:
    bodies = (tree_of(code_of(path)).body for path in MODULES)
    assert not twice(
        node.name for body in bodies for node in body if isinstance(node, ast.ClassDef)
    )
