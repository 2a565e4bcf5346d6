"""The file that coded rows are kept in: what its files were, and their streams.

An archive is b"ARCF", a format byte, the length and the CRC-32 of a manifest (JSON, deflated): what
the files were, the classes of their rows, the lengths of the streams; then the streams.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Annotated, Literal, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, ValidationError, model_validator

from arcore.coded_batches import LONGEST
from pipeline.core.errors import UserError, require

MAGIC = b"ARCF"
FORMAT = 1
LEAD = struct.Struct("<4sBII")
LARGEST_MANIFEST = 1 << 25  # bytes, which may be inflated from a thousandth
STRANGE = '\\:*?"<>|'  # which names have not on every system
RATES = range(1, 1 << 31)  # that a WAV header holds, next to bytes per second

Extent = Annotated[int, Field(ge=1, le=LONGEST)]
Int64 = Annotated[int, Field(ge=-(1 << 63), lt=1 << 63)]


class FileEntry(BaseModel):
    """What is kept of a file in addition to its levels.

    Attributes:
        name: relative path.
        kind: png, wav or parquet.
        rows: events in it.
        extents: of an event.
        mode: of a picture, as Pillow names it.
        rate: samples per second of a sound.
        labels: of Parquet rows, None without that column.
        classes: that rows were coded under, None for an unconditional model.
        symbols: of a sound's text, that it was coded under; None for a model of none.
    """

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")

    name: str
    kind: Literal["png", "wav", "parquet"]
    rows: int = Field(ge=1)
    extents: tuple[Extent, ...] = Field(min_length=1)
    mode: str = ""
    rate: int = 0
    labels: tuple[Int64, ...] | None = None
    classes: tuple[Int64, ...] | None = None
    symbols: tuple[Int64, ...] | None = Field(default=None, min_length=1)

    @model_validator(mode="after")
    def _fits_its_kind(self) -> Self:
        """Refuse what no file is; what depends on the model's event is checked with the model."""
        is_wav = self.kind == "wav"
        fits = (
            (self.rows == 1 or self.kind == "parquet")
            and (self.rate in RATES if is_wav else self.rate == 0)
            and all(ns is None or len(ns) == self.rows for ns in (self.labels, self.classes))
            and (self.symbols is None or is_wav)
        )
        if not fits:
            raise ValueError(f"not an entry of a file: {self}")
        return self


class ArchiveManifest(BaseModel):
    """What an archive's files were, and the bytes of each of its streams."""

    model_config = ConfigDict(frozen=True, strict=True)

    files: tuple[FileEntry, ...] = Field(min_length=1)
    streams: tuple[NonNegativeInt, ...]


def pack(entries: Sequence[FileEntry], streams: Sequence[bytes]) -> bytes:
    """Return an archive's bytes."""
    manifest = zlib.compress(manifest_of(entries, streams), 9)
    lead = LEAD.pack(MAGIC, FORMAT, len(manifest), zlib.crc32(manifest))
    return b"".join([lead, manifest, *streams])


def manifest_of(entries: Sequence[FileEntry], streams: Sequence[bytes]) -> bytes:
    """Describe files and the lengths of their streams, as JSON; too long a text is refused."""
    manifest = ArchiveManifest(files=tuple(entries), streams=tuple(map(len, streams)))
    text = manifest.model_dump_json(exclude_defaults=True).encode("utf-8")
    expected = f"names, shapes and labels of {LARGEST_MANIFEST:,} bytes at most"
    require(len(text) <= LARGEST_MANIFEST, "files", expected, f"{len(text):,}")
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
    begin = LEAD.size + length
    described = data[LEAD.size : begin]
    damaged = UserError(f"{where}: truncated or damaged archive")
    if len(described) != length or zlib.crc32(described) != crc:
        raise damaged
    try:
        manifest = ArchiveManifest.model_validate_json(_inflated(described, where))
    except (zlib.error, ValidationError):
        raise damaged from None
    for entry in manifest.files:
        check_name(entry.name, where)
    require_different([entry.name for entry in manifest.files])
    if len(data) - begin != sum(manifest.streams):
        raise damaged
    ends = np.cumsum([begin, *manifest.streams]).tolist()
    streams = [data[first:end] for first, end in zip(ends, ends[1:], strict=False)]
    return list(manifest.files), streams


def _inflated(data: bytes, where: Path) -> bytes:
    inflater = zlib.decompressobj()
    text = inflater.decompress(data, LARGEST_MANIFEST)
    small = not inflater.unconsumed_tail
    require(small, str(where), f"a manifest of {LARGEST_MANIFEST:,} bytes at most", "more")
    return text


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
