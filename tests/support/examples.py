"""The examples in Python that a page shows."""

from __future__ import annotations

import re

from tests.places import ROOT


def python_examples(page: str) -> list[str]:
    """The code of each block of a page, given by its path in this checkout."""
    text = (ROOT / page).read_text(encoding="utf-8")
    return re.findall(r"```python\n(.*?)```", text, re.DOTALL)
