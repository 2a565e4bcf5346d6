"""Shards: bytes, atomic writing, reading by rank, and every way in which they can be corrupt."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from arcore.events import Binary, Event, Levels, Real
from pipeline.core.errors import UserError
from pipeline.data import preprocessing, shard_reader
from pipeline.data.manifest import read_manifest
from pipeline.data.shard_reader import ShardReader
from pipeline.data.shuffling import part
from pipeline.datasets.base import SPLITS, Dataset, SplitData, SplitStream
from tests.support.refusals import raising, refused
from tests.support.toy_datasets import Toy, toy_dataset

ROWS = {"train": 5000, "valid": 7, "test": 11}


def toy(
    event: Event = Levels(5, (2, 3)),  # noqa: B008
    num_classes: int | None = 4,
    rows_per_shard: int = 3000,
) -> Toy:
    return toy_dataset(event, num_classes, rows_per_shard)


def toy_splits(dataset: Dataset) -> dict[str, SplitData]:
    rng = np.random.default_rng(0)
    splits = {}
    for split, rows in ROWS.items():
        shape = (rows, *dataset.event.shape)
        if isinstance(dataset.event, Levels):
            x = rng.integers(0, dataset.event.num_levels, shape, dtype=np.uint8)
        else:
            x = rng.standard_normal(shape, dtype=np.float32)
        labels = None if dataset.num_classes is None else rng.integers(0, 4, rows)
        splits[split] = SplitData(x, labels)
    return splits


@pytest.fixture
def written(tmp_path: Path) -> Path:
    dataset = toy()
    return preprocessing.write(dataset, toy_splits(dataset), tmp_path / "toy")


def refuse_to_write(
    folder: Path, message: str, dataset: Dataset, **changed: SplitData | SplitStream
) -> None:
    with refused(message):
        preprocessing.write(dataset, {**toy_splits(dataset), **changed}, folder / "toy")
    assert list(folder.iterdir()) == []


def folder_bytes(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def seal(described: dict[str, Any]) -> None:
    described.pop("manifest_sha256", None)
    text = json.dumps(described, sort_keys=True)
    described["manifest_sha256"] = hashlib.sha256(text.encode()).hexdigest()


def edit_manifest(folder: Path, edit: Callable[[dict[str, Any]], object]) -> None:
    path = folder / "manifest.json"
    described = json.loads(path.read_text())
    edit(described)
    seal(described)
    path.write_text(json.dumps(described))


# Writing and reading


@pytest.mark.parametrize(
    ("event", "num_classes"),
    [
        (Levels(5, (2, 3)), 4),
        (Levels(256, (1,)), None),
        (Binary((7,)), None),
        (Real((3,)), None),
        (Real((1, 2, 2)), 4),
    ],
    ids=str,
)
def test_round_trip(tmp_path: Path, event: Event, num_classes: int | None) -> None:
    dataset = toy(event, num_classes)
    splits = toy_splits(dataset)
    folder = preprocessing.write(dataset, splits, tmp_path / "toy")
    manifest = read_manifest(folder)
    assert manifest.event == event and type(manifest.event) is type(event)
    assert (manifest.dataset, manifest.num_classes, manifest.unit) == ("toy", num_classes, "nats")
    assert manifest.options == {"rows_per_shard": 3000} and manifest.provenance == "made up"
    for split in SPLITS:
        read = shard_reader.read_split(folder, split)
        assert len(read) == manifest.splits[split].rows == ROWS[split]
        assert read.x.dtype == splits[split].x.dtype and read.x.flags.writeable
        np.testing.assert_array_equal(read.x, splits[split].x)
        if num_classes is None:
            assert read.labels is None
        else:
            assert read.labels is not None and read.labels.dtype == np.int64
            np.testing.assert_array_equal(read.labels, splits[split].labels)


def test_more_shards_than_five_digits_number_are_read_in_order(written: Path) -> None:
    """100,001 of them are not written here: two have the names of the last."""
    whole = shard_reader.read_split(written, "train").x
    names = [f"train-{number:05d}-of-{100_001:05d}.parquet" for number in (99_999, 100_000)]
    for number, name in enumerate(names):
        (written / f"train-0000{number}-of-00002.parquet").rename(written / name)

    def rename(described: dict[str, Any]) -> None:
        for shard, name in zip(described["splits"]["train"]["shards"], names, strict=True):
            shard["file"] = name

    edit_manifest(written, rename)
    np.testing.assert_array_equal(shard_reader.read_split(written, "train").x, whole)


def read_part(written: Path | str, split: str, rank: int, world_size: int) -> SplitData:
    reader = ShardReader(written, split)
    return reader.read([part(len(reader), rank, world_size)])


def test_a_rank_reads_only_its_shards(written: Path) -> None:
    (written / "train-00001-of-00002.parquet").unlink()
    assert len(read_part(written, "train", rank=0, world_size=2)) == 2500
    with refused("train-00001-of-00002.parquet: shard not found"):
        read_part(written, "train", rank=1, world_size=2)


def test_a_shard_of_another_number_of_rows_is_refused(written: Path) -> None:
    def lengthen(described: dict[str, Any]) -> None:
        train = described["splits"]["train"]
        train["shards"][1]["rows"] += 1
        train["rows"] += 1

    edit_manifest(written, lengthen)
    with refused("corrupt shard: expected 2001 rows, got 2000"):
        shard_reader.read_split(written, "train")


def test_content_hash_ignores_how_rows_are_cut_but_not_rows(tmp_path: Path, written: Path) -> None:
    dataset = toy(rows_per_shard=100)
    splits = toy_splits(dataset)
    cut = read_manifest(preprocessing.write(dataset, splits, tmp_path / "cut"))
    sha256 = read_manifest(written).sha256
    assert sha256 == "97c4d6670fb51500d8d7774938658cdc84b10d55d6d1f27ea42d3c8d6360ec9c"
    assert cut.sha256 == sha256 and len(cut.splits["train"].shards) == 50
    labels = splits["valid"].labels
    assert labels is not None
    splits["valid"] = replace(splits["valid"], labels=(labels + 1) % 4)
    changed = read_manifest(preprocessing.write(dataset, splits, tmp_path / "changed"))
    assert changed.sha256 != sha256


def test_rows_to_be_dequantised_keep_their_levels(tmp_path: Path) -> None:
    dataset = toy(Real((3,), bin_width=0.25), None)
    rng = np.random.default_rng(1)
    levels = rng.integers(0, 4, (50, 3), dtype=np.uint8)
    reals = rng.random((7, 3), dtype=np.float32)
    splits = {"train": SplitData(levels, None, "dequantize")}
    splits |= {"valid": SplitData(reals), "test": SplitData(reals)}
    folder = preprocessing.write(dataset, splits, tmp_path / "toy")
    train, valid = (shard_reader.read_split(folder, split) for split in ("train", "valid"))
    assert train.read_transform == "dequantize" and valid.read_transform is None
    np.testing.assert_array_equal(train.x, levels)
    np.testing.assert_array_equal(valid.x, reals)
    assert train.x.dtype == np.uint8 and valid.x.dtype == np.float32
    assert read_manifest(folder).event == dataset.event
    splits["train"] = SplitData(levels + np.uint8(1), None, "dequantize")
    with pytest.raises(UserError, match=r"split train: expected levels in \[0, 4\), got 4"):
        preprocessing.write(dataset, splits, tmp_path / "wrong")
    described = json.loads((folder / "manifest.json").read_text())
    described["event"] = {"kind": "real", "shape": [3]}
    (folder / "manifest.json").write_text(json.dumps(described))
    with refused("malformed manifest: event: expected Real with a bin_w"):
        read_manifest(folder)


# Streams


def in_parts(data: SplitData, sizes: list[int]) -> SplitStream:
    ends = np.cumsum(sizes)
    parts = [data[end - size : end] for end, size in zip(ends, sizes, strict=True)]
    return SplitStream(len(data.x), iter(parts))


@pytest.mark.parametrize("sizes", [[5000], [3000, 2000], [1] * 9 + [4991], [2999, 2, 1999]])
@pytest.mark.parametrize("num_classes", [4, None])
def test_a_stream_gives_the_bytes_of_the_array(
    tmp_path: Path, sizes: list[int], num_classes: int | None
) -> None:
    dataset = toy(num_classes=num_classes)
    splits = toy_splits(dataset)
    whole = preprocessing.write(dataset, splits, tmp_path / "whole")
    streamed = {**splits, "train": in_parts(splits["train"], sizes)}
    folder = preprocessing.write(dataset, streamed, tmp_path / "streamed")
    assert folder_bytes(folder) == folder_bytes(whole)


@pytest.mark.parametrize(("rows", "got"), [(4999, 5000), (5001, 5000), (9000, 5000)])
def test_a_stream_of_another_number_of_rows_is_refused(tmp_path: Path, rows: int, got: int) -> None:
    train = replace(in_parts(toy_splits(toy())["train"], [5000]), rows=rows)
    message = f"toy, split train: expected {rows} rows, got {got}"
    refuse_to_write(tmp_path, message, toy(), train=train)


def test_every_part_of_a_stream_is_checked(tmp_path: Path) -> None:
    train = toy_splits(toy())["train"]
    train.x[4999] = 5
    message = r"toy, split train: expected levels in \[0, 5\), got 5"
    refuse_to_write(tmp_path, message, toy(), train=in_parts(train, [3000, 1000, 1000]))


# Blocks


@pytest.mark.parametrize("rows_per_shard", [100, 2048, 3000, 9999])
def test_blocks_are_the_row_groups_of_the_shards(tmp_path: Path, rows_per_shard: int) -> None:
    dataset = toy(rows_per_shard=rows_per_shard)
    splits = toy_splits(dataset)
    folder = preprocessing.write(dataset, splits, tmp_path / "toy")
    reader = ShardReader(folder, "train")
    groups = []
    for shard in reader.info.shards:
        with pq.ParquetFile(folder / shard.file) as parquet:
            metadata = parquet.metadata
        groups += [metadata.row_group(n).num_rows for n in range(metadata.num_row_groups)]
    blocks = [(block.start, block.stop) for block in reader.blocks]
    assert [stop - start for start, stop in blocks] == groups
    assert [start for start, _ in blocks] == [0, *np.cumsum(groups)[:-1]]
    assert sum(groups) == ROWS["train"]
    for start, stop in blocks:
        np.testing.assert_array_equal(reader.read([(start, stop)]).x, splits["train"].x[start:stop])


def test_rows_are_read_by_position_from_few_row_groups(written: Path, monkeypatch) -> None:
    whole, reader = shard_reader.read_split(written, "train"), ShardReader(written, "train")
    rows = np.array([4999, 7, 7, 2500, 0, 3000])
    got, expected = reader[rows], whole[rows]
    np.testing.assert_array_equal(got.x, expected.x)
    np.testing.assert_array_equal(got.labels, expected.labels)
    with pytest.raises(ValueError, match="rows: expected at least one"):
        reader[np.array([], int)]
    read: list[object] = []
    monkeypatch.setattr(ShardReader, "read", lambda _, ranges: read.append(ranges) or whole)
    reader[np.array([4998, 4999])]
    assert not read, "the last row groups are kept"


def test_any_ranges_can_be_read(written: Path) -> None:
    whole = shard_reader.read_split(written, "train")
    ranges = [(4990, 5000), (10, 20), (2040, 3001), (0, 0), (2999, 3000)]
    data = ShardReader(written, "train").read(ranges)
    rows = np.concatenate([np.arange(*pair) for pair in ranges])
    np.testing.assert_array_equal(data.x, whole.x[rows])
    assert whole.labels is not None and data.labels is not None
    np.testing.assert_array_equal(data.labels, whole.labels[rows])


def test_only_the_row_groups_that_are_asked_for_are_read(written: Path, monkeypatch) -> None:
    groups: list[int] = []
    original = pq.ParquetFile.read_row_group

    def counted(self: Any, group: int, **options: Any) -> Any:
        groups.append(group)
        return original(self, group, **options)

    monkeypatch.setattr(pq.ParquetFile, "read_row_group", counted)
    ShardReader(written, "train").read([(2048, 3000)])
    assert groups == [1]


def test_sum_is_checked_once_a_process_unless_the_file_changes(written: Path, monkeypatch) -> None:
    sums: list[int] = []
    original = hashlib.sha256
    monkeypatch.setattr(hashlib, "sha256", lambda *a: sums.append(1) or original(*a))
    ShardReader(written, "valid")  # the manifest has sums of its own
    base = len(sums)
    for _ in range(3):
        shard_reader.read_split(written, "valid")
    assert len(sums) == 4 * base + 1, "of the file, once"
    path = written / "valid-00000-of-00001.parquet"
    path.write_bytes(path.read_bytes() + b"0")
    with refused("valid-00000-of-00001.parquet: corrupt shard"):
        shard_reader.read_split(written, "valid")


def test_memory_that_runs_out_is_no_damage(written: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    error = pa.ArrowMemoryError("malloc of size 4194304 failed")
    monkeypatch.setattr(shard_reader, "_row_group", raising(error))
    with pytest.raises(MemoryError, match="malloc of size"):
        shard_reader.read_split(written, "valid")


def test_a_uri_is_read_like_a_folder(written: Path) -> None:
    uri = written.as_uri()
    assert read_manifest(uri) == read_manifest(written)
    np.testing.assert_array_equal(
        read_part(uri, "train", 1, 3).x,
        read_part(written, "train", 1, 3).x,
    )
    (written / SHARD).unlink()
    with refused(f"^file://.*{SHARD}: shard not found"):
        shard_reader.read_split(uri, "train")
    with refused("^file:///nowhere/manifest.json: file not found"):
        read_manifest("file:///nowhere")


# Atomicity


def test_failure_midway_leaves_the_old_shards_and_nothing_else(tmp_path, written: Path) -> None:
    before = folder_bytes(written)
    dataset = toy()
    splits = toy_splits(dataset)
    splits["test"] = replace(splits["test"], x=splits["test"].x + 1)
    with pytest.raises(UserError, match=r"toy, split test: expected levels in \[0, 5\), got 5"):
        preprocessing.write(dataset, splits, written)
    assert folder_bytes(written) == before
    assert [path.name for path in tmp_path.iterdir()] == ["toy"]


# Bad rows


@pytest.mark.parametrize(
    ("event", "num_classes", "x", "labels", "message"),
    [
        (Binary((2,)), None, np.full((3, 2), 2, np.uint8), None, r"levels in \[0, 2\), got 2"),
        (Binary((2,)), None, np.zeros((3, 3), np.uint8), None, r"rows of shape \(2,\)"),
        (Binary((2,)), None, np.zeros((3, 2), np.int64), None, "dtype uint8, got .* int64"),
        (Binary((2,)), None, np.zeros((0, 2), np.uint8), None, r"got an array of shape \(0, 2\)"),
        (Real((2,)), None, np.full((3, 2), np.nan, np.float32), None, "got NaN or infinity"),
        (Binary((2,)), 4, np.zeros((3, 2), np.uint8), None, "for a row's label, got None"),
        (Binary((2,)), 4, np.zeros((3, 2), np.uint8), np.array([0, 1]), "expected labels of shape"),
        (Binary((2,)), 4, np.zeros((3, 2), np.uint8), np.array([0, 1, 4]), r"labels in \[0, 3\]"),
    ],
)
def test_bad_rows_are_refused(tmp_path, event, num_classes, x, labels, message: str) -> None:
    message = f"toy, split valid: .*{message}"
    refuse_to_write(tmp_path, message, toy(event, num_classes), valid=SplitData(x, labels))


# Corruption

SHARD = "train-00001-of-00002.parquet"


@pytest.mark.parametrize(
    "change",
    [
        lambda b: b[:-10],
        lambda b: b"",
        lambda b: b[:100] + bytes([b[100] ^ 1]) + b[101:],
        lambda b: b + b"0",
    ],
    ids=["truncated", "empty", "flipped bit", "overlong"],
)
def test_corrupt_shard_is_named(written: Path, change: Callable[[bytes], bytes]) -> None:
    path = written / SHARD
    path.write_bytes(change(path.read_bytes()))
    with refused(f"{SHARD}: corrupt shard: expected sha256"):
        shard_reader.read_split(written, "train")
    assert len(shard_reader.read_split(written, "valid")) == 7


def test_what_a_manifest_says_is_under_its_own_hash(written: Path) -> None:
    path = written / "manifest.json"
    for field, value in (("provenance", "elsewhere"), ("published_name", "mnist")):
        described = json.loads(path.read_text())
        described[field] = value
        path.write_text(json.dumps(described))
        with refused("manifest_sha256: expected that of the other fields"):
            read_manifest(written)
        seal(described)
        path.write_text(json.dumps(described))
        read_manifest(written)


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda m: m.pop("event"), "no field 'event'"),
        (lambda m: m.update(format=1), "expected a manifest of format 2, got 1"),
        (lambda m: m.update(sha256="0" * 64), "field sha256: it does not match"),
        (lambda m: m["event"].update(num_levels=6), "field sha256: it does not match"),
        (lambda m: m["event"].update(kind="odd"), "event kind"),
        (lambda m: m.update(unit="furlongs"), "field unit: expected 'nats', 'bits_per_dim'"),
        (lambda m: m.update(num_classes="4"), "field num_classes"),
        (lambda m: m["splits"].pop("valid"), "field splits: expected the splits train, valid"),
        (lambda m: m.update(splits=3), "malformed"),
        (lambda m: m["splits"]["train"].update(rows=1), "expected shards of 1 rows"),
        (lambda m: m["splits"]["train"]["shards"][0].update(file="../x.parquet"), "plain file"),
        (lambda m: m["splits"]["train"]["shards"][0].update(file="/etc/passwd"), "plain file"),
        (lambda m: m["splits"]["train"]["shards"][0].update(rows=True), "field .*rows"),
        (lambda m: m["splits"]["train"].update(shards=[1]), "malformed"),
    ],
)
def test_malformed_manifest(written: Path, edit: Callable[[Any], object], message: str) -> None:
    edit_manifest(written, edit)
    with refused(f"manifest.json: .*{message}"):
        read_manifest(written)
