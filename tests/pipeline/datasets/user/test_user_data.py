"""Kinds of own data: what decoding gives, how splits are cut, and one line for each flaw."""

from __future__ import annotations

import io
import json
import os
import shutil
import struct
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from PIL import Image

from arcore.events import Binary, Levels, Real
from pipeline.core import paths
from pipeline.core.errors import UserError
from pipeline.data import preprocess, shard_layout, shard_reader
from pipeline.data.manifest import read_manifest
from pipeline.data.scalings import read_scalings
from pipeline.datasets import adding, catalog, decoding_parts
from pipeline.datasets.base import SPLITS, Dataset
from pipeline.datasets.formats import image_files, sound_files, wave_files
from pipeline.datasets.formats.image_files import Frame
from pipeline.datasets.formats.sound_files import Hearing
from pipeline.datasets.user import array_checks
from pipeline.datasets.user.user_data import split_by_seed
from tests.support import own_files
from tests.support.own_files import write_picture, write_sound

pytestmark = pytest.mark.usefixtures("workdir")


def own(kind: str, **options: Any) -> Dataset:
    return catalog.get_dataset({"name": "mine", "kind": kind, **options})


def shards(dataset: Dataset) -> dict[str, Any]:
    folder = preprocess.write(dataset, dataset.decode(Path()), Path("shards"))
    shard_reader.verify(folder)
    return {split: shard_reader.read_split(folder, split) for split in SPLITS}


# Images


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


def test_rows_that_are_large_have_shards_of_fewer(
    workdir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (workdir / "conf").mkdir()
    monkeypatch.setattr(catalog, "CONF_FOLDER", workdir / "conf")
    for i in range(30):
        write_picture(Path(f"photos/{i}.png"), 8, 8, seed=i)
    small, _ = adding.add("image_folder", "small", "photos", [])
    large, _ = adding.add("image_folder", "large", "photos", ["height=256", "width=512"])
    told, _ = adding.add(
        "image_folder", "told", "photos", ["height=256", "width=512", "rows_per_shard=9"]
    )
    rows = [one.options.rows_per_shard for one in (small, large, told)]
    assert rows == [16384, (1 << 28) // (3 * 256 * 512), 9]


def test_long_sounds_have_parts_and_shards_of_fewer(
    workdir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (workdir / "conf").mkdir()
    monkeypatch.setattr(catalog, "CONF_FOLDER", workdir / "conf")
    own_files.write_recordings(Path("recordings"))
    monkeypatch.setattr(decoding_parts, "PART_BYTES", 3000)
    dataset, _ = adding.add("wav_folder", "prompts", "recordings", [])
    longest = dataset.sound.max_length  # type: ignore[union-attr]
    assert dataset.options.rows_per_shard == 3000 // (longest + 8 * 3)
    train = dataset.decode(Path())["train"]
    parts = [len(part.x) for part in train.parts]  # type: ignore[union-attr]
    assert max(parts) == 3000 // longest and sum(parts) == train.rows  # type: ignore[union-attr]


def test_folders_named_like_splits_without_images_are_no_splits(
    workdir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (workdir / "conf").mkdir()
    monkeypatch.setattr(catalog, "CONF_FOLDER", workdir / "conf")
    for folder in ("train", "valid", "test"):
        for i in range(3):
            write_picture(Path(f"photos/{folder}/{i}.png"), 8, 8, seed=i)
    Path("photos/validation").mkdir()
    dataset, _ = adding.add("image_folder", "mine", "photos", [])
    assert dataset.options.valid_folders == ["valid"]  # type: ignore[attr-defined]


def test_wide_conditions_count_in_what_is_held_in_memory(
    workdir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of parts, of shards and of what waits to be hashed."""
    (workdir / "conf").mkdir()
    monkeypatch.setattr(catalog, "CONF_FOLDER", workdir / "conf")
    generator = np.random.default_rng(0)
    x, given = generator.normal(size=(60, 2)), generator.normal(size=(60, 5000))
    np.savez("wide.npz", x=x, conditions=given)
    dataset, _ = adding.add("arrays", "wide", "wide.npz", [])
    assert dataset.options.rows_per_shard == (1 << 28) // (4 * (2 + 5000))
    preprocess.preprocess(dataset)
    manifest = (paths.shards("wide") / "manifest.json").read_bytes()
    shutil.rmtree(paths.shards("wide"))
    monkeypatch.setattr(array_checks, "PART_BYTES", 4 * 8 * (2 + 5000))
    monkeypatch.setattr(shard_layout, "LABELS_BYTES", 1 << 12)
    parts = [len(part.x) for part in dataset.decode(Path())["test"].parts]
    assert len(parts) > 1 and max(parts) == 4
    preprocess.preprocess(dataset)
    assert (paths.shards("wide") / "manifest.json").read_bytes() == manifest


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


def test_folders_of_one_name_are_classes_by_their_paths(
    workdir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(catalog, "CONF_FOLDER", workdir)
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


def test_names_that_look_like_something_else_stay_names(
    workdir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(catalog, "CONF_FOLDER", workdir)
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
    with pytest.raises(UserError, match=message) as caught:
        own("image_folder", **{"path": "photos", "test_fraction": 0.2, **options}).decode(Path())
    assert "\n" not in str(caught.value)


def test_a_folder_of_several_that_has_no_image_is_named() -> None:
    for folder in ("train", "extra", "test"):
        for i in range(10):
            write_picture(Path(f"photos/{folder}/{i}.png"), 8, 8, seed=i)
    given: dict[str, Any] = {"path": "photos", "height": 4, "width": 4, "test_folders": ["test"]}
    own("image_folder", train_folders=["train", "extra"], **given).decode(Path())
    with pytest.raises(UserError, match="photos: expected images in 'extar' of train_folders, f"):
        own("image_folder", train_folders=["train", "extar"], **given).decode(Path())


# Arrays


def test_arrays_of_levels_with_labels() -> None:
    generator = np.random.default_rng(0)
    x = generator.integers(0, 17, (50, 1, 4, 4))
    np.save("x.npy", x)
    np.save("y.npy", np.arange(50, dtype=np.int16) % 3)
    given = {"labels": "y.npy"}
    guessed = adding.GUESSES["arrays"]("mine", "x.npy", given)
    assert guessed == {"shape": [1, 4, 4], "num_levels": 17, "num_classes": 3}
    dataset = own("arrays", path="x.npy", **guessed, **given)
    parts = shards(dataset)
    assert [len(parts[split]) for split in SPLITS] == [40, 5, 5]
    rows = {tuple(row.reshape(-1)): n % 3 for n, row in enumerate(x)}
    for part in parts.values():
        for row, label in zip(part.x, part.labels, strict=True):
            assert rows[tuple(row.reshape(-1))] == label


def test_arrays_of_an_archive_are_standardised_with_their_conditions(workdir: Path) -> None:
    own_files.write_simulations(Path("jets.npz"), rows=100)
    guessed = adding.GUESSES["arrays"]("mine", "jets.npz", {})
    dataset = own("arrays", path="jets.npz", standardize=True, **guessed)
    assert dataset.event == Real((3,)) and dataset.condition_size == 2
    parts = shards(dataset)
    for values in (parts["train"].x, parts["train"].labels):
        np.testing.assert_allclose(values.mean(0), 0, atol=1e-6)
        np.testing.assert_allclose(values.std(0), 1, atol=1e-6)
    manifest = read_manifest(Path("shards"))
    assert manifest.condition_size == 2 and manifest.conditions["condition_size"] == 2
    with np.load("jets.npz") as given:
        whole = given["x"], given["conditions"]
    train = split_by_seed(100, dataset.options, "jets.npz", "rows")["train"]  # type: ignore[attr-defined]
    for role, stored, values in zip(
        ("x", "conditions"), (parts["train"].x, parts["train"].labels), whole, strict=True
    ):
        undone = read_scalings("shards")[role].undo(stored)
        np.testing.assert_allclose(undone, values[train], atol=1e-5)
    assert not list((workdir / "data" / "decoded").glob("*"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"dataset_sha256": "0" * 64}, "expected that of the shards beside it"),
        ({"x": {"mean": [0, 0, 0], "deviation": [1, 0, 1]}}, "malformed: expected finite means"),
        ({"x": {"mean": [0, 0, 0], "deviation": [1, 1]}}, r"deviations > 0 of shape \(3,\)"),
        ({"x": {"mean": [0, float("nan"), 0], "deviation": [1, 1, 1]}}, "expected finite means"),
        ({"x": {"mean": "a", "deviation": [1, 1, 1]}}, "could not convert string"),
        ({"x": {"mean": [0, 0, 0]}}, "no field 'deviation'"),
        ({"x": 3}, "scalings.json: "),
        (None, "file not found: these shards are older; run python -m stages.preprocess mine"),
    ],
)
def test_scalings_that_are_none_are_refused(change: dict[str, Any] | None, message: str) -> None:
    own_files.write_simulations(Path("jets.npz"))
    guessed = adding.GUESSES["arrays"]("mine", "jets.npz", {})
    shards(own("arrays", path="jets.npz", **guessed))
    assert read_scalings("shards") == {}
    shards(own("arrays", path="jets.npz", standardize=True, **guessed))
    path = Path("shards/scalings.json")
    if change is None:
        path.unlink()
    else:
        path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(UserError, match=message) as caught:
        read_scalings("shards")
    assert "\n" not in str(caught.value)


def test_numbers_too_large_to_square_are_named() -> None:
    np.save("x.npy", np.linspace(1e200, 2e200, 60).reshape(30, 2))
    guessed = adding.GUESSES["arrays"]("mine", "x.npy", {})
    with pytest.raises(UserError, match="column 0: expected numbers whose squares are finite"):
        shards(own("arrays", path="x.npy", standardize=True, **guessed))


def test_columns_have_levels_of_their_own() -> None:
    np.save("x.npy", np.random.default_rng(0).integers(0, [2, 5, 9], (60, 3)))
    guessed = adding.GUESSES["arrays"]("mine", "x.npy", {})
    dataset = own("arrays", path="x.npy", **guessed)
    assert dataset.event == Levels([2, 5, 9])
    assert shards(dataset)["train"].x.max(0).tolist() == [1, 4, 8]
    assert read_manifest(Path("shards")).event == dataset.event


def test_objects_are_never_unpickled() -> None:
    np.save("x.npy", np.array([{"a": 1}, None], object), allow_pickle=True)
    with pytest.raises(UserError, match="x.npy: expected an array of numbers"):
        adding.GUESSES["arrays"]("mine", "x.npy", {})
    np.savez("x.npz", x=np.array([{"a": 1}, None], object))
    with pytest.raises(UserError, match="it has Python objects in it"):
        adding.GUESSES["arrays"]("mine", "x.npz", {})


def test_an_archive_that_lies_about_its_sizes_is_refused() -> None:
    np.save("x.npy", np.zeros((4, 3)))
    data = Path("x.npy").read_bytes()
    with zipfile.ZipFile("x.npz", "w") as archive:
        archive.writestr("x.npy", data + bytes(1000))
    with pytest.raises(UserError, match=f"x.npz: x: expected {len(data)} bytes by its header"):
        adding.GUESSES["arrays"]("mine", "x.npz", {})


def test_rows_without_an_axis_are_refused_at_the_guess() -> None:
    np.savez("flat.npz", x=np.zeros(9))
    with pytest.raises(UserError, match=r"flat.npz: x: expected rows of one axis or more.*\(9,\)"):
        adding.GUESSES["arrays"]("mine", "flat.npz", {})
    np.savez("told.npz", x=np.zeros((9, 2)), conditions=np.zeros(9))
    with pytest.raises(UserError, match="told.npz: conditions: expected rows of one axis or more"):
        adding.GUESSES["arrays"]("mine", "told.npz", {})


GOOD = {"path": "x.npy", "shape": [3], "num_levels": 5}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"num_levels": 4},
            r"x.npy: x: row 7, column 1: expected levels from 0 to num_levels - 1, got 4",
        ),
        (
            {"num_levels": 5, "standardize": True},
            "option standardize .*: expected false for",
        ),
        ({"shape": [True]}, r"option shape .*: expected a valid integer, got \[True\]"),
        ({"shape": [4]}, r"x.npy: x: expected shape \(20, 4\), got \(20, 3\)"),
        ({"path": "x.csv"}, "option path of dataset 'mine': expected a .npy or .npz file"),
        ({"path": "z.npy"}, "option path of dataset 'mine': expected an existing file"),
        ({"num_levels": 300}, "option num_levels of dataset 'mine': expected 0, 2 to 256"),
        ({"num_levels": [2, 3]}, r"option num_levels .*: expected as many as shape \[3\]"),
        ({"num_levels": "x"}, "option num_levels .*: expected a valid integer, got"),
        (
            {"labels": "x.npy"},
            "option num_classes of dataset 'mine': expected 1 to 1000000 with labels",
        ),
        ({"condition_size": 2}, "option condition_size of dataset 'mine': .* else 0, got 2"),
        (
            {"labels": "y.npy", "num_classes": 2},
            r"x.npy: labels: row 2: expected classes from 0 to 1, got 2",
        ),
        (
            {"num_levels": 0, "standardize": True, "path": "same.npy"},
            "same.npy: x: column 2: expected different values, got 1 in all training rows",
        ),
        (
            {"num_levels": 0, "standardize": True, "path": "tenth.npy"},
            r"tenth.npy: x: column 2: expected different values, got 0.1 in all training rows",
        ),
        ({"num_levels": 0, "path": "nan.npy"}, "row 4, column 0: expected finite numbers, got nan"),
        ({"num_levels": 0, "path": "huge.npy"}, "row 4, column 0: expected numbers within float32"),
        ({"path": "nan.npy"}, "nan.npy: x: expected integers, got float64"),
        ({"path": "short.npy"}, "short.npy: expected an array of numbers"),
    ],
)
def test_bad_arrays_get_one_line(options: dict[str, Any], message: str) -> None:
    x = np.arange(60).reshape(20, 3) % 4
    x[7, 1] = 4
    np.save("x.npy", x)
    np.save("y.npy", np.arange(20) % 4)
    reals = np.random.default_rng(0).normal(size=(20, 3))
    for name, value in (("nan", np.nan), ("huge", 1e200)):
        bad = reals.copy()
        bad[4, 0] = value
        np.save(f"{name}.npy", bad)
    for name, value in (("same", 1), ("tenth", 0.1)):
        same = reals.copy()
        same[:, 2] = value
        np.save(f"{name}.npy", same)
    Path("short.npy").write_bytes(Path("x.npy").read_bytes()[:-9])
    with pytest.raises(UserError, match=message) as caught:
        dataset = own("arrays", **{**GOOD, **options})
        preprocess.write(dataset, dataset.decode(Path()), Path("shards"))
    assert "\n" not in str(caught.value)


# Tables


def test_a_table_of_levels_and_what_is_given() -> None:
    own_files.write_cars(Path("cars.csv"))
    given: dict[str, Any] = {"drop": ["price"], "label": "colour"}
    guessed = adding.GUESSES["csv"]("mine", "cars.csv", given)
    assert guessed["levels"] == {"colour": ["blue", "green", "red"], "doors": 2, "owners": 7}
    dataset = own("csv", path="cars.csv", **{**guessed, **given})
    assert dataset.event == Levels([2, 7]) and dataset.num_classes == 3
    parts = dataset.decode(Path())
    rows = [
        (*x, label) for part in parts.values() for x, label in zip(part.x, part.labels, strict=True)
    ]
    assert sorted(map(tuple, rows)) == sorted((i % 2, i % 7, (2, 0, 1)[i % 3]) for i in range(60))
    given = {"conditions": ["colour", "owners"], "drop": ["doors"]}
    guessed = adding.GUESSES["csv"]("mine", "cars.csv", given)
    dataset = own("csv", path="cars.csv", **{**guessed, **given})
    assert dataset.event == Real((1,)) and dataset.condition_size == 4
    parts = shards(dataset) if Path("cars.csv").is_file() else {}
    vectors = parts["train"].labels
    assert np.array_equal(vectors[:, :3].sum(1), np.ones(48))
    assert abs(vectors[:, 3].mean()) < 1e-6 and abs(vectors[:, 3].std() - 1) < 1e-5


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"levels": {"doors": 2}}, "expected all columns that are modelled or none of them, got"),
        ({"levels": {"door": 2}}, "unknown column of .*cars.csv 'door'; did you mean 'doors'"),
        ({"levels": {"doors": 1}}, "option levels .*: expected 2 to 256, got"),
        ({"label": "doors"}, "option label of dataset 'mine': expected a column of levels"),
        (
            {"label": "doors", "conditions": ["owners"]},
            "option conditions .*: expected none",
        ),
        ({"conditions": ["owners", "owners"]}, "option conditions .*: expected different columns"),
        (
            {"conditions": ["colour", "doors", "owners", "price"]},
            "option conditions of dataset 'mine': expected a column that is not given",
        ),
        (
            {"conditions": ["owners"], "levels": {"owners": 6}, "drop": ["colour"]},
            r"cars.csv: row 8, column 'owners': expected an integer in \[0, 6\), got '6'",
        ),
        (
            {"conditions": ["colour"], "levels": {"colour": ["red", "blue"]}},
            "cars.csv: row 4, column 'colour': expected one of 'red', 'blue', got 'green'",
        ),
    ],
)
def test_bad_tables_get_one_line(options: dict[str, Any], message: str) -> None:
    own_files.write_cars(Path("cars.csv"))
    with pytest.raises(UserError, match=message) as caught:
        own("csv", path="cars.csv", **options).decode(Path())
    assert "\n" not in str(caught.value)


def test_both_parts_of_a_mixed_table_have_the_same_rows() -> None:
    own_files.write_cars(Path("cars.csv"))
    levels = {"colour": ["blue", "green", "red"], "doors": 2, "owners": 7}
    alone = own("csv", path="cars.csv", levels=levels, drop=["price"])
    given = {"levels": {"colour": levels["colour"]}, "conditions": ["colour", "doors", "owners"]}
    told = own("csv", path="cars.csv", standardize=False, **given)
    for one, other in zip(alone.decode(Path()).values(), told.decode(Path()).values(), strict=True):
        assert one.x[:, 0].tolist() == other.labels[:, :3].argmax(1).tolist()
        assert one.x[:, 1:].tolist() == other.labels[:, 3:].tolist()


@pytest.mark.parametrize(
    ("table", "given", "message"),
    [
        (
            "a;b\n" + "0,5;1\n0,7;2\n" * 20,
            {},
            "t.csv: row 2, column 'a': expected numbers with a decimal",
        ),
        (",b\n" + "0,1.5\n1,2.5\n" * 20, {}, "t.csv: column 1: expected a name, got none"),
        ("a\n1.5\n\n2.5\n", {}, "t.csv: row 3: expected a value, got an empty cell"),
        ("a,b\n" + "u,1\nv,0\n" * 20 + ",1\n", {}, "row 42, column 'a': expected one of 'u', 'v'"),
        ("a,b\n1.5,2.5\n", {"delimiter": "xy"}, "option delimiter: expected a character, got 'xy'"),
        ("a,b\n1.5,2.5\nä,1\n".encode("latin-1"), {}, "t.csv: row 3: not a table of text"),
        ("a,b\n1.5,2.5\n" + "x" * 200_000 + ",1\n", {}, "t.csv: row 3: not a table of text"),
    ],
)
def test_flaws_of_tables_that_are_added(
    table: str | bytes, given: dict[str, Any], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    conf = Path("conf")
    conf.mkdir()
    monkeypatch.setattr(catalog, "CONF_FOLDER", conf)
    Path("t.csv").write_bytes(table if isinstance(table, bytes) else table.encode())
    with pytest.raises(UserError, match=message) as caught:
        adding.add("csv", "mine", "t.csv", [f"{key}={value}" for key, value in given.items()])
    assert "\n" not in str(caught.value) and not list(conf.iterdir())


def test_an_index_without_a_name_can_be_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalog, "CONF_FOLDER", Path())
    rows = "".join(f"{i},{i % 7 / 3}\r" for i in range(40))  # rows that end as on an old Macintosh
    Path("t.csv").write_bytes(f",b\r{rows}".encode())
    dataset, found = adding.add("csv", "mine", "t.csv", ["drop=['']"])
    assert found[0] == "40 rows in t.csv" and dataset.event == Real((1,))


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (np.full(30, np.nan), "x.npz: labels: expected integers, got"),
        (np.full(30, 2**40), "num_classes of dataset 'mine': expected 1 to 1000000 with labels"),
    ],
)
def test_labels_that_are_none(
    labels: np.ndarray, message: str, monkeypatch: pytest.MonkeyPatch, workdir: Path
) -> None:
    monkeypatch.setattr(catalog, "CONF_FOLDER", Path())
    np.savez("x.npz", x=np.zeros((30, 3)), labels=labels)
    with pytest.raises(UserError, match=message):
        adding.add("arrays", "mine", "x.npz", [])
    assert not list(workdir.glob("data/decoded/*"))


def test_names_among_reals_ask_what_to_do() -> None:
    own_files.write_cars(Path("cars.csv"))
    with pytest.raises(UserError, match="columns colour are names, others are reals"):
        adding.GUESSES["csv"]("mine", "cars.csv", {})


# Sounds


def test_flac_and_ogg_are_read_and_resampled() -> None:
    write_sound(Path("s/a.wav"), 800)
    write_sound(Path("s/b.flac"), 800)
    write_sound(Path("s/c.ogg"), 1600, rate=16000)
    write_sound(Path("s/d.flac"), 800, channels=2)
    for i in range(16):
        write_sound(Path(f"s/{i}.wav"), 300)
    guessed = adding.GUESSES["wav_folder"]("mine", "s", {})
    assert guessed == {"sample_rate": 8000, "resample": True, "mix": True, "table": ""}
    dataset = own("wav_folder", path="s", **guessed)
    assert dataset.sound is not None and dataset.sound.max_length == 800
    assert "resampled to 8000 Hz where they had another rate; the mean of" in dataset.provenance
    shards(dataset)
    entries = {entry.file.name: entry.file for entry in dataset.entries}  # type: ignore[attr-defined]
    hearing = Hearing(8000, resample=True, mix=True)
    plain = sound_files.read_samples(entries["a.wav"], Hearing(8000))
    for name, most in (("a.wav", 1e-9), ("b.flac", 1e-4), ("d.flac", 1e-4), ("c.ogg", 0.05)):
        heard = sound_files.read_samples(entries[name], hearing)
        assert len(heard) == 800 and np.abs(heard - plain)[100:-100].max() < most


def test_texts_of_phones() -> None:
    for i in range(10):
        write_sound(Path(f"s/{i}.wav"), 300)
    Path("s/table.csv").write_text("file,text\n" + "".join(f"{i}.wav,AH N\n" for i in range(10)))
    dataset = own("wav_folder", path="s", sample_rate=8000, table="s/table.csv", symbols="words")
    assert dataset.sound is not None
    assert dataset.sound.symbols == ("AH", "N") and dataset.sound.max_symbols == 2


@pytest.mark.parametrize("subtype", ["PCM_16", "PCM_24", "FLOAT"])
@pytest.mark.parametrize("header", ["WAV", "WAVEX"])
def test_waves_of_any_width_and_of_reals_are_read(subtype: str, header: str) -> None:
    values = np.linspace(-0.5, 0.5, 300)
    soundfile.write("a.wav", values, 8000, format=header, subtype=subtype)
    assert sound_files.count_samples(Path("a.wav"), Hearing(8000)) == 300
    heard = sound_files.read_samples(Path("a.wav"), Hearing(8000))
    np.testing.assert_allclose(heard, values, atol=1e-4)
    content = Path("a.wav").read_bytes()
    Path("a.wav").write_bytes(content[:-100])
    with pytest.raises(UserError, match="a.wav: truncated: expected .* bytes of samples, got"):
        sound_files.count_samples(Path("a.wav"), Hearing(8000))


@pytest.mark.parametrize("subtype", ["PCM_U8", "PCM_16", "PCM_32"])
def test_sounds_have_the_samples_of_the_standard_reader(subtype: str) -> None:
    soundfile.write("a.wav", np.linspace(-0.9, 0.9, 300), 8000, subtype=subtype)
    heard = sound_files.read_samples(Path("a.wav"), Hearing(8000))
    np.testing.assert_array_equal(heard, wave_files.read_wave(Path("a.wav"), 8000, "a"))


@pytest.mark.parametrize(("peak", "rate"), [(1.4, 8000), (1.6, 8000), (32767.0, 16000)])
def test_reals_that_are_no_amplitudes_are_refused(peak: float, rate: int) -> None:
    values = np.sin(np.arange(400) / 5) * 0.9
    values[100] = -peak
    soundfile.write("a.wav", np.stack([values, values / 9], 1), rate, subtype="FLOAT")
    hearing = Hearing(8000, resample=True, mix=True)
    if peak < sound_files.LOUDEST:
        assert np.abs(sound_files.read_samples(Path("a.wav"), hearing)).max() <= 1
        return
    wanted = rf"a.wav: expected amplitudes in \[-1, 1\], got a peak of {peak:g}; divide"
    with pytest.raises(UserError, match=wanted):
        sound_files.read_samples(Path("a.wav"), hearing)


def test_what_is_no_number_is_refused_in_sounds() -> None:
    values = np.zeros((300, 2))
    values[7, 1] = np.nan
    Path("s").mkdir()
    soundfile.write("s/a.wav", values, 8000, subtype="FLOAT")
    for i in range(9):
        write_sound(Path(f"s/{i}.wav"), 300)
    dataset = own("wav_folder", path="s", sample_rate=8000, mix=True)
    with pytest.raises(UserError, match="a.wav: sample 7: expected a finite number, got nan"):
        dataset.examine()


def test_rows_of_a_table_of_sounds_are_counted_as_an_editor_does() -> None:
    for i in range(10):
        write_sound(Path(f"s/{i}.wav"), 300)
    rows = "".join(f'{i}.wav,"two\nlines"\n\n' for i in range(2))
    Path("t.csv").write_text(f"file,text\n{rows}9.wav,\n")
    with pytest.raises(UserError, match="t.csv: row 8: expected a text, got none"):
        own("wav_folder", path="s", sample_rate=8000, table="t.csv")


def test_columns_of_a_table_of_sounds_are_found_or_told() -> None:
    for i in range(10):
        write_sound(Path(f"s/{i}.wav"), 300)
    rows = [f'{i}.wav,"a text",{"ab"[i % 2]}' for i in range(10)]
    given = {"path": "s", "sample_rate": 8000, "table": "t.csv", "test_fraction": 0.2}
    Path("t.csv").write_text("\n".join(["file ,text, speaker", *rows]))
    dataset = own("wav_folder", **given)
    assert dataset.sound is not None and dataset.sound.speakers == ("a", "b")
    assert not any("columns" in line for line in dataset.examine())
    Path("t.csv").write_text("\n".join(["file,text,Speaker", *rows]))
    dataset = own("wav_folder", **given)
    assert dataset.sound is not None and dataset.sound.speakers == ("",)
    assert "left aside: the columns Speaker" in dataset.examine()
    Path("t.csv").write_text("\n".join(["file,speaker,speaker ", *rows]))
    with pytest.raises(UserError, match="t.csv: expected the columns file, speaker, text, got"):
        own("wav_folder", **given)


def test_what_serves_for_nothing_is_told() -> None:
    own_files.write_pictures(Path("photos"))
    for name in ("photos/a.gif", "photos/rose/b.txt", "photos/.hidden/c.txt"):
        Path(name).parent.mkdir(exist_ok=True)
        Path(name).touch()
    found = own("image_folder", path="photos", height=8, width=8).examine()
    assert found[-1] == "left aside: 2 other files: a.gif, rose/b.txt"
    for i in range(10):
        write_sound(Path(f"s/{i}.wav"), 300)
    rows = "".join(f"{i}.wav,ann\n" for i in range(9))
    Path("s/table.csv").write_text(f"file,speaker\n{rows}")
    Path("s/c.mp3").touch()
    Path("s/._0.wav").touch()
    given = {"sample_rate": 8000, "table": "s/table.csv", "test_fraction": 0.2}
    found = own("wav_folder", path="s", **given).examine()
    assert found[-1] == "left aside: 2 other files: 9.wav, c.mp3"
    assert not any("columns" in line for line in found)
    x = np.random.default_rng(0).normal(size=(20, 3))
    np.savez("x.npz", x=x, weights=x, more=x)
    found = own("arrays", path="x.npz", shape=[3]).examine()
    assert found[-1] == "left aside: the arrays weights, more"


def test_a_wave_that_is_too_long_is_refused_unread() -> None:
    write_sound(Path("s/a.wav"), 3 * 8000)
    with pytest.raises(UserError, match="a.wav: expected at most 1 seconds, got 3"):
        own("wav_folder", path="s", sample_rate=8000, max_seconds=1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "a.flac: expected 16000 Hz .or option resample., got 8000 Hz"),
        ({"sample_rate": 8000}, "stereo.flac: expected one channel .or option mix., got 2"),
        ({"sample_rate": 8000, "mix": True, "max_seconds": 0}, "expected at most 0 seconds"),
        ({"sample_rate": 10}, "option sample_rate of dataset 'mine': expected 1000 to 384000"),
        ({"sample_rate": 8000, "mix": True}, "x.ogg: expected a WAV, FLAC or Ogg file"),
        ({"table": "u.csv"}, "u.csv: row 3: expected 2 cells, got 3"),
        ({"table": "t.csv"}, "t.csv: row 2: expected a path relative to .*, got '../a.flac'"),
    ],
)
def test_bad_sounds_get_one_line(options: dict[str, Any], message: str) -> None:
    write_sound(Path("s/a.flac"), 300)
    write_sound(Path("s/stereo.flac"), 300, channels=2)
    Path("s/x.ogg").write_bytes(b"OggS nothing")
    Path("t.csv").write_text("file,speaker\n../a.flac,me\n")
    Path("u.csv").write_text("file,speaker\na.flac,me\nstereo.flac,you,there\n")
    with pytest.raises(UserError, match=message) as caught:
        own("wav_folder", path="s", **options)
    assert "\n" not in str(caught.value)
