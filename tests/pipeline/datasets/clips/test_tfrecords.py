"""TFRecord files and the robotic pushing set, on records that the tests make."""

import io
import struct
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tensorboardX.record_writer import masked_crc32c

from pipeline.core.errors import UserError
from pipeline.data import preprocessing, shard_reader
from pipeline.data.manifest import read_manifest
from pipeline.datasets import base, catalog
from pipeline.datasets.clips import robotic_pushing
from pipeline.datasets.formats.tfrecords import parse_example, read_records
from tests.support.own_files import colour_png

# -- records as protocol buffers, written by hand


def varint(n: int) -> bytes:
    data = bytearray()
    n &= (1 << 64) - 1
    while True:
        data.append(n & 0x7F | (0x80 if n > 0x7F else 0))
        n >>= 7
        if not n:
            return bytes(data)


def field(number: int, content: bytes) -> bytes:
    return varint(number << 3 | 2) + varint(len(content)) + content


def feature(value: bytes | list[float] | list[int]) -> bytes:
    if isinstance(value, bytes):
        return field(1, field(1, value))
    if all(isinstance(v, float) for v in value):
        return field(2, field(1, struct.pack(f"<{len(value)}f", *value)))
    return field(3, field(1, b"".join(varint(v) for v in value)))


def example(features: dict[str, bytes | list[float] | list[int]]) -> bytes:
    entries = (field(1, k.encode()) + field(2, feature(v)) for k, v in features.items())
    return field(1, b"".join(field(1, entry) for entry in entries))


def record(data: bytes) -> bytes:
    length = struct.pack("<Q", len(data))
    checks = (struct.pack("<I", masked_crc32c(part)) for part in (length, data))
    return length + next(checks) + data + next(checks)


def test_example_is_parsed() -> None:
    data = example({"a": b"bytes", "b": [0.5, -2.0], "c": [3, -1, 1 << 40]})
    found = parse_example(data, "here")
    assert found["a"] == [b"bytes"]
    assert np.array_equal(found["b"], np.array([0.5, -2], np.float32))
    assert np.array_equal(found["c"], [3, -1, 1 << 40])


LONG = field(2, field(3, field(1, b"\xff" * 10 + b"\x7f")))  # a varint of more than ten bytes


@pytest.mark.parametrize(
    "data",
    [b"\xff", b"\x0a\x05abc", field(1, field(1, field(2, b""))), b"\x0b", b"\xff" * 12]
    + [field(1, field(1, field(1, b"a") + LONG))],
)
def test_what_is_no_example_is_named(data: bytes) -> None:
    with pytest.raises(UserError, match=r"here: no tf\.train\.Example"):
        parse_example(data, "here")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda d: d[:-1], "record 2: truncated: expected 8 bytes, got 7"),
        (lambda d: d[:25], "record 2: truncated: expected a header of 12 bytes"),
        (lambda d: d[:-5] + b"X" + d[-4:], "record 2: corrupt: its CRC-32C does not match"),
        (lambda d: b"\x01" + d[1:], "record 1: corrupt length, or no TFRecord file"),
    ],
)
def test_damaged_records_are_named(tmp_path: Path, damage: object, message: str) -> None:
    path = tmp_path / "a.tfrecord"
    path.write_bytes(record(b"1234") + record(b"5678"))
    assert list(read_records(path)) == [b"1234", b"5678"]
    path.write_bytes(damage(path.read_bytes()))  # type: ignore[operator]
    with pytest.raises(UserError, match=message):
        list(read_records(path))
    with pytest.raises(UserError, match="file not found"):
        list(read_records(tmp_path / "missing"))


# -- robotic pushing


def picture(color: tuple[int, int, int]) -> bytes:
    """A frame of the published size, gray at the sides that are cropped."""
    pixels = np.full((512, 640, 3), 128, np.uint8)
    pixels[:, 64:576] = color
    data = io.BytesIO()
    Image.fromarray(pixels).save(data, "JPEG", quality=95)
    return data.getvalue()


def clip(number: int, frames: int = 21) -> bytes:
    features: dict[str, bytes | list[float] | list[int]] = {}
    for t in range(frames):
        features[f"move/{t}/image/encoded"] = picture((10 * number, 12 * t, 200))
        features[f"move/{t}/commanded_pose/vec_pitch_yaw"] = [float(t + 1)] * 5
        features[f"move/{t}/endeffector/vec_pitch_yaw"] = [float(-t - 1)] * 5
    return example(features)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ARCORE_HOME", str(tmp_path))
    counts = {"push_train": [2, 1], "push_testseen": [1], "push_testnovel": [2]}
    number = 0
    for name, files in counts.items():
        (tmp_path / name).mkdir()
        for index, rows in enumerate(files):
            file = tmp_path / name / f"{name}.tfrecord-{index:05d}-of-{len(files):05d}"
            file.write_bytes(b"".join(record(clip(number + i)) for i in range(rows)))
            number += rows
    return tmp_path


def test_robotic_pushing_is_decoded_into_shards(folder: Path) -> None:
    config = {"name": "robotic_pushing", "folder": ".", "valid_files": 1}
    dataset = catalog.get_dataset(config | {"rows_per_shard": 1})
    out = preprocessing.write(dataset, dataset.decode(folder), folder / "shards")
    train, valid, test = (shard_reader.read_split(out, split) for split in base.SPLITS)
    assert train.x.shape == (2, 20, 3, 64, 64) and len(valid) == 1 and len(test) == 1
    assert abs(int(train.x[1, 3, 0, 32, 32]) - 10) <= 2  # red by clip, green by frame
    assert abs(int(valid.x[0, 5, 1, 9, 9]) - 60) <= 4  # the middle square alone
    manifest = read_manifest(out)
    assert manifest.context_frames == 2 and manifest.condition_sequence == (20, 10)
    assert train.labels.shape == (2, 20, 10) and train.labels.dtype == np.float32
    assert train.labels[1, :3, 0].tolist() == [0, 1, 2]  # the action before the frame
    assert test.labels[0, :3, 5].tolist() == [-1, -2, 0]  # no states after the given frames
    novel = catalog.get_dataset(config | {"test_objects": "novel"}).decode(folder)["test"]
    assert novel.rows == 2  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "option folder .*: expected the folder of the files of https"),
        ({"folder": "nowhere"}, "push_train: expected files push_train.tfrecord"),
        ({"folder": ".", "valid_files": 2}, "valid_files .*: expected 1 to 1 of"),
        ({"folder": ".", "test_objects": "new"}, "test_objects .*: expected 'seen' or 'nov"),
    ],
)
def test_bad_options_are_named(folder: Path, options: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        catalog.get_dataset({"name": "robotic_pushing", **options}).decode(folder)


def test_a_picture_far_too_large_is_not_decoded() -> None:
    with pytest.raises(UserError, match="f: .*900000000 pixels"):
        robotic_pushing._decode(colour_png(30_000, 30_000, 8, b""), "f")


def test_an_empty_file_is_named(folder: Path) -> None:
    path = min((folder / "push_train").iterdir())
    path.write_bytes(b"")
    dataset = catalog.get_dataset({"name": "robotic_pushing", "folder": ".", "valid_files": 1})
    with pytest.raises(UserError, match=f"{path.name}: expected clips, got an empty file"):
        dataset.decode(folder)


def test_a_clip_that_is_damaged_is_named(folder: Path) -> None:
    path = folder / "clip"
    path.write_bytes(record(clip(0, frames=19)))
    with pytest.raises(UserError, match="clip: record 1: expected one byte string 'move/19/image"):
        list(robotic_pushing.read_clips(path))
    broken = clip(0).replace(b"\xff\xd8\xff", b"\x00\x00\x00")
    path.write_bytes(record(broken))
    with pytest.raises(UserError, match="record 1: expected a PNG, JPEG or WebP image"):
        list(robotic_pushing.read_clips(path))
    (folder / "push_train" / "push_train.tfrecord-00000-of-00002").unlink()
    with pytest.raises(UserError, match="push_train: expected 2 files, found 1"):
        catalog.get_dataset({"name": "robotic_pushing", "folder": "."}).decode(folder)


def test_frames_are_made_smaller_as_published_not_averaged() -> None:
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (512, 640, 3), dtype=np.uint8)

    def decoded(image: np.ndarray) -> np.ndarray:
        content = io.BytesIO()
        Image.fromarray(image).save(content, format="PNG")
        return robotic_pushing._decode(content.getvalue(), "a frame")

    small = decoded(pixels)
    assert np.array_equal(small, pixels[::8, 64:576:8].transpose(2, 0, 1))
    assert decoded(pixels[:500]).std() < small.std() / 3
