"""The site's menu lists every page once."""

from collections.abc import Iterator

import yaml

from tests.places import ROOT

CONFIG = (ROOT / "mkdocs.yml").read_text()
OUTSIDE = {"SECURITY.md", "CODE_OF_CONDUCT.md", "CHANGELOG.md", "CONTRIBUTING.md", "README.md"}


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


def test_pages_load_nothing_from_elsewhere() -> None:
    assert "font: false" in CONFIG and "http" not in CONFIG
