"""Raw files that are at hand: verified by SHA-256, unpacked, taken out of archives."""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import BinaryIO, NoReturn, cast
from urllib.parse import urlsplit

from tqdm import tqdm

from pipeline.core.errors import UserError
from pipeline.datasets.base import RawFile
from pipeline.datasets.formats import archives

CHUNK = 1 << 20
_GZIP_MAGIC = b"\x1f\x8b"


class WrongChecksum(Exception):
    """The content isn't that of the raw file; the message says how."""


def archive_of(file: RawFile) -> str | None:
    """The name of the archive that has the file as a member, or None."""
    if file.member is None or file.url is None:
        return None
    return PurePosixPath(urlsplit(file.url).path).name


def check(file: RawFile, path: Path) -> None:
    """Read a file whole and compare its checksum.

    Raises:
        WrongChecksum: if it is not that of the raw file.
    """
    with path.open("rb") as stream, progress(file, "verifying") as bar:
        digest = hashlib.sha256()
        while chunk := stream.read(CHUNK):
            digest.update(chunk)
            bar.update(len(chunk))
    _compare(file, digest.hexdigest())


def _compare(file: RawFile, got: str) -> None:
    if got not in (file.sha256, *file.equals):
        raise WrongChecksum(
            f"wrong checksum for {file.name}: expected sha256 {file.sha256}, got {got}"
        )


def progress(file: RawFile, doing: str, total: int | None = None) -> tqdm[NoReturn]:
    """Return a bar of bytes, shown at once for a download and after half a second for the rest."""
    return tqdm(
        disable=None,  # where nobody looks
        desc=f"{doing} {file.name}",
        total=file.size if total is None else total,
        unit="B",
        unit_scale=True,
        leave=False,
        mininterval=0.5,
        delay=0 if doing == "downloading" else 0.5,
    )


def unpack(source: Path, target: Path, file: RawFile, source_name: str | None = None) -> None:
    """Copy to `target`, which appears only once verified; decompress gzip.

    Where `source_name` is that of the file's archive, the file is taken out of it.
    """
    temporary = target.with_name(f".{target.name}.unpacked.part")
    try:
        with source.open("rb") as probe:
            compressed = probe.read(2) == _GZIP_MAGIC and not file.name.endswith((".gz", ".tgz"))
        opened: BinaryIO
        if file.member is not None and source_name == archive_of(file):
            opened = _open_member(source, file.member, file.size)
        else:
            opened = cast(BinaryIO, gzip.open(source)) if compressed else source.open("rb")
        with (
            opened as stream,
            temporary.open("wb") as out,
            progress(file, "unpacking" if compressed else "copying") as bar,
        ):
            digest, left = hashlib.sha256(), largest(file)
            for chunk in _gzip_safe_chunks(stream):
                left -= len(chunk)
                if left < 0:
                    raise WrongChecksum(
                        f"too large for {file.name}: expected {file.size} bytes, got more"
                    )
                digest.update(chunk)
                out.write(chunk)
                bar.update(len(chunk))
        _compare(file, digest.hexdigest())
        os.replace(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)


def largest(file: RawFile) -> int:
    """The most bytes that the file may have: one that is written otherwise may be longer."""
    return 2 * file.size if file.equals else file.size


def _open_member(archive: Path, member: str, size: int) -> BinaryIO:
    try:
        return io.BytesIO(archives.read_first(archive, member, size))
    except UserError as error:
        raise WrongChecksum(str(error)) from None


def _gzip_safe_chunks(stream: BinaryIO) -> Iterator[bytes]:
    while True:
        try:
            chunk = stream.read(CHUNK)
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise WrongChecksum(f"truncated or damaged gzip data ({error})") from None
        if not chunk:
            return
        yield chunk
