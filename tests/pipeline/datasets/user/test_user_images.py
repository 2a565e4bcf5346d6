"""Images of the user's, in folders, Parquet files and tars: rows, splits, a line for each flaw."""

import gzip
import io
import os
import pickle
import re
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

from arcore.events import Binary, Levels
from pipeline.datasets import adding, catalog
from pipeline.datasets.base import SPLITS, Dataset
from pipeline.datasets.formats import archives, image_files, packed_images
from pipeline.datasets.formats.image_files import SUFFIXES, Frame
from pipeline.datasets.formats.visible_files import visible_files
from pipeline.datasets.user import image_source
from pipeline.datasets.user.user_data import Fact
from tests.support.own_files import (
    colour_png,
    own,
    packed_pictures,
    shards,
    write_image_parquet,
    write_image_tar,
    write_picture,
)
from tests.support.refusals import refused

PNG, JPEG = packed_pictures(2)


def guess(path: str, **given: Any) -> dict[str, Any]:
    return catalog.module_of_kind("image_folder").guess("mine", path, given)


def row_of(path: str, *frame: Any, **given: Any) -> np.ndarray:
    return image_files.read_rows(Path(path), Frame(*frame, **given), path)[0]


def added(path: str, *overrides: str) -> tuple[Dataset, str]:
    dataset, found = adding.add("image_folder", "mine", path, overrides)
    return dataset, "\n".join(map(str, found))


def write_folders(counts: dict[str, int]) -> None:
    for number, (folder, count) in enumerate(counts.items()):
        for i in range(count):
            write_picture(Path(f"{folder}/{i}.png"), 6, 6, seed=100 * number + i, mode="L")


# What decoding gives


def test_levels_are_floors_of_scaled_bytes() -> None:
    values = np.arange(256, dtype=np.uint8).reshape(16, 16)
    Image.fromarray(values).save("a.png")
    for k in (2, 3, 17, 256):
        assert np.array_equal(row_of("a.png", 16, 16, True, k)[0], values.astype(int) * k // 256)


def test_a_crop_has_the_proportions_of_a_row() -> None:
    pixels = np.zeros((20, 40, 3), np.uint8)
    pixels[:, 10:30] = 255
    Image.fromarray(pixels).save("a.png")
    assert row_of("a.png", 5, 5, fit="crop").min() == 255
    resized = row_of("a.png", 5, 5)[0, 2]
    assert resized[0] < 30 and resized[2] == 255


def test_orientation_and_transparency() -> None:
    image = Image.fromarray(np.arange(6, dtype=np.uint8).reshape(2, 3) * 40)
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by a quarter
    image.save("turned.png", exif=exif)
    turned = row_of("turned.png", 3, 2, gray=True)
    assert turned.tolist() == [[[120, 0], [160, 40], [200, 80]]]
    clear = np.zeros((2, 2, 4), np.uint8)
    clear[0, 0, 3] = 255
    Image.fromarray(clear).save("clear.png")
    assert row_of("clear.png", 2, 2, gray=True).tolist() == [[[0, 255], [255, 255]]]


def saved(**options: Any) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(options.pop("pixels", np.zeros((9, 9), np.uint8))).save(stream, **options)
    return stream.getvalue()


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"not an image", "expected a PNG, JPEG or WebP image, whole and undamaged: "),
        (saved(format="GIF"), "expected a PNG, JPEG or WebP image"),
        (saved(format="PNG")[:45], "whole and undamaged"),
        (JPEG[: len(JPEG) // 2], "whole and undamaged"),
        (b"", "whole and undamaged"),
        (colour_png(60000, 60000, 8, bytes(99)), "pixels"),
        (colour_png(8500, 8500, 8, bytes(99)), "at most 64000000 pixels, got (8500, 8500)"),
        (saved(format="PNG", pixels=np.zeros((4, 4), np.uint16)), "expected 8 bits a channel"),
        (colour_png(4, 4, 16, bytes(4 * (1 + 4 * 6))), "expected 8 bits a channel"),
        (
            saved(format="PNG", save_all=True, append_images=[Image.new("L", (9, 9), 3)]),
            "a still image",
        ),
    ],
)
def test_bad_images_get_one_line(content: bytes, message: str) -> None:
    Path("photos").mkdir()
    Path("photos/a.png").write_bytes(content)
    with refused(f"^photos/a.png: .*{re.escape(message)}"):
        row_of("photos/a.png", 4, 4)


# Folders


def test_a_folder_of_images_is_split_by_file() -> None:
    for i in range(20):
        write_picture(Path(f"photos/{i:02d}.png"), 8, 16, seed=i)
    dataset = own("image_folder", path="photos", height=4, width=4, num_levels=16)
    assert dataset.event == Levels(16, (3, 4, 4)) and dataset.num_classes is None
    parts = shards(dataset)
    assert [len(parts[split]) for split in SPLITS] == [16, 2, 2]
    rows = [row_of(str(path), 4, 4, num_levels=16) for path in sorted(Path("photos").iterdir())]
    places = [
        [place for place, one in enumerate(rows) if np.array_equal(one, row)]
        for split in SPLITS
        for row in parts[split].x
    ]
    assert sorted(places) == [[n] for n in range(20)] and places != sorted(places)
    other = shards(own("image_folder", path="photos", height=4, width=4, split_seed=1))
    assert not np.array_equal(other["test"].x // 16, parts["test"].x)
    assert own("image_folder", path="photos", num_levels=2).event == Binary((3, 32, 32))


def test_folders_are_splits_and_classes() -> None:
    cut = {"train": 3, "val": 1, "test": 2}
    write_folders({f"pets/{split}/{kind}": n for split, n in cut.items() for kind in ("a", "b")})
    Path("pets/validation").mkdir()  # without images it is no split
    dataset, found = added("pets")
    assert dataset.event == Levels(256, (1, 6, 6)) and dataset.num_classes == 2
    assert dataset.options.valid_folders == ["val"]  # type: ignore[attr-defined]
    assert "rows: 6 train, 2 valid" in found and "classes: 2, by folder: a, b" in found
    labels = [part.labels.tolist() for part in shards(dataset).values()]
    assert labels == [[0, 0, 0, 1, 1, 1], [0, 1], [0, 0, 1, 1]]


def test_classes_are_paths_below_the_folder_of_the_split() -> None:
    write_folders(dict.fromkeys(("zoo/cats/old", "zoo/cats/young", "zoo/dogs/young"), 10))
    names = ["cats/old", "cats/young", "dogs/young"]
    dataset, _ = added("zoo")
    assert dataset.options.classes == names  # type: ignore[attr-defined]
    labels = np.concatenate([part.labels for part in shards(dataset).values()])
    assert np.bincount(labels).tolist() == [10] * 3
    Path("zoo/cats/young/0.png").rename("zoo/cats/0.png")
    with refused("in a folder of option classes .*, got 'cats'"):
        shards(dataset)
    write_picture(Path("zoo/0.png"), 6, 6)
    with refused("expected all files in folders of classes, or none"):
        guess("zoo")


def test_folders_that_are_links_are_followed(tmp_path: Path) -> None:
    write_folders({f"{tmp_path}/disk/{kind}": 10 for kind in ("cat", "dog")})
    Path("pets").mkdir()
    for kind in ("cat", "dog"):
        Path(f"pets/{kind}").symlink_to(tmp_path / "disk" / kind)
    assert guess("pets")["classes"] == ["cat", "dog"]
    found = visible_files(Path("pets"), SUFFIXES)
    assert len(found) == 20
    Path("pets/more").symlink_to(Path("pets").resolve())
    Path("pets/puppy").symlink_to(Path("pets/dog"))
    Path("pets/self.png").symlink_to(Path("pets/self.png").resolve())
    Path("pets/lost+found").mkdir(mode=0)
    for hidden in ("pets/.hidden.png", "pets/.cache/a.png"):
        write_picture(Path(hidden), 6, 6)
    assert visible_files(Path("pets"), SUFFIXES) == found, "each folder is met once"


def test_a_folder_that_cannot_be_read_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    write_picture(Path("pets/cat/a.png"), 6, 6, seed=0)
    scan = os.scandir

    def refuse(folder: str) -> Any:
        if os.fspath(folder).endswith("cat"):
            raise PermissionError(13, "Permission denied", folder)
        return scan(folder)

    monkeypatch.setattr(os, "scandir", refuse)
    with refused("^pets/cat: Permission denied$"):
        visible_files(Path("pets"), SUFFIXES)


@pytest.mark.parametrize("test_fraction", [0.001, 0.5])  # without a part in it
def test_valid_is_drawn_from_train_where_folders_are_train_and_test(test_fraction: float) -> None:
    cut = {"train": 10, "test": 2}
    write_folders({f"pets/{split}/{kind}": n for split, n in cut.items() for kind in ("a", "b")})
    guessed = guess("pets")
    assert guessed["classes"] == ["a", "b"] and "valid_folders" not in guessed
    dataset = own("image_folder", path="pets", test_fraction=test_fraction, **guessed)
    parts = shards(dataset)
    assert [len(parts[split]) for split in SPLITS] == [18, 2, 4]
    held = {row.tobytes() for row in parts["test"].x}
    files = (Path("pets/test/a/0.png"), Path("pets/test/b/1.png"))
    assert {np.asarray(Image.open(file)).tobytes() for file in files} < held
    assert "0.1 of those of train for valid" in dataset.provenance


def test_splits_without_test_are_refused_and_a_class_may_be_called_train() -> None:
    folders = ("pets/train", "pets/val", "rides/train", "rides/bus", "one/train/cat")
    write_folders(dict.fromkeys((*folders, "one/train/dog"), 1))
    with refused("expected folders for all, for train and test, or for none, got"):
        own("image_folder", path="pets", **guess("pets"))
    guessed = guess("pets", test_folders=["val"], valid_folders=[])
    assert guessed["train_folders"] == ["train"]
    assert guess("rides")["classes"] == ["bus", "train"]
    assert guess("one")["classes"] == ["train/cat", "train/dog"]


def test_colours_are_kept_if_some_image_has_them() -> None:
    for i, mode in enumerate(("L", "LA")):
        write_picture(Path(f"scans/{i:02d}.png"), 8, 8, seed=i, mode=mode)
    assert guess("scans")["gray"], "transparency is no colour"
    write_picture(Path("scans/2.png"), 8, 8, mode="RGB")
    assert not guess("scans")["gray"]


def test_names_that_look_like_something_else_stay_names() -> None:
    names = ["${oc.env:HOME}", "1e3", "2024-01-01", "no"]
    write_folders({f"odd/{name}": 10 for name in names})
    adding.add("image_folder", "odd", "odd", ["height=8", "width=8"])
    assert catalog.load_settings("odd", ["split_seed=3"])["classes"] == names
    write_folders({"pets/cat": 2, "pets/\udcff": 2})
    with refused(r"pets: expected names of folders in UTF-8, got '\\udcff'"):
        guess("pets")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"path": "nowhere"}, "option path of dataset 'mine': expected an existing folder"),
        ({"fit": "squeeze"}, "option fit of dataset 'mine': expected 'resize' or 'crop'"),
        ({"num_levels": 1}, "option num_levels of dataset 'mine': expected 2 to 256, got 1"),
        ({"height": 5000}, "option height of dataset 'mine': expected 1 to 1024, got 5000"),
        ({"classes": ["../cat", "dog"]}, "option classes .*: expected relative paths"),
        ({"classes": ["cat"]}, "option classes of dataset 'mine': expected two or more"),
        ({"classes": ["cat", "dog"]}, r"photos/\d+.png: expected it in a folder of option classes"),
        ({"valid_folders": ["a"]}, "expected folders for all, for train and test, or for none"),
        (
            {"train_folders": ["."], "valid_folders": ["a"], "test_folders": ["a/.."]},
            "option test_folders of dataset 'mine': expected relative paths of folders without",
        ),
        (
            {"train_folders": ["."], "test_folders": ["a"]},
            "photos: expected folders apart for the splits",
        ),
        (
            {"train_folders": ["x"], "valid_folders": ["y"], "test_folders": ["z"]},
            "photos/x: expected PNG, JPEG or WebP images, found none",
        ),
        ({"test_fraction": 0.01}, "photos: expected files for each of train, valid and test"),
        ({"hight": 3}, "unknown mine option 'hight'; did you mean 'height'"),
    ],
)
def test_bad_image_options_get_one_line(options: dict[str, Any], message: str) -> None:
    write_folders({"photos": 10, "photos/a": 1})
    with refused(message):
        own("image_folder", **{"path": "photos", "test_fraction": 0.2, **options}).decode(Path())


def test_what_a_folder_was_taken_for_and_what_is_left_out() -> None:
    for i in range(10):
        write_picture(Path(f"photos/{i}.jpg"), 20 + i, 40, seed=i, mode="L" if i < 3 else "RGB")
    for name, content in (("cut", JPEG[: len(JPEG) // 2]), ("text", b"no image"), ("none", b"")):
        Path(f"photos/{name}.jpg").write_bytes(content)
    Path("photos/deep.png").write_bytes(saved(format="PNG", pixels=np.zeros((4, 4), np.uint16)))
    for name in ("raw.cr2", "notes.txt", "more.txt"):
        Path(f"photos/{name}").write_bytes(b"x")
    dataset, facts = adding.add("image_folder", "mine", "photos", ["test_fraction=0.2"])
    told = {fact.name: fact for fact in facts}
    assert told["rows"].found == "7 train, 1 valid, 2 test"
    assert told["sizes"].found == "20 to 29 x 40, 10 different; cropped to 32 x 32"
    assert told["sizes"].change == "height=32 width=32 fit=crop"
    assert told["colours"].found == "3 gray, 7 in colours; taken as RGB"
    assert told["left out"].found == (
        "3 damaged (cut.jpg, none.jpg, text.jpg); 1 not 8 bits a channel, got 'mode I;16 or 16 "
        "bits' (deep.png); of other types: 2 .txt, 1 .cr2"
    )
    assert sum(len(part) for part in shards(dataset).values()) == 10
    for width in (80, 120):
        lines = adding.summary(dataset, "image_folder", facts, width).splitlines()
        assert lines[0] == "mine: photos is taken for a folder of images"
        assert width - 10 < max(map(len, lines)) <= width
        assert {line.index(mark) for line in lines for mark in ("height=", "gray=") if mark in line}


# Parquet files and tars


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
    images = packed_pictures(30)
    cut = {"train": range(20), "validation": range(20, 25), "test": range(25, 30)}
    for split, rows in cut.items():
        path = Path(f"birds/data/{split}-00000-of-00001.parquet")
        write_image_parquet(path, [images[n] for n in rows], [n % 3 for n in rows])
    dataset, found = added("birds")
    assert dataset.event == Levels(256, (3, 6, 8)) and dataset.num_classes == 3
    assert "rows: 20 train, 5 valid, 5 test" in found and "classes: 3, by label" in found
    parts = shards(dataset)
    assert [parts[split].labels.tolist() for split in SPLITS] == [
        [n % 3 for n in rows] for rows in cut.values()
    ]
    for number in range(0, 20, 2):  # PNG keeps pixels as they are
        pixels = np.random.default_rng(number).integers(0, 256, (6, 8, 3), np.uint8)
        np.testing.assert_array_equal(parts["train"].x[number], pixels.transpose(2, 0, 1))
    assert (
        catalog.get_dataset(yaml.safe_load(Path("local/dataset/mine.yaml").read_text())) == dataset
    )


def test_tars_are_split_by_seed_and_nothing_else_of_them_is_read(monkeypatch) -> None:
    images = packed_pictures(40)
    write_image_tar(Path("web/a.tar"), tar_members(images[:25]))
    write_image_tar(Path("web/b.tar.gz"), tar_members(images[25:], 25), "w:gz")
    dataset, found = added("web", "gray=true", "num_levels=16")
    assert dataset.event == Levels(16, (1, 6, 8)) and dataset.num_classes == 3
    assert "rows: 32 train, 4 valid, 4 test" in found
    parts = shards(dataset)
    rows = [tuple(row.reshape(-1)) for split in SPLITS for row in parts[split].x]
    assert len(set(rows)) == 40
    counts = np.bincount(np.concatenate([parts[split].labels for split in SPLITS]))
    assert counts.tolist() == [14, 13, 13]
    write_image_parquet(Path("same.parquet"), list(images), [n % 3 for n in range(40)])
    monkeypatch.setattr(image_source, "PART_BYTES", len(images[0]) + 1)  # batches of a few
    same, _ = adding.add("image_folder", "same", "same.parquet", ["gray=true", "num_levels=16"])
    assert len(list(same.decode(Path())["train"].parts)) > 9  # type: ignore[union-attr]
    for split, part in shards(same).items():
        np.testing.assert_array_equal(part.x, parts[split].x)
        np.testing.assert_array_equal(part.labels, parts[split].labels)


def test_valid_is_drawn_from_train_and_files_of_some_splits_are_not_pooled() -> None:
    images = packed_pictures(40)
    for folder, first in (("two", "train"), ("held", "validation")):
        write_image_parquet(Path(f"{folder}/{first}.parquet"), list(images[:30]), [0] * 30)
        write_image_parquet(Path(f"{folder}/test.parquet"), list(images[30:]), [0] * 10)
    with refused("expected files for all, for train and test, or for none, got"):
        added("held", "label=")
    dataset, found = added("two", "label=", "valid_fraction=0.2")
    assert "rows: 24 train, 6 valid, 10 test" in found
    assert "0.2 of those of train for valid" in dataset.provenance
    assert dataset.num_classes is None
    given = ["train_files=[validation.parquet]", "test_files=[test.parquet]", "valid_files=[]"]
    _, lines = adding.add("image_folder", "other", "held", ["label=", *given])
    named = "train_files=[validation.parquet] test_files=[test.parquet] valid_fraction=0.1"
    assert lines[0] == Fact("rows", "27 train, 3 valid, 10 test", f"{named} split_seed=0")


@pytest.mark.parametrize("mode", ["w", "w:gz"])
def test_a_tar_that_was_cut_is_no_shorter_tar(mode: str) -> None:
    write_image_tar(Path("a.tar"), tar_members(list(packed_pictures(3))), mode)
    whole = Path("a.tar").read_bytes()
    plain = gzip.decompress(whole) if mode == "w:gz" else whole
    with tarfile.open(fileobj=io.BytesIO(plain)) as tar:
        headers = [member.offset for member in tar]
    end = len(plain.rstrip(b"\0")) // 512 * 512 + 512
    written = gzip.compress if mode == "w:gz" else bytes
    damaged = [plain[:cut] for cut in range(512, end + 1, 1024)]
    damaged += [plain[:at] + b"\xff" + plain[at + 1 :] for at in headers]
    damaged += [plain[: at + 100] for at in headers]
    for content in damaged:
        Path("a.tar").write_bytes(written(content))
        wanted = r"a.tar: (truncated or damaged|'.*': expected .* bytes)"
        with refused(wanted):
            packed_images.count_images(Path("a.tar"), "image", "cls")
        with (
            refused("a.tar: truncated or damaged archive"),
            archives.open_archive(Path("a.tar")) as files,
        ):
            list(files)
    Path("a.tar").write_bytes(whole)
    assert packed_images.count_images(Path("a.tar"), "image", "cls") == 3


def test_a_folder_with_images_in_it_stays_a_folder_of_images() -> None:
    write_folders({"both": 20})
    write_image_parquet(Path("both/index.parquet"), list(packed_pictures(1)), [0])
    assert type(added("both")[0]).__name__ == "ImageFolder"


@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [
        ([None, PNG], [0, 1], "row 0: expected the bytes of an image, got None"),
        ([PNG] + [PNG[:60]] * 9, [0] * 10, "row 1: expected a PNG, JPEG or WebP image, whole and"),
        ([PNG] * 9, [0, 1, None] * 3, "row 2: expected a class in label, got None"),
        ([PNG] * 9, [0, 1, -1] * 3, "row 2: expected a label in [0, 2), got -1"),
        (None, None, "expected a Parquet file, whole and undamaged"),
    ],
)
def test_bad_parquet_files_get_one_line(images: Any, labels: Any, message: str) -> None:
    Path("a.parquet").write_bytes(b"PAR1")
    if images is not None:
        write_image_parquet(Path("a.parquet"), images, labels)
    with refused(f"a.parquet: {re.escape(message)}"):
        shards(added("a.parquet", "valid_fraction=0.3", "test_fraction=0.3")[0])


@pytest.mark.parametrize(
    ("member", "message"),
    [
        (("1.cls", b"1"), "'1': expected a member with one of .png"),
        (("0.jpg", PNG), "'0': expected a member with one of .png, .jpg, .jpeg, .webp, got 2"),
        (("0.cls", b"cat"), "'0': expected a member .cls with an integer >= 0, got ['cat']"),
        (None, "expected images, got 'none'"),
    ],
)
def test_bad_tars_get_one_line(member: tuple[str, bytes] | None, message: str) -> None:
    if member is not None:
        write_image_tar(Path("a.tar"), [("0.png", PNG), member])
    else:
        with tarfile.open("a.tar", "w") as tar:
            info = tarfile.TarInfo("0.png")
            info.type, info.linkname = tarfile.SYMTYPE, "/etc/passwd"
            tar.addfile(info)
    with refused(f"a.tar: {re.escape(message)}"):
        shards(added("a.tar", "valid_fraction=0.3", "test_fraction=0.3")[0])


@pytest.mark.parametrize(
    ("options", "message"),
    [
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
            {"train_files": ["a*", "mroe*"], "test_files": ["b*"]},
            "expected files like 'mroe*' of train_files, found none",
        ),
    ],
)
def test_bad_options_of_packed_images_get_one_line(options: dict[str, Any], message: str) -> None:
    write_image_parquet(Path("a.parquet"), list(packed_pictures(10)), [n % 3 for n in range(10)])
    given = {"path": "a.parquet", "image": "image", "test_fraction": 0.2}
    with refused(re.escape(message)):
        shards(own("image_shards", **given | options))
