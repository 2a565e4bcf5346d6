"""Only pipeline.artifacts locks, replaces, stamps and publishes; checkpoints and repro use it."""

import re

from tests.places import ROOT
from tests.support.sources import FILES, code_of

PARTS = re.compile(r"\bimport\b.*\b(locks|replacing)\b|\b(locks\.held|replacing\()")
OURS = [path for module, path in FILES.items() if module.split(".")[0] != "arcore"]


def test_one_package_writes_outputs() -> None:
    users = [path.relative_to(ROOT) for path in OURS if PARTS.search(code_of(path))]
    elsewhere = [str(path) for path in users if path.parent.name != "artifacts"]
    parts = ["pipeline/repro/update_targets.py", "pipeline/training/checkpoint_store.py"]
    assert sorted(elsewhere) == parts
