"""The bytes of coded events: a header that says what they need, then chunks, all with checksums.

    magic "ARCL" | format | model SHA-256 | levels, extents | count, batch | number of lengths (0
    or count), lengths | dtype device torch constriction | digests of condition, probe and levels |
    for each chunk its length, its CRC-32 and the CRC-32 of its levels | CRC-32 of all before | the
    chunks

Integers are LEB128 variable-length ones; of lengths the difference d of each from the one before,
as 2 d, or -2 d - 1 below zero, a byte or so for rows in order of length. CRCs are little-endian; a
header takes 120 bytes or so.
"""

import dataclasses
import struct
import zlib
from collections.abc import Callable, Sequence
from itertools import accumulate, pairwise
from typing import TypeVar

from arcore.primitives.checks import require

MAGIC = b"ARCL"
FORMAT = 2
DIGEST = 8
"""Bytes that are kept of a SHA-256, the model's aside."""
LONGEST = 10

Item = TypeVar("Item")


@dataclasses.dataclass(frozen=True)
class Chunk:
    """A part of the rows: how many bytes code it, their CRC-32, and the CRC-32 of its levels."""

    length: int
    code_crc: int
    levels_crc: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class Header:
    """What must be the same for decoding, and what comes after.

    Attributes:
        model: SHA-256 of kind, hyperparameters and weights, 32 bytes.
        count, batch: events in all, and events decoded side by side.
        lengths: of the events, where they differ; else none.
        runtime: dtype, kind of device, versions of torch and constriction.
        condition, probe, levels: digests of the condition, of some probabilities, of all levels.
    """

    model: bytes
    num_levels: int
    extents: tuple[int, ...]
    count: int
    batch: int
    lengths: tuple[int, ...] = ()
    runtime: tuple[str, ...]
    condition: bytes
    probe: bytes
    levels: bytes
    chunks: tuple[Chunk, ...]


def join(header: Header, codes: Sequence[bytes]) -> bytes:
    """Return the header and the chunks' bytes as one."""
    numbers = (header.num_levels, len(header.extents), *header.extents, header.count, header.batch)
    steps = [now - last for last, now in pairwise((0, *header.lengths))]
    numbers += (len(steps), *(2 * step if step >= 0 else -2 * step - 1 for step in steps))
    runtime = " ".join(header.runtime).encode("ascii")
    parts = [MAGIC, bytes([FORMAT]), header.model, *map(_varint, numbers)]
    parts += [_varint(len(runtime)), runtime, header.condition, header.probe, header.levels]
    parts.append(_varint(len(header.chunks)))
    for chunk in header.chunks:
        parts += [_varint(chunk.length), struct.pack("<II", chunk.code_crc, chunk.levels_crc)]
    packed = b"".join(parts)
    return b"".join([packed, struct.pack("<I", zlib.crc32(packed)), *codes])


def split(data: bytes) -> tuple[Header, list[bytes]]:
    """Undo `join`, with every checksum of bytes checked."""
    require(isinstance(data, bytes), "data", "bytes", type(data).__name__)
    require(data[:4] == MAGIC, "data", f"coded events, which begin with {MAGIC!r}", data[:4])
    reader = _Reader(data, len(MAGIC))
    found = reader.take(1)[0]
    require(found == FORMAT, "data", f"format {FORMAT}", found)
    header = Header(  # in the order of the bytes
        model=reader.take(32),
        num_levels=reader.number(),
        extents=reader.items(reader.number),
        count=reader.number(),
        batch=reader.number(),
        lengths=tuple(accumulate(reader.items(reader.difference))),
        runtime=tuple(reader.take(reader.number()).decode("ascii", "replace").split(" ")),
        condition=reader.take(DIGEST),
        probe=reader.take(DIGEST),
        levels=reader.take(DIGEST),
        chunks=reader.items(reader.chunk),
    )
    end = reader.position
    (crc,) = struct.unpack("<I", reader.take(4))
    reader.require(crc == zlib.crc32(data[:end]), "the checksum of its header", "another")
    is_sound = len(header.runtime) == 4 and 0 < header.batch <= header.count
    reader.require(is_sound, "a sound header", "none")
    left = len(data) - reader.position
    total = sum(chunk.length for chunk in header.chunks)
    reader.require(left == total, f"{total} bytes of code", str(left))
    codes = []
    for index, chunk in enumerate(header.chunks):
        codes.append(reader.take(chunk.length))
        holds = zlib.crc32(codes[-1]) == chunk.code_crc
        reader.require(holds, f"the checksum of chunk {index}", "another")
    return header, codes


class _Reader:
    def __init__(self, data: bytes, position: int) -> None:
        self.data, self.position = data, position

    def require(self, holds: bool, expected: str, got: str) -> None:
        if not holds:
            raise ValueError(f"data: truncated or damaged: expected {expected}, got {got}")

    def take(self, count: int) -> bytes:
        left = len(self.data) - self.position
        self.require(count <= left, f"{count} bytes more", str(left))
        self.position += count
        return self.data[self.position - count : self.position]

    def number(self) -> int:
        value = 0
        for place in range(LONGEST):
            byte = self.take(1)[0]
            value |= (byte & 0x7F) << (7 * place)
            if byte < 0x80:
                return value
        raise ValueError("data: truncated or damaged: expected a number, got none")

    def difference(self) -> int:
        step = self.number()
        return -(step + 1) // 2 if step % 2 else step // 2

    def chunk(self) -> Chunk:
        return Chunk(self.number(), *struct.unpack("<II", self.take(8)))

    def items(self, read: Callable[[], Item]) -> tuple[Item, ...]:
        """Read a number of items and then these, each of a byte at least."""
        count, left = self.number(), len(self.data) - self.position
        self.require(count <= left, f"{count} items more", f"{left} bytes")
        return tuple(read() for _ in range(count))


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])
