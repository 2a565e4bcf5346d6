"""The site's menu lists every page once, and its API pages name what is in the package."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
import yaml

from tests.places import ROOT
from tests.structure.test_architecture import problem_of

CONFIG = (ROOT / "mkdocs.yml").read_text()
OUTSIDE = {"SECURITY.md", "CODE_OF_CONDUCT.md", "CHANGELOG.md", "CONTRIBUTING.md", "README.md"}
API = sorted((ROOT / "docs" / "api").glob("*.md"))


def pages_of(menu: object) -> Iterator[str]:
    """The paths in a menu, at any depth."""
    if isinstance(menu, str):
        yield menu
    elif isinstance(menu, list | dict):
        for item in menu.values() if isinstance(menu, dict) else menu:
            yield from pages_of(item)


def test_every_page_is_in_the_menu_once() -> None:
    listed = list(pages_of(yaml.safe_load(CONFIG[CONFIG.index("\nnav:") :])["nav"]))
    there = {*OUTSIDE, "benchmarks/README.md"}
    for pattern in ("docs/**/*.md", "docs/*.ipynb", "results/*.md"):
        there |= {path.relative_to(ROOT).as_posix() for path in ROOT.glob(pattern)}
    assert sorted(listed) == sorted(there)


@pytest.mark.parametrize("page", API, ids=lambda page: page.name)
def test_what_the_reference_names_is_there(page) -> None:
    names = re.findall(r"^::: (\S+)$", page.read_text(), re.MULTILINE)
    assert list(filter(None, map(problem_of, names))) == []


def test_pages_load_nothing_from_elsewhere() -> None:
    assert "font: false" in CONFIG and "http" not in CONFIG
