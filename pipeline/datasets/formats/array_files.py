"""Arrays in .npy files, mapped into memory, and in .npz archives, unpacked next to them first."""

from __future__ import annotations

import io
import lzma
import shutil
import tokenize
import zipfile
import zlib
from pathlib import Path

import numpy as np

from pipeline.core.errors import UserError, one_line

_KINDS = "iufb"  # of numpy's types: integers, reals, bits
_HEADER = 1 << 16
# What numpy and zipfile raise for damaged files: archives, also encrypted ones and those of unknown
# compression (RuntimeError), and headers, which are Python literals that may say anything.
DAMAGE = (
    zipfile.BadZipFile, zlib.error, lzma.LZMAError, OSError, EOFError, ValueError, TypeError,
    LookupError, SyntaxError, tokenize.TokenError, RuntimeError, ArithmeticError, MemoryError,
)  # fmt: skip


def open_npy(path: Path, where: str | Path | None = None) -> np.ndarray:
    """Map an array of numbers into memory; nothing is read but its header.

    Arguments:
        path: a .npy file.
        where: what an error calls it.

    Raises:
        UserError: for a file that is missing, truncated or no such array, or has objects in it.
    """
    where = where or path
    try:
        with np.errstate(over="raise"):  # of the number of values, else a warning
            array = np.lib.format.open_memmap(path, mode="r")
    except FileNotFoundError:
        raise UserError(f"{where}: file not found") from None
    except DAMAGE as error:
        reason = one_line(error)
        raise UserError(f"{where}: expected an array of numbers (.npy), whole: {reason}") from None
    if array.dtype.kind not in _KINDS or array.ndim == 0 or array.size == 0:
        raise UserError(
            f"{where}: expected rows of integers or reals, got shape {array.shape} of {array.dtype}"
        )
    return array


def list_npz(path: Path) -> list[str]:
    """List the arrays of an .npz archive.

    Raises:
        UserError: if it is missing or no such archive.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            names = [name for name in archive.namelist() if name.endswith(".npy")]
    except FileNotFoundError:
        raise UserError(f"{path}: file not found") from None
    except DAMAGE as error:
        raise UserError(
            f"{path}: expected an archive of arrays (.npz): {one_line(error)}"
        ) from None
    return [name.removesuffix(".npy") for name in names]


def unpack_npz(path: Path, name: str, target: Path) -> None:
    """Write one array of an .npz archive to a .npy file, piece by piece.

    Its size is checked against what its header says before more than that is written.

    Raises:
        UserError: if it is not there, truncated or damaged, or has objects in it.
    """
    where = f"{path}: {name}"
    if name not in list_npz(path):
        raise UserError(f"{path}: expected the array {name!r} in it, got {list_npz(path)}")
    try:
        with zipfile.ZipFile(path) as archive, archive.open(f"{name}.npy") as member:
            beginning = member.read(_HEADER)
            said, size = _bytes_of(beginning), archive.getinfo(f"{name}.npy").file_size
            if size != said:
                raise UserError(f"{where}: expected {said} bytes by its header, got {size}")
            target.parent.mkdir(parents=True, exist_ok=True)
            with target.open("wb") as out:
                out.write(beginning)
                shutil.copyfileobj(member, out, 1 << 20)
    except DAMAGE as error:
        reason = one_line(error)
        raise UserError(f"{where}: expected an array of numbers, whole: {reason}") from None


def _bytes_of(beginning: bytes) -> int:
    """Bytes of a .npy file, by its header."""
    stream = io.BytesIO(beginning)
    version = np.lib.format.read_magic(stream)
    read = {(1, 0): np.lib.format.read_array_header_1_0}.get(
        version, np.lib.format.read_array_header_2_0
    )
    shape, _, dtype = read(stream)
    if dtype.hasobject:
        raise ValueError("it has Python objects in it, which are not read")
    return stream.tell() + int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
