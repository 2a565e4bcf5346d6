"""Tiles of photographs: packages read without installing them, and the recorded split."""

import io
import json
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.datasets import catalog
from pipeline.datasets.base import SPLITS
from reproductions.datasets import photo_tiles
from reproductions.datasets.stand_ins import read_files
from tests.places import MIRROR, ROOT

PLACES = (ROOT / "data" / "raw" / "photo_tiles32", MIRROR / "photo_tiles")
FILES = next((folder for folder in PLACES if folder.is_dir()), None)
needs_packages = pytest.mark.skipif(FILES is None, reason=f"no Debian packages in {PLACES}")


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


@needs_packages
def test_tiles_are_those_of_the_protocol() -> None:
    assert FILES is not None
    for size, rows in ((32, [4340, 640, 960]), (64, [1035, 150, 230])):
        splits = catalog.get_dataset({"name": f"photo_tiles{size}"}).decode(FILES)
        assert [len(splits[split]) for split in SPLITS] == rows
