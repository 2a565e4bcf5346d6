"""Stand-ins out of Debian's packages: how files are read and cut, and the protocols' rows."""

import hashlib
import io
import json
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.datasets import catalog
from pipeline.datasets.base import SPLITS, SplitData
from reproductions.datasets import opsound_music, photo_tiles
from reproductions.datasets.opsound_music import OF_LOOPS, PIECES, blocks, segments
from reproductions.datasets.stand_ins import check_content, read_files
from reproductions.datasets.telephone_prompts import SYMBOLS, plain, read_texts
from tests.places import MIRROR, ROOT
from tests.support.refusals import refused


def decoded(name: str, *families: str) -> dict[str, SplitData]:
    """Decode a dataset of packages, in whichever folder they are."""
    folders = [place / one for one in families for place in (ROOT / "data" / "raw", MIRROR)]
    found = next((folder for folder in folders if folder.is_dir()), None)
    if found is None:
        pytest.skip(f"no Debian packages in {folders}")
    return dict(catalog.get_dataset({"name": name}).decode(found))


X = np.arange(12, dtype=np.uint8).reshape(2, 3, 2)
LABELS = np.array([3, 1])
SUM = hashlib.sha256(X.tobytes() + LABELS.astype("<i8").tobytes() + X.tobytes()).hexdigest()


def test_a_sum_is_of_rows_and_labels_part_by_part() -> None:
    for labels in (LABELS, LABELS.astype(">i8")):
        check_content("some", [SplitData(X, labels), SplitData(X)], SUM, "numpy")


@pytest.mark.parametrize(
    "parts",
    [
        [SplitData(X), SplitData(X, LABELS)],
        [SplitData(X, LABELS[::-1]), SplitData(X)],
        [SplitData(X, LABELS), SplitData(X + 1)],
        [SplitData(X, LABELS)],
    ],
)
def test_other_rows_or_labels_are_refused(parts: list[SplitData]) -> None:
    with refused(f"some: expected decoded rows of sha256 {SUM}, got .* by x"):
        check_content("some", parts, SUM, "x")


# -- photographs


def write_package(path: Path, files: dict[str, bytes]) -> Path:
    """Write a Debian package byte by byte, as `ar` does."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:xz") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(f"./{name}")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
        link = tarfile.TarInfo("./usr/link.jpg")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
    data = b"!<arch>\n"
    parts = {"debian-binary": b"2.0\n", "control.tar.xz": b"odd", "data.tar.xz": stream.getvalue()}
    for name, content in parts.items():
        data += f"{name:<16}{0:<12}{0:<6}{0:<6}{100644:<8}{len(content):<10}`\n".encode()
        data += content + b"\n" * (len(content) % 2)
    path.write_bytes(data)
    return path


def test_plain_files_of_a_package_are_read(tmp_path: Path) -> None:
    files = {"usr/a.jpg": b"A" * 999, "usr/doc.txt": b"no", "usr/b.jpg": b"B"}
    path = write_package(tmp_path / "p.deb", files)
    assert list(read_files(path, (".jpg",))) == [("usr/a.jpg", b"A" * 999), ("usr/b.jpg", b"B")]


def test_tiles_are_the_middle_of_the_photograph_row_by_row() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (10, 13, 3), np.uint8)
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    rows = photo_tiles._read_tiles(4, "a", stream.getvalue())
    assert rows.shape == (6, 3, 4, 4)
    for number in range(6):
        top, left = 1 + 4 * (number // 3), 4 * (number % 3)
        expected = pixels[top : top + 4, left : left + 4].transpose(2, 0, 1)
        assert np.array_equal(rows[number], expected)


def test_the_recorded_split_is_of_photographs_apart() -> None:
    recorded = json.loads(photo_tiles.SPLIT_FILE.read_text())
    assert [len(recorded[split]) for split in SPLITS] == [29, 4, 6]
    every = [name for split in SPLITS for name in recorded[split]]
    assert len(set(every)) == 39 and not set(every) & set(photo_tiles._LEFT_OUT)


def test_tiles_are_those_of_the_protocol() -> None:
    for size, rows in ((32, [4340, 640, 960]), (64, [1035, 150, 230])):
        splits = decoded(f"photo_tiles{size}", "photo_tiles32", "photo_tiles")
        assert [len(splits[split]) for split in SPLITS] == rows


# -- music


def test_segments_are_whole_and_sound() -> None:
    sound, quiet = np.full(4, 0.1), np.full(4, 0.01)
    assert segments(np.concatenate([sound, quiet, sound, sound[:3]]), 4).tolist() == [[0.1] * 4] * 2


@pytest.mark.parametrize("count", [10, 17, 56, 79])
def test_blocks_follow_each_other_with_a_gap(count: int) -> None:
    found = blocks(count)
    assert list(found) == list(SPLITS)
    train, valid, test = found.values()
    assert train.start == 0
    assert valid.start == train.stop + 1
    assert test.start == valid.stop + 1
    assert test.stop == count


def test_music_is_that_of_the_protocol() -> None:
    splits = decoded("opsound_music", "opsound_music")
    assert [len(splits[split]) for split in SPLITS] == [210, 16, 30]
    for split in ("valid", "test"):
        labels = splits[split].labels
        assert {PIECES[number] for number in labels[:, 1]} == set(PIECES) - set(OF_LOOPS)
        assert (labels[:, 0] == opsound_music.SOUND.max_length).all()


# -- speech


def test_texts_are_symbols() -> None:
    assert plain("  Введите «номер», ё!") == "введите номер ё"
    assert plain("It’s 7 o'clock -- PM") == "it's 7 o'clock pm"
    assert len(set(SYMBOLS)) == len(SYMBOLS) == 82
    lines = "; a comment: with a colon\r\ndigits/1: one\nbeep: <beep>\nno colon\nempty: !\n"
    assert read_texts(lines) == {"digits/1": "one"}


def test_prompts_are_those_of_the_protocol() -> None:
    splits = decoded("telephone_prompts", "telephone_prompts")
    assert [len(splits[split]) for split in SPLITS] == [1683, 106, 205]
