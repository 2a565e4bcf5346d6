"""The site's menu lists every page once, and its pages draw their flowcharts."""

import re
from collections.abc import Iterator

import yaml

from docs.flowchart import flowchart, parse
from tests.places import PAGES, ROOT

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


def test_flowcharts_are_drawn_without_a_script() -> None:
    texts = "".join((ROOT / page).read_text() for page in PAGES)
    sources = re.findall(r"^```mermaid\n(.*?)```", texts, re.DOTALL | re.MULTILINE)
    assert len(sources) == 3
    for source in sources:
        drawn, (labels, arrows) = flowchart(source), parse(source)
        assert re.findall(">([^<>]+)</text>", drawn) == list(labels.values())
        assert drawn.count('class="arrow"') == len(arrows) == source.count("-->")
        boxes = re.findall(r'<rect x="(-?\d+)" y="(\d+)" width="(\d+)"', drawn)
        placed = sorted((int(y), int(x), int(width)) for x, y, width in boxes)
        for (y, x, width), (next_y, next_x, _) in zip(placed, placed[1:], strict=False):
            assert y < next_y or x + width < next_x
