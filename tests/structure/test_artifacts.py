"""Only pipeline.artifacts locks, replaces, stamps and publishes outputs."""

from __future__ import annotations

import re

from tests.places import ROOT

PARTS = re.compile(
    r"\bimport\b.*\b(locks|replacing)\b|\b(locks\.held|replacing\(|provenance\.commit\(|"
    r"provenance\.device_name\()"
)
# Modules that still do it themselves; this list only shrinks.
LEFT = {
    "pipeline.artifacts",
    "pipeline.core",
    "pipeline.search",
    "pipeline.training",
}


FILES = [
    path.relative_to(ROOT)
    for top in ("pipeline", "stages", "reproductions")
    for path in sorted((ROOT / top).rglob("*.py"))
]


def is_left(module: str) -> bool:
    parts = module.split(".")
    return any(".".join(parts[:count]) in LEFT for count in range(1, len(parts) + 1))


def test_one_package_writes_outputs() -> None:
    users = [path for path in FILES if PARTS.search((ROOT / path).read_text(encoding="utf-8"))]
    modules = [".".join(path.with_suffix("").parts) for path in users]
    assert [one for one in modules if not is_left(one)] == []
