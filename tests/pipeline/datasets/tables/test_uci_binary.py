"""Tables of bits: the rows of the papers, and files of another length."""

import json
from pathlib import Path

import numpy as np
import pytest

from pipeline.data import fetching
from pipeline.datasets import base, catalog
from pipeline.datasets.tables import uci_binary
from tests.places import MIRROR

needs_mirror = pytest.mark.skipif(
    not (MIRROR / "uci_binary").is_dir(), reason=f"no data mirror at {MIRROR}"
)


@needs_mirror
def test_dna_follows_the_papers_by_default(workdir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ARCORE_MIRROR", str(MIRROR))
    published = catalog.get_dataset({"name": "dna"})
    distributed = catalog.get_dataset({"name": "dna", "split": "as_distributed"})
    assert "1400/600/1186 as in the papers" in published.provenance
    assert "as distributed, 1600/400/1186" in distributed.provenance
    raw = fetching.fetch(published)
    ours, theirs = published.decode(raw), distributed.decode(raw)
    assert [len(ours[split].x) for split in base.SPLITS] == [1400, 600, 1186]
    assert [len(theirs[split].x) for split in base.SPLITS] == [1600, 400, 1186]
    for parts in zip(*[(s["train"].x, s["valid"].x) for s in (ours, theirs)], strict=True):
        assert parts[0].shape[1] == parts[1].shape[1] == 180
    joined = np.concatenate([theirs["train"].x, theirs["valid"].x])
    papers = json.loads((MIRROR / "uci_binary" / "dna_papers_split.json").read_text())
    for split in ("train", "valid"):
        np.testing.assert_array_equal(ours[split].x, joined[papers[split]])


def test_the_papers_rows_of_dna_are_each_of_the_files_rows_once() -> None:
    rows = uci_binary.read_dna_split()
    assert {split: len(found) for split, found in rows.items()} == {"train": 1400, "valid": 600}
    assert sorted(np.concatenate(list(rows.values()))) == list(range(2000))
    assert np.sum(rows["valid"] < 1400) == 398  # which the first 1,400 rows would train on
