"""Arrays whose files are damaged: one line, whatever numpy and zipfile make of them."""

from __future__ import annotations

import struct
import zipfile
from pathlib import Path

import pytest

from pipeline.core.errors import UserError
from pipeline.datasets.formats import array_files

pytestmark = pytest.mark.usefixtures("workdir")
HEADER = "{'descr': '<f8', 'fortran_order': False, 'shape': (4, 3)}"


def npy(header: str) -> bytes:
    """A file of version 1.0, whose header numpy tokenizes if it is no literal."""
    text = header.encode("latin1")
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text + bytes(96)


@pytest.mark.parametrize(
    "header",
    [
        HEADER.replace("(4, 3)", "(100000000000000000000,)"),
        HEADER.replace("(4, 3)", "(4611686018427387904, 4)"),
        HEADER.replace("(4, 3)", "(-1, 3)"),
        HEADER.replace("'<f8'", "()"),
        HEADER.replace("'<f8'", "5"),
        "{1: 2, 'descr': 3, None: 4}",
        "{[]: 1}",
        "(" * 5000,
        "'''",
    ],
)
def test_a_header_that_is_no_header_is_one_line(header: str) -> None:
    Path("x.npy").write_bytes(npy(header))
    with pytest.raises(UserError, match="^x.npy: expected an array of numbers") as mapped:
        array_files.open_npy(Path("x.npy"))
    with zipfile.ZipFile("x.npz", "w") as archive:
        archive.writestr("x.npy", npy(header))
    with pytest.raises(UserError, match="^x.npz: x: expected ") as unpacked:
        array_files.unpack_npz(Path("x.npz"), "x", Path("there.npy"))
    assert "\n" not in str(mapped.value) + str(unpacked.value)


def flawed(offset: int, value: int, method: int = zipfile.ZIP_STORED) -> None:
    """Write an archive of an array, with another byte in the entry of its directory."""
    with zipfile.ZipFile("x.npz", "w", method) as archive:
        archive.writestr("x.npy", npy(HEADER))
    content = bytearray(Path("x.npz").read_bytes())
    content[content.index(b"PK\x01\x02") + offset] = value
    Path("x.npz").write_bytes(content)


def test_an_archive_of_a_later_kind_is_one_line() -> None:
    flawed(6, 99)
    with pytest.raises(UserError, match="x.npz: expected an archive of arrays .*: zip file"):
        array_files.list_npz(Path("x.npz"))


def test_an_archive_that_cannot_be_unpacked_is_one_line() -> None:
    flawed(10, 97)
    with pytest.raises(UserError, match="x.npz: x: expected an array of numbers, whole: That comp"):
        array_files.unpack_npz(Path("x.npz"), "x", Path("there.npy"))
    flawed(0, ord("P"), zipfile.ZIP_LZMA)
    content = bytearray(Path("x.npz").read_bytes())
    content[60] ^= 255
    Path("x.npz").write_bytes(content)
    with pytest.raises(UserError, match="x.npz: x: expected an array of numbers, whole: "):
        array_files.unpack_npz(Path("x.npz"), "x", Path("there.npy"))
