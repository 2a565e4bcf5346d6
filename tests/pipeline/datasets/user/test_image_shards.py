"""Images packed into Parquet files and tars: what is read, how it is split, one line for flaws."""

from __future__ import annotations

import fnmatch
import gzip
import io
import pickle
import re
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import yaml

from arcore.events import Levels
from pipeline.core.errors import UserError
from pipeline.datasets import adding, catalog
from pipeline.datasets.base import SPLITS, Dataset
from pipeline.datasets.formats import archives, packed_images
from pipeline.datasets.user import image_shards, image_source
from tests.support.own_files import (
    packed_pictures,
    write_image_parquet,
    write_image_tar,
    write_picture,
)
from tests.support.refusals import refused
from tests.support.user_datasets import shards


def added(path: str, *overrides: str) -> tuple[Dataset, str]:
    dataset, found = adding.add("image_folder", "mine", path, overrides)
    return dataset, "\n".join(found)


def tar_members(images: list[bytes], first: int = 0) -> list[tuple[str, bytes]]:
    """Samples of WebDataset, with members that nobody may read."""
    members = []
    for n, content in enumerate(images, first):
        members += [
            (f"part/{n:04d}.png", content),
            (f"part/{n:04d}.cls", f"{n % 3}\n".encode()),
            (f"part/{n:04d}.json", b"{"),
            (f"part/{n:04d}.pyd", pickle.dumps(n)),
        ]
    return members


def test_parquet_with_splits_by_name() -> None:
    images, names = packed_pictures(30), ["ant", "bee", "cow"]
    cut = {"train": range(20), "validation": range(20, 25), "test": range(25, 30)}
    for split, rows in cut.items():
        path = Path(f"birds/data/{split}-00000-of-00001.parquet")
        write_image_parquet(path, [images[n] for n in rows], [n % 3 for n in rows], names)
    dataset, found = added("birds")
    assert dataset.event == Levels(256, (3, 6, 8)) and dataset.num_classes == 3
    assert "30 images in 3 Parquet files of birds\ntrain: 20 rows\nvalid: 5 rows" in found
    assert "classes: 3, by label" in found
    parts = shards(dataset)
    assert [parts[split].labels.tolist() for split in SPLITS] == [
        [n % 3 for n in rows] for rows in cut.values()
    ]
    for number in range(0, 20, 2):  # PNG keeps pixels as they are
        pixels = np.random.default_rng(number).integers(0, 256, (6, 8, 3), np.uint8)
        np.testing.assert_array_equal(parts["train"].x[number], pixels.transpose(2, 0, 1))
    assert catalog.get_dataset(yaml.safe_load(Path("conf/mine.yaml").read_text())) == dataset


def test_tars_are_split_by_seed_and_nothing_else_of_them_is_read() -> None:
    images = packed_pictures(40)
    write_image_tar(Path("web/a.tar"), tar_members(images[:25]))
    write_image_tar(Path("web/b.tar.gz"), tar_members(images[25:], 25), "w:gz")
    dataset, found = added("web", "gray=true", "num_levels=16")
    assert dataset.event == Levels(16, (1, 6, 8)) and dataset.num_classes == 3
    assert "40 images in 2 tars of web\ntrain: 32 rows\nvalid: 4 rows\ntest: 4 rows" in found
    parts = shards(dataset)
    rows = [tuple(row.reshape(-1)) for split in SPLITS for row in parts[split].x]
    assert len(set(rows)) == 40
    counts = np.bincount(np.concatenate([parts[split].labels for split in SPLITS]))
    assert counts.tolist() == [14, 13, 13]
    write_image_parquet(Path("same.parquet"), list(images), [n % 3 for n in range(40)])
    same, _ = adding.add("image_folder", "same", "same.parquet", ["gray=true", "num_levels=16"])
    for split, part in shards(same).items():
        np.testing.assert_array_equal(part.x, parts[split].x)
        np.testing.assert_array_equal(part.labels, parts[split].labels)


def test_valid_is_drawn_from_train_where_files_name_train_and_test() -> None:
    images = packed_pictures(40)
    write_image_parquet(Path("two/train.parquet"), list(images[:30]), [0] * 30)
    write_image_parquet(Path("two/test.parquet"), list(images[30:]), [0] * 10)
    dataset, found = added("two", "label=", "valid_fraction=0.2")
    assert "train: 24 rows\nvalid: 6 rows\ntest: 10 rows" in found
    assert "0.2 of those of train for valid" in dataset.provenance
    assert dataset.num_classes is None


def test_files_of_no_split_are_told() -> None:
    images = packed_pictures(40)
    for name, part in (("train", images[:20]), ("dev", images[20:30]), ("test", images[30:])):
        write_image_parquet(Path(f"three/{name}.parquet"), list(part), [0] * len(part))
    _, found = added("three", "label=", "valid_fraction=0.2")
    assert "left aside: 1 other file: dev.parquet" in found


def test_many_files_become_one_pattern() -> None:
    files = [Path(f"d/data/{s}-{n}.parquet") for s in ("train", "test") for n in range(4)]
    assert image_shards.guess_patterns(Path("d"), files) == {
        "train_files": ["data/train*"],
        "valid_files": [],
        "test_files": ["data/test*"],
    }
    held_out = [Path("d/train_and_eval/test-0.parquet"), Path("d/train_and_eval/train-0.parquet")]
    found = image_shards.guess_patterns(Path("d"), held_out)
    assert found["test_files"] == ["train_and_eval/test-0.parquet"], "by its name first"


def test_a_name_with_brackets_is_itself() -> None:
    files = [Path(f"d/{split}[0].parquet") for split in ("train", "test")]
    (pattern,) = image_shards.guess_patterns(Path("d"), files)["train_files"]
    assert [fnmatch.fnmatchcase(file.name, pattern) for file in files] == [True, False]


@pytest.mark.parametrize("splits", [("train", "validation"), ("validation", "test")])
def test_files_of_some_splits_are_not_pooled(splits: tuple[str, str]) -> None:
    for split in splits:
        write_image_parquet(Path(f"two/{split}.parquet"), list(packed_pictures(20)), [0] * 20)
    with pytest.raises(UserError, match="expected splits named train and test, or none, got"):
        added("two", "label=")
    first, second = (f"[{split}.parquet]" for split in splits)
    given = (f"train_files={first}", f"test_files={second}", "valid_files=[]")
    _, found = added("two", "label=", *given)
    assert "train: 18 rows\nvalid: 2 rows\ntest: 20 rows" in found


@pytest.mark.parametrize("mode", ["w", "w:gz"])
def test_a_tar_that_was_cut_is_no_shorter_tar(mode: str) -> None:
    with tarfile.open("a.tar", mode) as tar:
        for name, content in tar_members(list(packed_pictures(3))):
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    whole = Path("a.tar").read_bytes()
    plain = gzip.decompress(whole) if mode == "w:gz" else whole
    with tarfile.open(fileobj=io.BytesIO(plain)) as tar:
        headers = [member.offset for member in tar]
    end = len(plain.rstrip(b"\0")) // 512 * 512 + 512
    written = gzip.compress if mode == "w:gz" else bytes
    damaged = [plain[:cut] for cut in range(512, end + 1, 512)]
    damaged += [plain[:at] + b"\xff" + plain[at + 1 :] for at in headers]
    damaged += [plain[: at + 100] for at in headers]
    for content in damaged:
        Path("a.tar").write_bytes(written(content))
        with pytest.raises(
            UserError, match=r"a.tar: (truncated or damaged|'.*': expected .* bytes)"
        ):
            packed_images.count_images(Path("a.tar"), "image", "cls")
        with (
            pytest.raises(UserError, match="a.tar: truncated or damaged archive"),
            archives.open_archive(Path("a.tar")) as files,
        ):
            list(files)
    Path("a.tar").write_bytes(whole)
    assert packed_images.count_images(Path("a.tar"), "image", "cls") == 3


def test_a_batch_ends_by_its_bytes_too(monkeypatch: pytest.MonkeyPatch) -> None:
    images = list(packed_pictures(20))
    monkeypatch.setattr(packed_images, "MAX_HELD", len(images[0]) + 1)
    write_image_parquet(Path("a.parquet"), images, list(range(20)))
    write_image_tar(Path("a.tar"), [(f"{n:02d}.png", one) for n, one in enumerate(images)])
    for path, label in (("a.parquet", "label"), ("a.tar", "")):
        read = list(packed_images.read_batches(Path(path), "image", label, 100))
        assert [one for batch in read for one in batch.images] == images
        assert len(read) >= 10 and all(len(batch.images) <= 3 for batch in read)
        if label:
            assert np.concatenate([batch.labels for batch in read]).tolist() == list(range(20))


def test_a_folder_with_images_in_it_stays_a_folder_of_images() -> None:
    for n in range(20):
        write_picture(Path(f"both/{n}.png"), 6, 6, seed=n)
    write_image_parquet(Path("both/index.parquet"), list(packed_pictures(1)), [0])
    dataset, _ = added("both")
    assert type(dataset).__name__ == "ImageFolder"


def test_a_batch_that_was_decoded_is_not_decoded_again(monkeypatch: pytest.MonkeyPatch) -> None:
    write_image_parquet(Path("a.parquet"), list(packed_pictures(30)), [0] * 30)
    monkeypatch.setattr(image_source, "BATCH", 10)
    dataset, _ = added("a.parquet", "label=")
    whole = shards(dataset)
    next(iter(dataset.decode(Path())["train"].parts))
    (kept,) = Path("data/decoded").glob("mine-*/*.npy")
    np.save(kept, np.load(kept) // 2)
    again = shards(dataset)
    assert not np.array_equal(again["train"].x, whole["train"].x)
    np.testing.assert_array_equal(again["test"].x, whole["test"].x)
    assert not list(Path("data/decoded").glob("mine-*"))


def test_columns_that_serve_for_nothing_are_told() -> None:
    write_labels([str(n % 2) for n in range(20)], "string")
    dataset, found = added("a.parquet")
    assert dataset.num_classes is None and "left aside: the columns label (string)" in found
    write_image_parquet(Path("a.parquet"), list(packed_pictures(20)), [n % 2 for n in range(20)])
    _, found = adding.add("image_folder", "mine", "a.parquet", (), replace=True)
    assert not any("left aside" in line for line in found)


def test_images_in_colour_after_those_that_a_guess_is_made_of(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(adding, "_PROBED", 3)
    images = list(packed_pictures(20))
    for n in range(19):
        write_picture(Path("gray.png"), 6, 8, seed=n, mode="L")
        images[n] = Path("gray.png").read_bytes()
    write_image_parquet(Path("a.parquet"), images, [0] * 20)
    dataset, found = added("a.parquet")
    assert dataset.event == Levels(256, (1, 6, 8))
    assert "beware: 1 image stored in colour made gray" in found


def write_labels(labels: list[Any], kind: str, names: list[str] | None = None) -> None:
    """Write `a.parquet`, with labels of a type."""
    import pyarrow.parquet as pq

    write_image_parquet(Path("a.parquet"), [PNG] * len(labels), [0] * len(labels), names)
    table = pq.read_table("a.parquet")
    pq.write_table(table.set_column(1, "label", pa.array(labels, kind)), "a.parquet")


def linked() -> None:
    with tarfile.open("a.tar", "w") as tar:
        info = tarfile.TarInfo("0.png")
        info.type, info.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(info)


PNG, JPEG = packed_pictures(2)
FLAWS: list[tuple[Any, str, str]] = [
    (lambda: write_image_parquet(Path("a.parquet"), [None, PNG], [0, 1]), "a.parquet",
     "a.parquet: row 0: expected the bytes of an image, got none"),
    (lambda: write_image_parquet(Path("a.parquet"), [PNG] + [PNG[:60]] * 9, [0] * 10), "a.parquet",
     "a.parquet: row 1: expected a PNG, JPEG or WebP image, whole and undamaged"),
    (lambda: Path("a.parquet").write_bytes(b"PAR1"), "a.parquet",
     "a.parquet: expected a Parquet file, whole and undamaged"),
    (lambda: write_image_tar(Path("a.tar"), [("0.png", PNG), ("1.cls", b"1")]), "a.tar",
     "a.tar: '1': expected a member with one of .png"),
    (lambda: write_image_tar(Path("a.tar"), [("0.png", PNG), ("0.jpg", PNG)]), "a.tar",
     "a.tar: '0': expected one image, got 'several'"),
    (lambda: write_image_tar(Path("a.tar"), [("0.png", PNG), ("0.cls", b"cat")]), "a.tar",
     "a.tar: '0': expected a member .cls with an integer >= 0, got 'cat'"),
    (lambda: write_image_tar(Path("a.tar"), [("0.png", PNG), ("0.cls", b"9" * 20)]), "a.tar",
     "a.tar: '0': member .cls: expected classes below 1000000, got 99999999999999999999"),
    (lambda: write_labels([0, 1 << 63], "uint64"), "a.parquet",
     "a.parquet: column label: expected classes below 1000000, got 9223372036854775808"),
    (lambda: write_labels([0, 1, 1 << 63], "uint64", ["ant", "bee"]), "a.parquet",
     "a.parquet: row 2: column label: expected classes below 1000000, got 9223372036854775808"),
    (lambda: write_labels([0, 10**6], "int32"), "a.parquet",
     "a.parquet: column label: expected classes below 1000000, got 1000000"),
    (lambda: Path("a.tar").write_bytes(b"x" * 2000), "a.tar",
     "a.tar: truncated or damaged archive"),
    (linked, "a.tar", "a.tar: expected images, found none"),
]  # fmt: skip


@pytest.mark.parametrize(("write", "path", "message"), FLAWS, ids=[f[2] for f in FLAWS])
def test_a_flaw_is_one_line(write: Any, path: str, message: str) -> None:
    write()
    with refused(re.escape(message)):
        dataset, _ = added(path, "valid_fraction=0.3", "test_fraction=0.3")
        shards(dataset)


@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [
        ({150: JPEG[: len(JPEG) // 2]}, {}, "row 150: expected a PNG, JPEG or WebP image, whole"),
        ({}, {205: -1}, "row 205: expected a label in [0, 3), got -1"),
        ({}, {205: None}, "row 205: column label: expected an integer, got null"),
        ({}, {5: None}, "row 5: column label: expected an integer, got null"),
    ],
)
def test_what_is_wrong_in_any_row_is_found_when_it_is_added(
    images: dict[int, bytes], labels: dict[int, int | None], message: str
) -> None:
    rows = [images.get(n, JPEG) for n in range(300)]
    write_image_parquet(Path("a.parquet"), rows, [labels.get(n, n % 3) for n in range(300)])
    with refused(re.escape(f"a.parquet: {message}")):
        added("a.parquet")
    assert not list(Path("conf").iterdir())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"fit": "tiles"}, "option fit of dataset 'mine': expected 'resize' or 'crop'"),
        ({"label": "label"}, "option num_classes of dataset 'mine': expected >= 2 with label"),
        (
            {"label": "label", "num_classes": 10**6 + 1},
            "option num_classes of dataset 'mine': expected at most 1000000, got 1000001",
        ),
        ({"train_files": ["a*"]}, "expected files for all, for train and test, or for none"),
        ({"image": "picture"}, "expected a column 'picture' of images (struct with bytes)"),
        ({"label": "image", "num_classes": 2}, "expected a column 'image' of integers"),
        ({"label": "label", "num_classes": 2}, "row 2: expected a label in [0, 2), got 2"),
        (
            {"train_files": ["a*"], "test_files": ["*.parquet"]},
            "a.parquet: expected it in one split, got two that name it",
        ),
        (
            {"train_files": ["a*"], "test_files": ["b*"]},
            "expected files like 'b*' of test_files, found none",
        ),
        (
            {"train_files": ["a*", "mroe*"], "test_files": ["b*"]},
            "expected files like 'mroe*' of train_files, found none",
        ),
    ],
)
def test_bad_options_are_one_line(options: dict[str, Any], message: str) -> None:
    write_image_parquet(Path("a.parquet"), list(packed_pictures(10)), [n % 3 for n in range(10)])
    given = {"name": "mine", "kind": "image_shards", "path": "a.parquet", "test_fraction": 0.2}
    with refused(re.escape(message)):
        shards(catalog.get_dataset(given | options))
