"""How long the reproductions take, from the recorded seconds."""

import json
from pathlib import Path

import yaml

from reproductions import estimate
from tests.places import ROOT


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


def test_the_hours_of_this_project() -> None:
    params = yaml.safe_load((ROOT / estimate.PARAMS).read_text())
    text = estimate.notice(params, ROOT / "results")
    assert "hours of a core or two" in text and "  binarized_mnist, " in text
    assert max(map(len, text.splitlines())) <= 120
