"""Readers of raw file formats: IDX and rows of separated bits. Errors name file and reason."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TextIO

import numpy as np

from pipeline.core.errors import UserError


def read_bytes(path: Path) -> bytes:
    """Read a raw file whole.

    Raises:
        UserError: if the file is missing or cannot be read.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise _unreadable(path, error) from None


def open_text(path: Path) -> TextIO:
    """Open a raw file of text, UTF-8 with or without a mark of the byte order.

    Raises:
        UserError: if the file is missing or cannot be opened.
    """
    try:
        return path.open(encoding="utf-8-sig", newline="")
    except OSError as error:
        raise _unreadable(path, error) from None


def _unreadable(path: Path, error: OSError) -> UserError:
    if isinstance(error, FileNotFoundError):
        return UserError(f"{path}: file not found; run python -m stages.fetch first")
    return UserError(f"{path}: cannot be read: {error.strerror}")


def read_idx(path: Path, ndim: int) -> np.ndarray:
    """Read an uncompressed IDX file of unsigned bytes.

    Format: two zero bytes, the type 0x08, the number of dimensions, each extent as a big-endian
    32-bit integer, then the bytes in C order.

    Arguments:
        path: the file.
        ndim: number of dimensions expected (3 for images, 1 for labels).

    Returns:
        A read-only uint8 array.

    Raises:
        UserError: naming the file and what is wrong with it.
    """
    data = read_bytes(path)
    header = 4 + 4 * ndim
    if len(data) < header:
        raise UserError(
            f"{path}: truncated IDX file: expected a header of {header} bytes, got {len(data)}"
        )
    magic = bytes((0, 0, 8, ndim))
    if data[:4] != magic:
        raise UserError(
            f"{path}: not an IDX file of unsigned bytes with {ndim} dimensions: "
            f"expected it to begin with {magic.hex()}, got {data[:4].hex()}"
        )
    shape = [int(n) for n in np.frombuffer(data, ">u4", count=ndim, offset=4)]
    expected = header + math.prod(shape)
    if len(data) != expected:
        kind = "truncated" if len(data) < expected else "overlong"
        raise UserError(
            f"{path}: {kind} IDX file: expected {expected} bytes for shape {tuple(shape)}, "
            f"got {len(data)}"
        )
    return np.frombuffer(data, np.uint8, offset=header).reshape(shape)


def read_bits(path: Path, num_columns: int, separator: str) -> np.ndarray:
    """Read a text file of rows of separated bits, such as `0,1,1`, each ended by a newline.

    Arguments:
        path: the file.
        num_columns: bits of a row.
        separator: one character, `,` or a space.

    Returns:
        (N, num_columns) uint8 of zeros and ones.

    Raises:
        UserError: naming the file, the row and the column of the first flaw.
    """
    data = np.frombuffer(read_bytes(path), np.uint8)
    width = 2 * num_columns
    whole = len(data) // width
    cells = data[: whole * width].reshape(whole, num_columns, 2)
    ends = np.full(num_columns, ord(separator), np.uint8)
    ends[-1] = ord("\n")
    bits = cells[..., 0] - np.uint8(ord("0"))
    flawed = (bits > 1) | (cells[..., 1] != ends)
    if flawed.any():
        row, column = (int(i) for i in np.unravel_index(int(flawed.argmax()), flawed.shape))
        got = bytes(cells[row, column]).decode("latin-1")
        raise UserError(
            f"{path}: row {row + 1}, column {column + 1}: expected 0 or 1 and then "
            f"{chr(ends[column])!r} ({num_columns} columns), got {got!r}"
        )
    if len(data) == 0 or len(data) != whole * width:
        raise UserError(
            f"{path}: truncated: expected rows of {width} bytes ({num_columns} bits), "
            f"got {whole} whole rows and {len(data) - whole * width} bytes"
        )
    return bits


def check_rows(path: Path, got: int, expected: int) -> None:
    """Check a file's number of rows.

    Raises:
        UserError: naming the file and both numbers.
    """
    if got != expected:
        raise UserError(f"{path}: expected {expected} rows, got {got}")
