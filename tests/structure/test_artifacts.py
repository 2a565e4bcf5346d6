"""Only pipeline.artifacts locks, replaces, stamps and publishes outputs."""

from __future__ import annotations

import re

from tests.places import ROOT

PARTS = re.compile(r"\bimport\b.*\b(locks|replacing)\b|\b(locks\.held|replacing\()")
FILES = [
    path.relative_to(ROOT)
    for top in ("pipeline", "stages", "reproductions")
    for path in sorted((ROOT / top).rglob("*.py"))
]


def test_one_package_writes_outputs() -> None:
    users = [path for path in FILES if PARTS.search((ROOT / path).read_text(encoding="utf-8"))]
    assert [str(path) for path in users if path.parent.name != "artifacts"] == []
