"""Only pipeline.artifacts locks, replaces, stamps and publishes outputs."""

from __future__ import annotations

import re

from tests.structure.test_imports import FILES

PARTS = re.compile(
    r"\bimport\b.*\b(locks|replacing)\b|\b(locks\.held|replacing\(|provenance\.commit\(|"
    r"provenance\.device_name\()"
)
# Modules that still do it themselves; this list only shrinks.
LEFT = {
    "pipeline.cluster.checkout",
    "pipeline.core",
    "pipeline.data.fetching",
    "pipeline.data.preprocess",
    "pipeline.registry.register",
    "pipeline.reporting",
    "pipeline.search",
    "pipeline.studies",
    "pipeline.training",
    "pipeline.uses",
    "reproductions",
}


def is_left(module: str) -> bool:
    parts = module.split(".")
    return any(".".join(parts[:count]) in LEFT for count in range(1, len(parts) + 1))


def test_one_package_writes_outputs() -> None:
    wrong = [
        module
        for module, path in FILES.items()
        if not module.startswith("pipeline.artifacts") and not is_left(module)
        if PARTS.search(path.read_text(encoding="utf-8"))
    ]
    assert wrong == []
