"""Folders of images: what decoding gives, how splits are cut, and one line for each flaw."""

from __future__ import annotations

import io
import os
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from arcore.events import Binary, Levels
from pipeline.core.errors import UserError
from pipeline.datasets import adding, catalog
from pipeline.datasets.base import SPLITS
from pipeline.datasets.formats import image_files
from pipeline.datasets.formats.image_files import Frame
from tests.support.own_files import write_picture
from tests.support.refusals import refused
from tests.support.user_datasets import own, shards


def test_tiles_are_the_middle_of_the_picture_row_by_row() -> None:
    pixels = write_picture(Path("a.png"), 10, 13)
    rows = image_files.read_rows(Path("a.png"), Frame(4, 4, fit="tiles"), "a")
    assert rows.shape == (6, 3, 4, 4)
    for number in range(6):
        top, left = 1 + 4 * (number // 3), 4 * (number % 3)
        expected = pixels[top : top + 4, left : left + 4].transpose(2, 0, 1)
        assert np.array_equal(rows[number], expected)


def test_levels_are_floors_of_scaled_bytes() -> None:
    values = np.arange(256, dtype=np.uint8).reshape(16, 16)
    Image.fromarray(values).save("a.png")
    for k in (2, 3, 17, 256):
        rows = image_files.read_rows(Path("a.png"), Frame(16, 16, True, k), "a")
        assert np.array_equal(rows[0, 0], (values.astype(int) * k // 256))


def test_a_crop_has_the_proportions_of_a_row() -> None:
    pixels = np.zeros((20, 40, 3), np.uint8)
    pixels[:, 10:30] = 255
    Image.fromarray(pixels).save("a.png")
    assert image_files.read_rows(Path("a.png"), Frame(5, 5, fit="crop"), "a").min() == 255
    resized = image_files.read_rows(Path("a.png"), Frame(5, 5), "a")
    assert resized[0, 0, 2].tolist()[0] < 30 and resized[0, 0, 2].tolist()[2] == 255


def test_orientation_and_transparency() -> None:
    image = Image.fromarray(np.arange(6, dtype=np.uint8).reshape(2, 3) * 40)
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by a quarter
    image.save("turned.png", exif=exif)
    frame = Frame(3, 2, gray=True)
    assert image_files.measure(Path("turned.png"), frame, "a") == (3, 2)
    turned = image_files.read_rows(Path("turned.png"), frame, "a")[0, 0]
    assert turned.tolist() == [[120, 0], [160, 40], [200, 80]]
    clear = np.zeros((2, 2, 4), np.uint8)
    clear[0, 0, 3] = 255
    Image.fromarray(clear).save("clear.png")
    seen = image_files.read_rows(Path("clear.png"), Frame(2, 2, gray=True), "a")[0, 0]
    assert seen.tolist() == [[0, 255], [255, 255]]


def test_a_folder_of_images_is_split_by_file() -> None:
    for i in range(20):
        write_picture(Path(f"photos/{i:02d}.png"), 8, 16, seed=i)
    dataset = own("image_folder", path="photos", height=4, width=4, fit="tiles", num_levels=16)
    assert dataset.event == Levels(16, (3, 4, 4)) and dataset.num_classes is None
    parts = shards(dataset)
    assert [len(parts[split]) for split in SPLITS] == [16 * 8, 2 * 8, 2 * 8]
    whole = [tuple(row.reshape(-1)) for split in SPLITS for row in parts[split].x]
    assert len(set(whole)) == 160
    files = dataset._files()  # type: ignore[attr-defined]
    for split in SPLITS:
        frame = dataset.options.frame  # type: ignore[attr-defined]
        read = [image_files.read_rows(path, frame, path) for path in files[split]]
        assert np.array_equal(parts[split].x, np.concatenate(read))
    other = own("image_folder", path="photos", split_seed=1)._files()  # type: ignore[attr-defined]
    assert other["test"] != files["test"]


def test_folders_are_splits_and_classes() -> None:
    for split, count in (("train", 3), ("val", 1), ("test", 2)):
        for kind in ("cat", "dog"):
            for i in range(count):
                write_picture(Path(f"pets/{split}/{kind}/{i}.jpg"), 6, 6, seed=i, mode="L")
    guessed = adding.GUESSES["image_folder"]("pets", "pets", {})
    dataset = own("image_folder", path="pets", **guessed)
    assert dataset.event == Levels(256, (1, 6, 6)) and dataset.num_classes == 2
    parts = shards(dataset)
    assert [part.labels.tolist() for part in parts.values()] == [
        [0, 0, 0, 1, 1, 1],
        [0, 1],
        [0, 0, 1, 1],
    ]
    told = "\n".join(dataset.examine())
    assert (
        "12 of 6 x 6" in told and "beware: 6 files of valid or test have the very content" in told
    )
    assert own("image_folder", path="pets", num_levels=2).event == Binary((3, 32, 32))


def test_folders_that_are_links_are_followed(tmp_path: Path) -> None:
    for kind in ("cat", "dog"):
        for i in range(10):
            write_picture(tmp_path / "disk" / kind / f"{i}.png", 6, 6, seed=i)
    Path("pets").mkdir()
    Path("pets/cat").symlink_to(tmp_path / "disk/cat")
    Path("pets/dog").symlink_to(tmp_path / "disk/dog")
    guessed = adding.GUESSES["image_folder"]("pets", "pets", {})
    assert guessed["classes"] == ["cat", "dog"]
    assert sum(map(len, own("image_folder", path="pets", **guessed)._files().values())) == 20  # type: ignore[attr-defined]
    found = image_files.find_images(Path("pets"))
    Path("pets/more").symlink_to(Path("pets").resolve())
    Path("pets/puppy").symlink_to(Path("pets/dog"))
    Path("pets/self.png").symlink_to(Path("pets/self.png").resolve())
    Path("pets/lost+found").mkdir(mode=0)
    assert image_files.find_images(Path("pets")) == found, "each folder is met once"


def test_a_folder_that_cannot_be_read_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    write_picture(Path("pets/cat/a.png"), 6, 6, seed=0)
    scan = os.scandir

    def refused(folder: str) -> Any:
        if folder.endswith("cat"):
            raise PermissionError(13, "Permission denied", folder)
        return scan(folder)

    monkeypatch.setattr(os, "scandir", refused)
    with pytest.raises(UserError, match="^pets/cat: Permission denied$"):
        image_files.find_images(Path("pets"))


def test_valid_is_drawn_from_train_where_folders_are_train_and_test() -> None:
    for split, count in (("train", 10), ("test", 2)):
        for kind in ("cat", "dog"):
            for i in range(count):
                write_picture(Path(f"pets/{split}/{kind}/{i}.png"), 6, 6, seed=i, mode="L")
    guessed = adding.GUESSES["image_folder"]("pets", "pets", {})
    assert guessed["classes"] == ["cat", "dog"] and "valid_folders" not in guessed
    for test_fraction in (0.001, 0.5):  # without a part in it
        dataset = own("image_folder", path="pets", test_fraction=test_fraction, **guessed)
        files = dataset._files()  # type: ignore[attr-defined]
        assert [len(files[split]) for split in SPLITS] == [18, 2, 4]
        assert {path.parts[-3] for path in files["valid"] + files["train"]} == {"train"}
        assert {path.parts[-3] for path in files["test"]} == {"test"}
        assert "0.1 of those of train for valid" in dataset.provenance


def test_splits_without_test_are_refused_and_a_class_may_be_called_train() -> None:
    for folder in (
        "pets/train",
        "pets/val",
        "rides/train",
        "rides/bus",
        "one/train/cat",
        "one/train/dog",
    ):
        write_picture(Path(f"{folder}/0.png"), 6, 6)
    with pytest.raises(UserError, match="pets: expected splits named train and test, or none, got"):
        adding.GUESSES["image_folder"]("pets", "pets", {})
    given = {"test_folders": ["val"], "valid_folders": []}
    guessed = adding.GUESSES["image_folder"]("pets", "pets", given)
    assert guessed["train_folders"] == ["train"]
    assert adding.GUESSES["image_folder"]("rides", "rides", {})["classes"] == ["bus", "train"]
    assert adding.GUESSES["image_folder"]("one", "one", {})["classes"] == ["cat", "dog"]


def test_rows_that_are_large_have_shards_of_fewer() -> None:
    for i in range(30):
        write_picture(Path(f"photos/{i}.png"), 8, 8, seed=i)
    small, _ = adding.add("image_folder", "small", "photos", [])
    large, _ = adding.add("image_folder", "large", "photos", ["height=256", "width=512"])
    told, _ = adding.add(
        "image_folder", "told", "photos", ["height=256", "width=512", "rows_per_shard=9"]
    )
    rows = [one.options.rows_per_shard for one in (small, large, told)]
    assert rows == [16384, (1 << 28) // (3 * 256 * 512), 9]


def test_folders_named_like_splits_without_images_are_no_splits() -> None:
    for folder in ("train", "valid", "test"):
        for i in range(3):
            write_picture(Path(f"photos/{folder}/{i}.png"), 8, 8, seed=i)
    Path("photos/validation").mkdir()
    dataset, _ = adding.add("image_folder", "mine", "photos", [])
    assert dataset.options.valid_folders == ["valid"]  # type: ignore[attr-defined]


def colour_png(side: int, depth: int, data: bytes) -> bytes:
    """A PNG whose header says that it is so large, in colour."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        crc = struct.pack(">I", zlib.crc32(kind + content))
        return struct.pack(">I", len(content)) + kind + content + crc

    header = struct.pack(">IIBBBBB", side, side, depth, 2, 0, 0, 0)
    chunks = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(data)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunks


def bomb() -> bytes:
    """A PNG of a few bytes that says it has 60,000 x 60,000 pixels."""
    return colour_png(60000, 8, bytes(99))


def saved(**options: Any) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(np.zeros((9, 9), np.uint8)).save(stream, **options)
    return stream.getvalue()


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"not an image", "expected a PNG, JPEG or WebP image, whole and undamaged: "),
        (saved(format="GIF"), "expected a PNG, JPEG or WebP image"),
        (saved(format="PNG")[:45], "whole and undamaged"),
        (b"", "whole and undamaged"),
        (bomb(), "pixels"),
        (
            saved(format="PNG", save_all=True, append_images=[Image.new("L", (9, 9), 3)]),
            "a still image",
        ),
    ],
)
def test_bad_images_get_one_line(content: bytes, message: str) -> None:
    Path("photos").mkdir()
    Path("photos/a.png").write_bytes(content)
    with pytest.raises(UserError) as caught:
        image_files.read_rows(Path("photos/a.png"), Frame(4, 4), "photos/a.png")
    assert str(caught.value).startswith("photos/a.png: ") and message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_deep_large_and_small_images_are_refused() -> None:
    Image.fromarray(np.zeros((4, 4), np.uint16)).save("deep.png")
    with pytest.raises(UserError, match="deep: expected 8 bits a channel, got mode I;16"):
        image_files.read_rows(Path("deep.png"), Frame(4, 4), "deep")
    Path("deep.png").write_bytes(colour_png(4, 16, bytes(4 * (1 + 4 * 6))))
    with pytest.raises(UserError, match="deep: expected 8 bits a channel, got 16"):
        image_files.read_rows(Path("deep.png"), Frame(4, 4), "deep")
    write_picture(Path("a.png"), 1200, 1000)
    with pytest.raises(UserError, match="a: expected at most 1 million pixels, got 1000 x 1200"):
        image_files.measure(Path("a.png"), Frame(4, 4, max_megapixels=1), "a")
    with pytest.raises(
        UserError, match="a: expected an image of at least 16 x 900 pixels, got 14 x 12"
    ):
        image_files.measure(Path("a.png"), Frame(16, 900, fit="tiles", shorter_side=12), "a")


def write_jpegs(count: int) -> list[Path]:
    """Pictures of which, if they are 300, a check decodes every third in the order of splits."""
    paths = [Path(f"photos/{i:03d}.jpg") for i in range(count)]
    for i, path in enumerate(paths):
        write_picture(path, 32, 32, seed=i)
    return paths


def test_a_check_finds_cut_files_without_decoding_all() -> None:
    paths = write_jpegs(300)
    dataset = own("image_folder", path="photos")
    assert "checked: the pixels of 100, of the others headers and ends; preprocess" in "\n".join(
        dataset.examine()
    )
    paths[7].write_bytes(paths[7].read_bytes() + bytes(100))  # padded
    paths[8].write_bytes(paths[8].read_bytes() + b"a video")
    dataset.examine()
    for path in (paths[20], paths[21], paths[22]):
        whole = path.read_bytes()
        path.write_bytes(whole[: len(whole) // 2])
        with pytest.raises(UserError, match=f"{path}: expected a PNG, JPEG or WebP image, whole"):
            dataset.examine()
        path.write_bytes(whole)


def test_images_in_colour_that_are_made_gray_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    for i in range(15):
        mode = {7: "RGB", 10: "LA", 11: "RGB"}.get(i, "L")
        write_picture(Path(f"scans/{i:02d}.png"), 8, 8, seed=i, mode=mode)
    monkeypatch.setattr(adding, "_PROBED", 4)  # every third, none of them in colour
    guessed = adding.GUESSES["image_folder"]("mine", "scans", {})
    assert guessed["gray"]
    found = own("image_folder", path="scans", **guessed).examine()
    assert "beware: 2 images stored in colour made gray; gray=false keeps colours" in found
    found = own("image_folder", path="scans", **guessed | {"gray": False}).examine()
    assert not any("colour" in line for line in found)


def test_transparency_is_no_colour() -> None:
    for i, mode in enumerate(("L", "LA")):
        write_picture(Path(f"scans/{i:02d}.png"), 8, 8, seed=i, mode=mode)
    assert adding.GUESSES["image_folder"]("mine", "scans", {})["gray"]


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp"])
def test_a_cut_file_lacks_its_end(suffix: str) -> None:
    write_picture(Path(f"a.{suffix}"), 16, 16)
    whole = Path(f"a.{suffix}").read_bytes()
    assert image_files.ends_whole(io.BytesIO(whole))
    for length in (0, 1, 4, 20, len(whole) // 2, len(whole) - 1 - 8 * (suffix == "png")):
        assert not image_files.ends_whole(io.BytesIO(whole[:length]))


def write_ages(*folders: str) -> None:
    for number, folder in enumerate(folders):
        for i in range(10):
            write_picture(Path(f"{folder}/{i}.png"), 6, 6, seed=10 * number + i)


def test_folders_of_one_name_are_classes_by_their_paths() -> None:
    write_ages("zoo/cats/old", "zoo/cats/young", "zoo/dogs/young", "zoo/fish")
    dataset, found = adding.add("image_folder", "zoo", "zoo", [])
    names = ["cats/old", "cats/young", "dogs/young", "fish"]
    assert dataset.options.classes == names  # type: ignore[attr-defined]
    assert "classes: cats/old (10), cats/young (10), dogs/young (10), fish (10)" in found
    labels = np.concatenate([part.labels for part in shards(dataset).values()])
    assert np.bincount(labels).tolist() == [10] * 4
    by_name, found = adding.add("image_folder", "zoo2", "zoo", ["classes=[old,young,fish]"])
    assert by_name.num_classes == 3 and "classes: old (10), young (20), fish (10)" in found
    Path("zoo/cats/young/kittens").mkdir()
    Path("zoo/cats/young/0.png").rename("zoo/cats/young/kittens/0.png")
    with pytest.raises(UserError, match="option classes .*, got 'cats/young/kittens'"):
        shards(dataset)


def test_names_that_look_like_something_else_stay_names() -> None:
    names = ["${oc.env:HOME}", "1e3", "2024-01-01", "no"]
    for name in names:
        for i in range(10):
            write_picture(Path("odd", name, f"{i}.png"), 8, 8, seed=i)
    adding.add("image_folder", "odd", "odd", ["height=8", "width=8"])
    assert catalog.load_config("odd", ["split_seed=3"])["classes"] == names


@pytest.mark.parametrize("names", [("train", "val", "test"), ("a", "b/c", "d")])
def test_paths_of_classes_begin_below_the_split(names: tuple[str, str, str]) -> None:
    write_ages(*(f"zoo/{split}/{kind}/young" for split in names for kind in ("cats", "dogs")))
    write_ages("zoo/more/birds")
    given = {
        f"{split}_folders": [name] for split, name in zip(SPLITS, names, strict=True)
    } if names[0] == "a" else {}  # fmt: skip
    guessed = adding.GUESSES["image_folder"]("zoo", "zoo", given)
    assert guessed["classes"] == ["cats/young", "dogs/young"]
    parts = shards(own("image_folder", path="zoo", **{**guessed, **given}))
    assert all(part.labels.tolist() == [0] * 10 + [1] * 10 for part in parts.values())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"path": "nowhere"}, "option path of dataset 'mine': expected an existing folder"),
        ({"fit": "squeeze"}, "option fit of dataset 'mine': expected 'resize', 'crop'"),
        ({"num_levels": 1}, "option num_levels of dataset 'mine': expected 2 to 256, got 1"),
        ({"height": 5000}, "option height of dataset 'mine': expected 1 to 1024, got 5000"),
        (
            {"shorter_side": 64, "fit": "crop"},
            "option shorter_side .*: expected >= 0, and 0",
        ),
        ({"classes": ["../cat", "dog"]}, "option classes .*: expected relative paths"),
        ({"classes": ["cat"]}, "option classes of dataset 'mine': expected two or more"),
        ({"classes": ["cat", "dog"]}, r"photos/\d+.png: expected it in a folder of option classes"),
        ({"valid_folders": ["a"]}, "expected folders for all, for train and test, or for none"),
        (
            {"train_folders": ["."], "valid_folders": ["b"], "test_folders": ["c"]},
            "options valid_folders and train_folders of dataset 'mine': expected folders apart",
        ),
        (
            {"train_folders": ["x"], "valid_folders": ["y"], "test_folders": ["z"]},
            "photos: expected images in 'x' of train_folders, found none",
        ),
        ({"test_fraction": 0.01}, "photos: expected files for each of train, valid and test"),
        ({"hight": 3}, "unknown mine option 'hight'; did you mean 'height'"),
    ],
)
def test_bad_image_options_get_one_line(options: dict[str, Any], message: str) -> None:
    for i in range(10):
        write_picture(Path(f"photos/{i}.png"), 8, 8, seed=i)
    with refused(message):
        own("image_folder", **{"path": "photos", "test_fraction": 0.2, **options}).decode(Path())


def test_a_folder_of_several_that_has_no_image_is_named() -> None:
    for folder in ("train", "extra", "test"):
        for i in range(10):
            write_picture(Path(f"photos/{folder}/{i}.png"), 8, 8, seed=i)
    given: dict[str, Any] = {"path": "photos", "height": 4, "width": 4, "test_folders": ["test"]}
    own("image_folder", train_folders=["train", "extra"], **given).decode(Path())
    with pytest.raises(UserError, match="photos: expected images in 'extar' of train_folders, f"):
        own("image_folder", train_folders=["train", "extar"], **given).decode(Path())
