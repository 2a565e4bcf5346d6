"""Files of other programs, cut, planted or of another encoding: one line that names them."""

import io
import lzma
import struct
import tarfile
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.core.errors import UserError
from pipeline.datasets.clips import robotic_pushing
from pipeline.datasets.formats import tfrecords
from pipeline.datasets.formats.archives import open_archive
from pipeline.training.training_records import read_history


def test_a_damaged_xz_archive(tmp_path: Path) -> None:
    path, content = tmp_path / "a.tar.xz", io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as archive:
        info = tarfile.TarInfo("a")
        info.size = 100_000
        archive.addfile(info, io.BytesIO(np.random.default_rng(0).bytes(info.size)))
    packed = bytearray(lzma.compress(content.getvalue()))
    packed[len(packed) // 2] ^= 255
    path.write_bytes(packed)
    with pytest.raises(UserError, match=str(path)):
        with open_archive(path) as files:
            for _, inner in files:
                inner.read()


def test_a_varint_of_more_than_ten_bytes() -> None:
    varint = b"\xff" * 10 + b"\x7f"

    def field(number: int, content: bytes) -> bytes:
        return bytes([number << 3 | 2, len(content)]) + content

    numbers = field(3, field(1, varint))
    entry = field(1, b"a") + field(2, numbers)
    with pytest.raises(UserError, match="f: no tf.train.Example"):
        tfrecords.parse_example(field(1, field(1, entry)), "f")


def test_a_picture_far_too_large_is_not_decoded() -> None:
    written = io.BytesIO()
    Image.new("1", (1, 1)).save(written, "PNG")
    content = bytearray(written.getvalue())
    content[16:24] = struct.pack(">II", 30_000, 30_000)  # only its header says so
    content[29:33] = struct.pack(">I", zlib.crc32(content[12:29]))
    with pytest.raises(UserError, match="f: .*900000000 pixels"):
        robotic_pushing._decode(bytes(content), "f")


@pytest.mark.parametrize(
    "text",
    ["epoch,valid_nats\n1,low\n", "epoch,valid_nats\n1,nan\n", "epoch\n1,2\n", "valid_nats\n1\n",
     "epoch,valid_nats\n0,1\n", 'epoch\n"1', "epoch\n1.5\n", None],
)  # fmt: skip
def test_histories(tmp_path: Path, text: str | None) -> None:
    path = tmp_path / "history.csv"
    if text is not None:
        path.write_text(text)
    with pytest.raises(UserError, match=f"{path}: "):
        read_history(path)
    path.write_text("epoch,valid_nats\n1,2.5\n2,\n")
    assert [row["valid_nats"] for row in read_history(path)] == ["2.5", ""]
