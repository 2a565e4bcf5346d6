"""Published tables: ten folds of red wine, and the papers' rows of tables of bits."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest

from pipeline.core.errors import UserError
from pipeline.data import fetching
from pipeline.datasets import base, catalog
from pipeline.datasets.tables import binary_vectors, csv_table
from tests.places import MIRROR

needs_mirror = pytest.mark.skipif(
    not all((MIRROR / name).is_dir() for name in ("uci_real", "uci_binary")),
    reason=f"no data mirror at {MIRROR}",
)


@needs_mirror
def test_red_wine_has_ten_disjoint_folds_standardised_by_their_training_rows() -> None:
    table = csv_table.read_table(MIRROR / "uci_real" / csv_table.WINE_FILE, ";")
    values = table.drop(columns="quality").to_numpy(object).astype(float)
    everything = {tuple(row) for row in values.round(9)}
    correlation = np.abs(np.corrcoef(values, rowvar=False)) - np.eye(csv_table.WINE_COLUMNS)
    assert correlation.max() < 0.98, "else the protocol would drop one of a pair"
    tested: list[tuple[float, ...]] = []
    for fold in range(csv_table.NUM_FOLDS):
        dataset = catalog.get_dataset({"name": "red_wine", "fold": fold})
        splits = dataset.decode(MIRROR / "uci_real")
        assert splits["train"].x.shape[1] == csv_table.WINE_COLUMNS
        sizes = [len(splits[split].x) for split in base.SPLITS]
        assert sum(sizes) == 1599 and sizes[1] in (159, 160) and sizes[2] in (159, 160)
        train = splits["train"].x.astype(np.float64)
        np.testing.assert_allclose(train.mean(0), 0, atol=1e-6)
        np.testing.assert_allclose(train.std(0), 1, atol=1e-6)
        # From this fold's units back to the table's own, by the two rows' known affine map.
        rows = _original_rows(values, fold, "train")
        mean, deviation = rows.mean(0), rows.std(0)
        test = splits["test"].x * deviation + mean
        np.testing.assert_allclose(test, _original_rows(values, fold, "test"), rtol=1e-4, atol=1e-5)
        tested += [tuple(row) for row in _original_rows(values, fold, "test").round(9)]
    assert len(tested) == 1599 and set(tested) == everything


def _original_rows(values: np.ndarray, fold: int, split: str) -> np.ndarray:
    parts = np.array_split(csv_table.permute_rows(1599, 0), 10)
    chosen = {"test": parts[fold], "valid": parts[(fold + 1) % 10]}
    chosen["train"] = np.concatenate(
        [part for k, part in enumerate(parts) if k not in (fold, (fold + 1) % 10)]
    )
    return values[np.sort(chosen[split])]


def test_folds_never_change() -> None:
    assert csv_table.permute_rows(1599, 0)[:6].tolist() == [557, 424, 325, 817, 208, 1090]


@needs_mirror
def test_red_wine_in_either_spelling_is_fetched(workdir, monkeypatch) -> None:
    """The published file has "2.0" where the mirror's has "2"; the values are the same."""
    monkeypatch.setenv("ARCORE_MIRROR", str(MIRROR))
    dataset = catalog.get_dataset({"name": "red_wine"})
    raw = fetching.fetch(dataset)
    mirrored = dataset.decode(fetching.verify_raw(dataset))
    path = raw / csv_table.WINE_FILE
    lines = path.read_bytes().split(b"\n")
    assert lines[152] == b"9.2;0.52;1;3.4;0.61;32;69;0.9996;2.74;2;9.4;4"
    lines[152] = lines[152].replace(b";2;", b";2.0;")
    path.write_bytes(b"\n".join(lines))
    assert hashlib.sha256(path.read_bytes()).hexdigest() == dataset.files[0].sha256
    published = dataset.decode(fetching.verify_raw(dataset))
    for split in base.SPLITS:
        np.testing.assert_array_equal(published[split].x, mirrored[split].x)
    path.write_bytes(b"\n".join(lines).replace(b"quality", b"Quality"))
    with pytest.raises(UserError, match="wrong checksum for winequality-red.csv"):
        fetching.verify_raw(dataset)


@pytest.mark.parametrize("fold", [-1, 10])
def test_folds_out_of_range_are_refused(fold: int) -> None:
    with pytest.raises(UserError, match=f"option fold .*: expected 0 to 9, got {fold}"):
        catalog.get_dataset({"name": "red_wine", "fold": fold})


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
    rows = binary_vectors.read_dna_split()
    assert {split: len(found) for split, found in rows.items()} == {"train": 1400, "valid": 600}
    assert sorted(np.concatenate(list(rows.values()))) == list(range(2000))
    assert np.sum(rows["valid"] < 1400) == 398  # which the first 1,400 rows would train on
