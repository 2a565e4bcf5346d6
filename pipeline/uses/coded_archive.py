"""The file that coded rows are kept in: what its files were, and their streams.

An archive is b"ARCF", a format byte, the length and the CRC-32 of a manifest (JSON, deflated): what
the files were, the classes of their rows, the lengths of the streams; then the streams.
"""

from __future__ import annotations

import json
import operator
import struct
import zlib
from collections.abc import Sequence
from pathlib import Path, PurePosixPath, PureWindowsPath

import numpy as np

from pipeline.core.errors import UserError, require
from pipeline.uses.level_files import FileEntry

MAGIC = b"ARCF"
FORMAT = 1
LEAD = struct.Struct("<4sBII")
LARGEST_MANIFEST = 1 << 25  # bytes, which may be inflated from a thousandth
STRANGE = '\\:*?"<>|'  # which names have not on every system


def pack(entries: Sequence[FileEntry], streams: Sequence[bytes]) -> bytes:
    """Return an archive's bytes."""
    manifest = zlib.compress(manifest_of(entries, streams), 9)
    lead = LEAD.pack(MAGIC, FORMAT, len(manifest), zlib.crc32(manifest))
    return b"".join([lead, manifest, *streams])


def manifest_of(entries: Sequence[FileEntry], streams: Sequence[bytes]) -> bytes:
    """Describe files and the lengths of their streams, as JSON; too long a text is refused."""
    described = {
        "files": [entry.to_dict() for entry in entries],
        "streams": [len(stream) for stream in streams],
    }
    text = json.dumps(described, separators=(",", ":"), ensure_ascii=False).encode("utf-8")
    wanted = f"names, shapes and labels of {LARGEST_MANIFEST:,} bytes at most"
    require(len(text) <= LARGEST_MANIFEST, "files", wanted, f"{len(text):,}")
    return text


def unpack(data: bytes, where: Path) -> tuple[list[FileEntry], list[bytes]]:
    """Undo `pack`; every name is checked.

    Raises:
        UserError: for what is no archive, of another format, truncated, damaged or unsafe.
    """
    if len(data) < LEAD.size or data[:4] != MAGIC:
        raise UserError(f"{where}: expected an archive, which begins with {MAGIC!r}")
    _, version, length, crc = LEAD.unpack_from(data)
    require(version == FORMAT, str(where), f"an archive of format {FORMAT}", version)
    manifest = data[LEAD.size : LEAD.size + length]
    damaged = UserError(f"{where}: truncated or damaged archive")
    if len(manifest) != length or zlib.crc32(manifest) != crc:
        raise damaged
    try:
        inflater = zlib.decompressobj()
        text = inflater.decompress(manifest, LARGEST_MANIFEST)
        small = not inflater.unconsumed_tail
        require(small, str(where), f"a manifest of {LARGEST_MANIFEST:,} bytes at most", "more")
        described = json.loads(text)
        entries = [FileEntry.from_dict(entry) for entry in described["files"]]
        lengths = [operator.index(count) for count in described["streams"]]
    except (zlib.error, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise damaged from None
    if not entries:
        raise damaged
    for entry in entries:
        check_name(entry.name, where)
    require_different([entry.name for entry in entries])
    left = len(data) - LEAD.size - length
    if min(lengths, default=-1) < 0 or left != sum(lengths):
        raise damaged
    ends = np.cumsum([LEAD.size + length, *lengths]).tolist()
    return entries, [data[begin:end] for begin, end in zip(ends, ends[1:], strict=False)]


def check_name(name: str, where: Path) -> None:
    """Refuse a name that could lead out of the folder, on any system.

    Raises:
        UserError: for an absolute path, one with `..`, or a strange one.
    """
    plain = PurePosixPath(name)
    safe = (
        name == plain.as_posix()
        and name not in ("", ".")
        and not plain.is_absolute()
        and not PureWindowsPath(name).anchor
        and ".." not in plain.parts
        and not any(ord(letter) < 32 or letter in STRANGE for letter in name)
        and not any("\ud800" <= letter <= "\udfff" for letter in name)  # bytes that are no text
    )
    require(safe, str(where), f"a relative path without '..' or any of {STRANGE}", name)


def require_different(names: Sequence[str]) -> None:
    """Refuse names of which two are one, or one is a folder of another."""
    seen: set[str] = set()
    folders: set[str] = set()
    for name in names:
        parents = {str(parent) for parent in PurePosixPath(name).parents}
        clash = name in seen or name in folders or bool(parents & seen)
        require(not clash, "files", "names that differ", name)
        seen.add(name)
        folders |= parents
