"""Tables of bits: the rows of the papers, and files of another length."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import numpy as np
import pytest

from pipeline.core.errors import UserError
from pipeline.datasets import catalog
from pipeline.datasets.formats import text_and_idx
from pipeline.datasets.tables import uci_binary
from tests.places import MIRROR

needs_mirror = pytest.mark.skipif(
    not (MIRROR / "uci_binary").is_dir(), reason=f"no data mirror at {MIRROR}"
)


def test_wrong_number_of_rows_names_the_file(tmp_path: Path) -> None:
    for split in catalog.SPLITS:
        (tmp_path / f"dna.{split}.data").write_text(",".join("0" * 180) + "\n")
    with pytest.raises(UserError, match="dna.train.data: expected 1600 rows, got 1"):
        catalog.get_dataset({"name": "dna"}).decode(tmp_path)


@needs_mirror
def test_dna_follows_the_papers_by_default() -> None:
    raw = MIRROR / "uci_binary"
    published = catalog.get_dataset({"name": "dna"})
    distributed = catalog.get_dataset({"name": "dna", "split": "as_distributed"})
    assert "1400/600/1186 as in the papers" in published.provenance
    assert "as distributed, 1600/400/1186" in distributed.provenance
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            text_and_idx,
            "read_bytes",
            lambda path: gzip.decompress((raw / f"{path.name}.gz").read_bytes()),
        )
        ours, theirs = published.decode(raw), distributed.decode(raw)
    assert [len(ours[split].x) for split in catalog.SPLITS] == [1400, 600, 1186]
    assert [len(theirs[split].x) for split in catalog.SPLITS] == [1600, 400, 1186]
    for parts in zip(*[(s["train"].x, s["valid"].x) for s in (ours, theirs)], strict=True):
        assert parts[0].shape[1] == parts[1].shape[1] == 180
    joined = np.concatenate([theirs["train"].x, theirs["valid"].x])
    papers = json.loads((raw / "dna_papers_split.json").read_text())
    for split in ("train", "valid"):
        np.testing.assert_array_equal(ours[split].x, joined[papers[split]])


def test_the_papers_rows_of_dna_are_each_of_the_files_rows_once() -> None:
    rows = uci_binary.read_dna_split()
    assert {split: len(found) for split, found in rows.items()} == {"train": 1400, "valid": 600}
    assert sorted(np.concatenate(list(rows.values()))) == list(range(2000))
    assert np.sum(rows["valid"] < 1400) == 398  # which the first 1,400 rows would train on
