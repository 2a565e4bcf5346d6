"""Tables: reading, red wine's ten folds, and CSV files of the user's own."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from arcore.events import Real
from pipeline.core.errors import UserError
from pipeline.data import fetching, preprocessing, shard_reader
from pipeline.datasets import catalog
from pipeline.datasets.tables import csv_table
from tests.places import MIRROR
from tests.support.refusals import refused

needs_mirror = pytest.mark.skipif(
    not (MIRROR / "uci_real").is_dir(), reason=f"no data mirror at {MIRROR}"
)


# Reading


def test_read_table(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text('\ufeff"a b"; c;who\n1;-2.5e1;me\n\n3;4;you\n')
    names, values = csv_table.read_table(path, ";", header=True, drop=["who"])
    assert names == ["a b", "c"] and values.tolist() == [[1, -25], [3, 4]]
    path.write_text("1,2\n3,4\n")
    names, values = csv_table.read_table(path, ",", header=False, drop=["0"])
    assert names == ["1"] and values.tolist() == [[2], [4]]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "expected a table, got an empty file"),
        ("a,b\n", "expected rows of numbers below the header, got none"),
        ("a,a\n1,2\n", "expected columns of different names, got 'a' twice"),
        ("a,b\n1,2\n1\n", "row 3: expected 2 cells, got 1"),
        ("a,b\n1,2\n\n1,2,3\n", "row 4: expected 2 cells, got 3"),
        ("a,b\n1,x\n", "row 2, column 'b': expected a finite number, got 'x'"),
        ("a,b\n1,\n", "row 2, column 'b': expected a finite number, got ''"),
        ("a,b\nnan,1\n", "row 2, column 'a': expected a finite number, got 'nan'"),
        ("a,b\n1,-inf\n", "row 2, column 'b': expected a finite number, got '-inf'"),
        ('a,b\n"1,2\n', "row 2: not a table of text"),
        ("a,b\n1,\udcff\n", "row 2: not a table of text"),
    ],
)
def test_read_table_names_file_row_and_column(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "t.csv"
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    with refused(f"t.csv: {message}"):
        csv_table.read_table(path, ",", header=True)


def test_one_of_each_correlated_pair_is_dropped() -> None:
    x = np.random.default_rng(0).normal(size=(500, 3))
    near = x[:, :1] + 0.05 * np.random.default_rng(1).normal(size=(500, 1))
    assert csv_table.uncorrelated(np.hstack([x, -near]), 0.98) == [0, 1, 2]
    assert csv_table.uncorrelated(np.hstack([x, -near]), 0.9999) == [0, 1, 2, 3]
    assert csv_table.uncorrelated(np.hstack([near, x]), 0.98) == [0, 2, 3]


# Red wine


@needs_mirror
def test_red_wine_has_ten_disjoint_folds_standardised_by_their_training_rows() -> None:
    _, values = csv_table.read_table(
        MIRROR / "uci_real" / csv_table.WINE_FILE, ";", True, ["quality"]
    )
    everything = {tuple(row) for row in values.round(9)}
    tested: list[tuple[float, ...]] = []
    for fold in range(csv_table.NUM_FOLDS):
        dataset = catalog.get_dataset({"name": "red_wine", "fold": fold})
        splits = dataset.decode(MIRROR / "uci_real")
        sizes = [len(splits[split].x) for split in catalog.SPLITS]
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
    for split in catalog.SPLITS:
        np.testing.assert_array_equal(published[split].x, mirrored[split].x)
    path.write_bytes(b"\n".join(lines).replace(b"quality", b"Quality"))
    with pytest.raises(UserError, match="wrong checksum for winequality-red.csv"):
        fetching.verify_raw(dataset)


@pytest.mark.parametrize("fold", [-1, 10])
def test_folds_out_of_range_are_refused(fold: int) -> None:
    with pytest.raises(UserError, match=f"option fold .*: expected 0 to 9, got {fold}"):
        catalog.get_dataset({"name": "red_wine", "fold": fold})


# CSV files


@pytest.fixture
def project(workdir: Path) -> Path:
    """A working directory with a table of 50 rows of two numbers, a name and a constant."""
    rng = np.random.default_rng(0)
    lines = [f"{3 * a + 7:.6f};m{i};{b:.6f};5" for i, (a, b) in enumerate(rng.normal(size=(50, 2)))]
    (workdir / "mine.csv").write_text("\n".join(["speed;who;heat;five", *lines]) + "\n")
    return workdir


def mine(**options: Any) -> catalog.Dataset:
    given = {"path": "mine.csv", "delimiter": ";", "drop": ["who", "five"], "test_fraction": 0.2}
    return catalog.get_dataset({"name": "mine", "kind": "csv", **given, **options})


def test_a_csv_file_is_fetched_split_and_standardised(project: Path) -> None:
    dataset = mine()
    assert dataset.event == Real((2,)) and dataset.unit == "nats"
    fetching.fetch(dataset)
    preprocessing.preprocess(dataset)
    parts = {
        split: shard_reader.read_split("data/shards/mine", split).x for split in catalog.SPLITS
    }
    assert [len(parts[split]) for split in catalog.SPLITS] == [35, 5, 10]
    np.testing.assert_allclose(parts["train"].mean(0), 0, atol=1e-6)
    np.testing.assert_allclose(parts["train"].std(0), 1, atol=1e-6)
    plain = mine(standardize=False).decode(fetching.raw_folder("mine"))
    assert abs(plain["train"].x[:, 0].mean() - 7) < 2
    scale = plain["train"].x.std(0)
    np.testing.assert_allclose(
        parts["test"] * scale, plain["test"].x - plain["train"].x.mean(0), atol=1e-4
    )
    other = mine(standardize=False, split_seed=1).decode(fetching.raw_folder("mine"))
    assert not np.array_equal(other["test"].x, plain["test"].x)
    # Without the original the copy serves; a changed original is noticed.
    text = Path("mine.csv").read_text()
    Path("mine.csv").unlink()
    assert mine().files == dataset.files
    Path("mine.csv").write_text(text.replace(";5\n", ";6\n"))
    changed = "mine.csv: changed since it was fetched; run python -m stages.fetch mine"
    with pytest.raises(UserError, match=changed):
        preprocessing.preprocess(mine())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"path": "other.csv"}, "option path of dataset 'mine': expected an existing file, got 'o"),
        ({"path": ""}, "option path of dataset 'mine': expected an existing file, got ''"),
        ({"path": "."}, "option path of dataset 'mine': expected an existing file"),
        ({"delimiter": ";;"}, "option delimiter of dataset 'mine': expected a character, got ';;'"),
        ({"drop": ["who", "fife"]}, "unknown column of .*mine.csv 'fife'; did you mean 'five'"),
        ({"drop": [1.5]}, r"option drop of dataset 'mine': expected a valid string, got \[1.5\]"),
        ({"drop": [1]}, "unknown column of .*mine.csv '1'"),
        ({"drop": "who"}, "option drop of dataset 'mine': expected a valid list"),
        ({"drop": ["speed", "who", "heat", "five"]}, "expected a column that is not dropped"),
        ({"test_fraction": 0.0}, r"option test_fraction .*: expected in \(0, 1\), got 0.0"),
        ({"pth": "x"}, "unknown mine option 'pth'; did you mean 'path'"),
        ({"kind": "tsv"}, "unknown kind of dataset 'tsv'"),
        ({"name": "../mine"}, "expected a new name of letters, digits and '_' .* got '../mine'"),
        ({"name": "digits"}, "expected a new name of .*, got 'digits'"),
    ],
)
def test_bad_options_are_one_clear_line(project: Path, options: dict, message: str) -> None:
    with refused(message):
        mine(**options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"drop": ["who"]}, "column 'five': expected different values, got 5 in all training rows"),
        ({"drop": ["five"]}, "row 2, column 'who': expected a finite number, got 'm0'"),
        ({"test_fraction": 0.95}, r"each of train, valid and test \(two\), got 50 rows with"),
        ({"valid_fraction": 0.001}, "expected rows for each of train, valid and test"),
    ],
)
def test_bad_tables_are_one_clear_line(project: Path, options: dict, message: str) -> None:
    with refused(message):
        mine(**options).decode(project)


def test_a_conf_file_makes_a_dataset(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    described = {"name": "mine", "kind": "csv", "path": "mine.csv", "delimiter": ";"}
    (project / "mine.yaml").write_text(yaml.safe_dump(described | {"drop": ["who", "five"]}))
    monkeypatch.setattr(catalog, "CONF_FOLDER", project)
    loaded = catalog.load_config("mine", ["split_seed=3"])
    assert catalog.get_dataset(loaded).options.split_seed == 3
    with pytest.raises(UserError, match="unknown dataset 'mime'; did you mean 'mine'"):
        catalog.load_config("mime")
    with pytest.raises(UserError, match="override 'kind=digits'"):
        catalog.load_config("mine", ["kind=digits"])
