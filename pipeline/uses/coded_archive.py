"""The file that coded levels are kept in: what its files were, and their streams.

An archive is b"ARCF", a format byte, the length and the CRC-32 of a manifest (JSON, deflated): what
the files were, their classes, the lengths of the streams; then the streams.
"""

import struct
import zlib
from collections.abc import Sequence
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Annotated, Literal, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, ValidationError, model_validator

from arcore.coded_batches import LONGEST
from pipeline.core.errors import UserError, require

MAGIC, FORMAT = b"ARCF", 1
LEAD = struct.Struct("<4sBII")
LARGEST_MANIFEST = 1 << 25  # bytes, which may be inflated from a thousandth
STRANGE = '\\:*?"<>|'  # which names have not on every system


class FileEntry(BaseModel):
    """What is kept of a file in addition to its levels.

    Attributes:
        rows: 1, which older archives say.
        extents: of its event.
        mode: of a picture, as Pillow names it.
        rate: samples per second of a sound.
        classes: the class that it was coded under; None for an unconditional model.
    """

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")

    name: str
    kind: Literal["png", "wav"]
    rows: Literal[1] = 1
    extents: tuple[Annotated[int, Field(ge=1, le=LONGEST)], ...] = Field(min_length=1)
    mode: str = ""
    rate: int = Field(default=0, lt=1 << 31)
    classes: tuple[Annotated[int, Field(ge=0, lt=1 << 63)]] | None = None

    @model_validator(mode="after")
    def _fits_its_kind(self) -> Self:
        if (self.rate > 0) != (self.kind == "wav"):
            raise ValueError(f"not an entry of a file: {self}")
        return self


class ArchiveManifest(BaseModel):
    """What an archive's files were, and the bytes of each of its streams."""

    model_config = ConfigDict(frozen=True, strict=True)

    files: tuple[FileEntry, ...] = Field(min_length=1)
    streams: tuple[NonNegativeInt, ...]


def pack(entries: Sequence[FileEntry], streams: Sequence[bytes]) -> bytes:
    """Return an archive's bytes; too many files for a manifest are refused."""
    described = ArchiveManifest(files=tuple(entries), streams=tuple(map(len, streams)))
    text = described.model_dump_json(exclude_defaults=True).encode()
    expected = f"names and shapes of {LARGEST_MANIFEST:,} bytes at most"
    require(len(text) <= LARGEST_MANIFEST, "files", expected, f"{len(text):,}")
    manifest = zlib.compress(text, 9)
    lead = LEAD.pack(MAGIC, FORMAT, len(manifest), zlib.crc32(manifest))
    return b"".join([lead, manifest, *streams])


def unpack(data: bytes, where: Path) -> tuple[list[FileEntry], list[bytes]]:
    """Undo `pack`."""
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
    check_names([entry.name for entry in manifest.files], where)
    if len(data) - begin != sum(manifest.streams):
        raise damaged
    ends = np.cumsum([begin, *manifest.streams]).tolist()
    streams = [data[first:end] for first, end in zip(ends, ends[1:], strict=False)]
    return list(manifest.files), streams


def _inflated(data: bytes, where: Path) -> bytes:
    inflater = zlib.decompressobj()
    text = inflater.decompress(data, LARGEST_MANIFEST)
    is_small = not inflater.unconsumed_tail
    require(is_small, str(where), f"a manifest of {LARGEST_MANIFEST:,} bytes at most", "more")
    return text


def check_names(names: Sequence[str], where: object) -> None:
    """Refuse names that could lead out of the folder, equal ones, and files that are folders."""
    for name in names:
        expected = f"a relative path without '..' or any of {STRANGE}"
        require(_is_safe(name), str(where), expected, name)
    seen: set[PurePosixPath] = set()
    folders: set[PurePosixPath] = set()
    for name in names:
        path = PurePosixPath(name.casefold())  # as some disks see it
        clash = path in seen | folders or not seen.isdisjoint(path.parents)
        require(not clash, "files", "names that differ", name)
        seen.add(path)
        folders.update(path.parents)


def _is_safe(name: str) -> bool:
    path = PurePosixPath(name)
    return (
        name == path.as_posix() != "."
        and not path.is_absolute()
        and not PureWindowsPath(name).anchor
        and ".." not in path.parts
        and all(ord(letter) >= 32 and letter not in STRANGE for letter in name)
        and not any("\ud800" <= letter <= "\udfff" for letter in name)  # bytes that are no text
    )
