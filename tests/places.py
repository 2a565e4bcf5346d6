"""Where the project and the mirror of real data are, and the examples of a page."""

import os
import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
MIRROR = Path(os.environ.get("ARCORE_MIRROR") or ROOT.parent / "shared" / "data")
PAGES = [
    "README.md",
    "CONTRIBUTING.md",
    *sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "docs").rglob("*.md")),
    "results/README.md",
    "benchmarks/README.md",
]


def python_examples(page: str) -> list[str]:
    """The code of each block of a page, given by its path in this checkout."""
    text = (ROOT / page).read_text(encoding="utf-8")
    return re.findall(r"```python\n(.*?)```", text, re.DOTALL)


def outputs_shown(page: str) -> str:
    """What a page shows that its examples print: the text blocks right after one of Python."""
    text = (ROOT / page).read_text(encoding="utf-8")
    return "".join(
        re.findall(r"```python\n(?:(?!```).)*```\n\n<!--.*?-->\n```text\n(.*?)```", text, re.DOTALL)
    )
