"""Reading TFRecord files of tf.train.Example messages, without TensorFlow.

A record is its length (8 bytes, little-endian), the masked CRC-32C of those bytes (4), the data,
and the masked CRC-32C of the data (4). A `tf.train.Example` is a protocol-buffer message that maps
names to lists of byte strings, floats or integers.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from pipeline.core.errors import UserError

Feature = list[bytes] | np.ndarray

LARGEST_RECORD = 1 << 30
_POLYNOMIAL = 0x82F63B78  # Castagnoli's, reflected
_MASK_DELTA = 0xA282EAD8
_LANES = 1024
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


def _make_table() -> np.ndarray:
    table = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        table = np.where(table & 1, (table >> 1) ^ np.uint32(_POLYNOMIAL), table >> 1)
    return table.astype(np.uint32)


_TABLE = _make_table()
_PLAIN = _TABLE.tolist()


def crc32c(data: bytes) -> int:
    """Return the CRC-32C of bytes.

    Long data is cut into lanes whose remainders are computed side by side and then put together,
    since the remainder of A followed by B is linear in that of A.

    Example:
        >>> hex(crc32c(b"123456789"))  # the check value of the standard
        '0xe3069283'
    """
    state, size = 0xFFFFFFFF, len(data) // _LANES
    rest = data
    if size >= 4:
        rest = data[size * _LANES :]
        bytes_ = np.frombuffer(data, np.uint8, size * _LANES).reshape(_LANES, size)
        lanes = np.zeros(_LANES, np.uint32)
        lanes[0] = state
        for column in np.ascontiguousarray(bytes_.T):
            lanes = _TABLE[(lanes ^ column) & 0xFF] ^ (lanes >> 8)
        shift = _shift_tables(size)
        state = 0
        for lane in lanes.tolist():
            a, b, c, d = state & 0xFF, state >> 8 & 0xFF, state >> 16 & 0xFF, state >> 24
            state = shift[0][a] ^ shift[1][b] ^ shift[2][c] ^ shift[3][d] ^ lane
    for byte in rest:
        state = _PLAIN[(state ^ byte) & 0xFF] ^ (state >> 8)
    return state ^ 0xFFFFFFFF


def _shift_tables(size: int) -> list[list[int]]:
    """What `size` zero bytes make of each value of each of a remainder's four bytes."""
    values = np.arange(256, dtype=np.uint32)
    tables = np.stack([values << np.uint32(8 * place) for place in range(4)])
    for _ in range(size):
        tables = _TABLE[tables & 0xFF] ^ (tables >> 8)
    found: list[list[int]] = tables.tolist()
    return found


def masked(crc: int) -> int:
    """Return a CRC as TFRecord files store it.

    Example:
        >>> hex(masked(0))
        '0xa282ead8'
    """
    return ((crc >> 15 | crc << 17) + _MASK_DELTA) & 0xFFFFFFFF


def read_records(path: Path) -> Iterator[bytes]:
    """Yield the records of a TFRecord file in order, each checked.

    Raises:
        UserError: naming the file, and the record that is truncated or corrupt.
    """
    try:
        with open(path, "rb") as file:
            number = 0
            while header := file.read(12):
                number += 1
                where = f"{path}: record {number}"
                if len(header) < 12:
                    raise UserError(f"{where}: truncated: expected a header of 12 bytes")
                length, check = struct.unpack("<QI", header)
                if masked(crc32c(header[:8])) != check or length > LARGEST_RECORD:
                    raise UserError(f"{where}: corrupt length, or no TFRecord file")
                body = file.read(length + 4)
                if len(body) < length + 4:
                    raise UserError(
                        f"{where}: truncated: expected {length + 4} bytes, got {len(body)}"
                    )
                data = body[:length]
                if masked(crc32c(data)) != struct.unpack("<I", body[length:])[0]:
                    raise UserError(f"{where}: corrupt: its CRC-32C does not match")
                yield data
    except FileNotFoundError:
        raise UserError(f"{path}: file not found") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from None


def parse_example(data: bytes, where: str) -> dict[str, Feature]:
    """Parse a serialised tf.train.Example.

    Arguments:
        data: the message.
        where: what to call it in an error.

    Returns:
        Lists of byte strings, arrays of float32 or of int64, by name.

    Raises:
        UserError: if it is no such message.
    """
    found: dict[str, Feature] = {}
    try:
        for number, features in _fields(data):
            if number != 1:
                continue
            for inner, entry in _fields(features):
                if inner != 1:
                    continue
                parts = dict(_fields(entry))
                found[parts[1].decode("utf-8")] = _feature(parts.get(2, b""))
    except (ValueError, IndexError, KeyError, OverflowError, struct.error) as error:
        raise UserError(f"{where}: no tf.train.Example: {error}") from None
    return found


def _feature(data: bytes) -> Feature:
    for kind, content in _fields(data):
        values = [value for number, value in _fields(content) if number == 1]
        if kind == 1:
            return values
        if kind == 2:  # packed or one by one, either way 4 bytes a value
            return np.frombuffer(b"".join(values), "<f4")
        if kind == 3:
            return np.array([n for value in values for n in _varints(value)], np.int64)
    return []


def _fields(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield the number and the content of each field of a message; a varint as its bytes."""
    place = 0
    while place < len(data):
        tag, place = _varint(data, place)
        kind, start = tag & 7, place
        if kind == _VARINT:
            _, place = _varint(data, place)
        elif kind == _BYTES:
            length, start = _varint(data, place)
            place = start + length
        elif kind in (_FIXED64, _FIXED32):
            place += 8 if kind == _FIXED64 else 4
        else:
            raise ValueError(f"field of wire type {kind}")
        if place > len(data):
            raise ValueError("a field ends after the message")
        yield tag >> 3, data[start:place]


def _varint(data: bytes, place: int) -> tuple[int, int]:
    value, shift = 0, 0
    while True:
        byte = data[place]
        value |= (byte & 0x7F) << shift
        place, shift = place + 1, shift + 7
        if byte < 0x80:
            return value, place
        if shift > 63:
            raise ValueError("a varint of more than ten bytes")


def _varints(data: bytes) -> Iterator[int]:
    place = 0
    while place < len(data):
        value, place = _varint(data, place)
        if value >= 1 << 64:
            raise ValueError("a varint of more than 64 bits")
        yield value - (1 << 64) if value >= 1 << 63 else value
