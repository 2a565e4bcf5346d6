"""Markup is in templates alone; each template is named, so that stages depend on its content."""

from __future__ import annotations

import ast
import re
from pathlib import Path

from pipeline.reporting import templates

FOLDER = Path(templates.__file__).parent
MARKUP = re.compile(r"</|<[a-z]+[ >]")


def strings(file: Path) -> list[str]:
    """The texts of a module, its docstrings left out."""
    tree = ast.parse(file.read_text())
    docs = {
        id(node.value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    }
    found = (node for node in ast.walk(tree) if isinstance(node, ast.Constant))
    return [one.value for one in found if isinstance(one.value, str) and id(one) not in docs]


def test_no_module_has_markup() -> None:
    files = sorted(FOLDER.parent.rglob("*.py"))
    assert len(files) > 10
    for file in files:
        assert [text for text in strings(file) if MARKUP.search(text)] == [], file


def test_every_template_is_named() -> None:
    named = set(strings(FOLDER / "__init__.py"))
    kept = {path.name for path in FOLDER.iterdir() if path.suffix in (".j2", ".css")}
    assert kept and kept <= named
