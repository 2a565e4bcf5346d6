"""The bytes of coded events: a header that says what they need, then chunks, all with checksums.

    magic "ARCL" | format | model SHA-256 | levels, extents | count, batch | number of lengths (0
    or count), lengths | dtype device torch constriction | digests of condition, probe and levels |
    for each chunk its length, its CRC-32 and the CRC-32 of its levels | CRC-32 of all before | the
    chunks

Integers are LEB128 variable-length ones; of lengths the difference d of each from the one before,
as 2 d, or -2 d - 1 below zero, a byte or so for rows in order of length. CRCs are little-endian; a
header takes 120 bytes or so.
"""

from __future__ import annotations

import dataclasses
import struct
import zlib
from collections.abc import Sequence
from itertools import accumulate, pairwise

from arcore.primitives.checks import require

MAGIC = b"ARCL"
FORMAT = 2
DIGEST = 8
"""Bytes that are kept of a SHA-256, the model's aside."""
LONGEST = 10


@dataclasses.dataclass(frozen=True)
class Chunk:
    """A part of the rows: how many bytes code it, their CRC-32, and that of its levels."""

    length: int
    code_crc: int
    levels_crc: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class Header:
    """What must be the same for decoding, and what comes after.

    Attributes:
        model: SHA-256 of kind, hyperparameters and weights, 32 bytes.
        num_levels, extents: of an event.
        count, batch: events in all, and events decoded side by side.
        lengths: of the events, where they differ; else none.
        runtime: dtype, kind of device, versions of torch and constriction.
        condition, probe, levels: digests of the condition, of some probabilities, of all levels.
        chunks: in the order of the rows.
    """

    model: bytes
    num_levels: int
    extents: tuple[int, ...]
    count: int
    batch: int
    lengths: tuple[int, ...] = ()
    runtime: tuple[str, str, str, str]
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
    """Undo `join`, with every checksum of bytes checked.

    Raises:
        ValueError: for what is no such data, of another format, truncated or damaged.
    """
    require(isinstance(data, bytes), "data", "bytes", type(data).__name__)
    require(data[:4] == MAGIC, "data", f"coded events, which begin with {MAGIC!r}", data[:4])
    reader = _Reader(data, len(MAGIC))
    found = reader.take(1)[0]
    require(found == FORMAT, "data", f"format {FORMAT}", found)
    model = reader.take(32)
    num_levels, dims = reader.number(), reader.number()
    extents = tuple(reader.number() for _ in range(reader.plausible(dims)))
    count, batch = reader.number(), reader.number()
    coded = [reader.number() for _ in range(reader.plausible(reader.number()))]
    lengths = tuple(accumulate(-(step + 1) // 2 if step % 2 else step // 2 for step in coded))
    runtime = tuple(reader.take(reader.number()).decode("ascii", "replace").split(" "))
    condition, probe, levels = (reader.take(DIGEST) for _ in range(3))
    chunks = []
    for _ in range(reader.plausible(reader.number())):
        length = reader.number()
        chunks.append(Chunk(length, *struct.unpack("<II", reader.take(8))))
    end = reader.position
    (crc,) = struct.unpack("<I", reader.take(4))
    reader.require(crc == zlib.crc32(data[:end]), "the checksum of its header", "another")
    reader.require(len(runtime) == 4 and 0 < batch <= count, "a sound header", "none")
    left = len(data) - reader.position
    total = sum(chunk.length for chunk in chunks)
    reader.require(left == total, f"{total} bytes of code", str(left))
    codes = []
    for index, chunk in enumerate(chunks):
        codes.append(reader.take(chunk.length))
        holds = zlib.crc32(codes[-1]) == chunk.code_crc
        reader.require(holds, f"the checksum of chunk {index}", "another")
    dtype, device, torch_version, coder_version = runtime
    header = Header(
        model=model,
        num_levels=num_levels,
        extents=extents,
        count=count,
        batch=batch,
        lengths=lengths,
        runtime=(dtype, device, torch_version, coder_version),
        condition=condition,
        probe=probe,
        levels=levels,
        chunks=tuple(chunks),
    )
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

    def plausible(self, items: int) -> int:
        """Return a number of items that each take a byte at least."""
        left = len(self.data) - self.position
        self.require(items <= left, f"{items} items more", f"{left} bytes")
        return items


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])
