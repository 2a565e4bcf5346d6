"""What everything takes, from the seconds on record."""

from __future__ import annotations

import json
from pathlib import Path

from pipeline.experiments import estimate


def test_members_are_counted_once(tmp_path: Path) -> None:
    for name, trained in (("a", 100.0), ("b", 50.0), ("both", 151.0)):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "metrics.json").write_text(json.dumps({"dataset": "digits"}))
        timing = {"train_seconds": trained, "evaluate_seconds": 3.0}
        (folder / "timing.json").write_text(json.dumps(timing))
    assert estimate.recorded(tmp_path, mixtures=["both"]) == {"digits": 150 + 3 * 3}
    assert estimate.recorded(tmp_path) == {"digits": 301 + 3 * 3}
