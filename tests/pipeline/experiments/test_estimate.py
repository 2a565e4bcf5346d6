"""What everything takes, from the seconds on record."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pipeline.experiments import estimate


def test_members_are_counted_once(tmp_path: Path) -> None:
    for name, trained in (("a", 100.0), ("b", 50.0), ("both", 151.0)):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "metrics.json").write_text(json.dumps({"dataset": "digits"}))
        timing = {"train_seconds": trained, "evaluate_seconds": 3.0, "coded_seconds": 2.0}
        (folder / "timing.json").write_text(json.dumps(timing))
    rest = 3 * (3 + 2 * 2)  # what is coded is decoded too
    assert estimate.recorded(tmp_path, mixtures=["both"]) == {"digits": 150 + rest}
    assert estimate.recorded(tmp_path) == {"digits": 301 + rest}


def test_an_entry_without_uses_is_passed_over(home: Path) -> None:
    folder = home / "results/gallery/a"
    folder.mkdir(parents=True)
    (folder / "orderings.json").write_text(json.dumps({"dataset": "digits", "seconds": 700.0}))
    said = estimate.notice({"datasets": ["digits"], "uses": {"a": None}})
    assert "digits, 0.2 hours" in said and "uses, whose seconds" not in said


def test_uses_are_counted_where_their_seconds_are_on_record(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = home / "results/gallery/a"
    folder.mkdir(parents=True)
    for use, seconds in (("orderings", {"seconds": 700.0}), ("learned", {})):
        (folder / f"{use}.json").write_text(json.dumps({"dataset": "digits"} | seconds))
    for searches in (True, False):
        assert estimate.recorded(home / "results", searches) == {"digits": 700.0}
    listed = {use: {} for use in ("orderings", "learned", "features")}
    said = estimate.notice({"datasets": ["digits"], "uses": {"a": {"uses": listed}}})
    assert "and 2 uses, whose seconds are not on record" in said
    assert "report@digits" not in said, "no short one"
