"""Tar archives, read file by file without extracting them or following links."""

from __future__ import annotations

import lzma
import tarfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Literal

from pipeline.core.errors import UserError, one_line


class WholeTarInfo(tarfile.TarInfo):
    """A member of a tar whose end is its end mark: tarfile itself ends at a damaged header."""

    @classmethod
    def fromtarfile(cls, archive: tarfile.TarFile) -> WholeTarInfo:
        """Read the next header; a `ReadError` if it is damaged, or the end mark is missing."""
        try:
            return super().fromtarfile(archive)
        except tarfile.EOFHeaderError:  # type: ignore[attr-defined]
            raise
        except tarfile.HeaderError as error:
            raise tarfile.ReadError(f"at byte {archive.offset}: {error}") from None


Files = Iterator[tuple[tarfile.TarInfo, IO[bytes]]]


@contextmanager
def open_tar(path: Path, mode: Literal["r:*", "r|*"] = "r:*") -> Iterator[tarfile.TarFile]:
    """Open a tar archive, compressed or not; `r|*` reads it once, forwards."""
    try:
        with tarfile.open(path, mode, tarinfo=WholeTarInfo) as archive:
            yield archive
    except FileNotFoundError:
        raise UserError(f"{path}: file not found; run python -m stages.fetch first") from None
    except (tarfile.TarError, OSError, EOFError, zlib.error, lzma.LZMAError) as error:
        reason = one_line(error).rstrip(":")
        raise UserError(f"{path}: truncated or damaged archive: {reason}") from None


def list_members(archive: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    """Yield the members of an archive, which itself would keep all of them in memory."""
    while (member := archive.next()) is not None:
        archive.members = []  # type: ignore[attr-defined]
        yield member


@contextmanager
def open_archive(path: Path) -> Iterator[Files]:
    """Open a tar archive, compressed or not, as an iterator over its plain files in their order.

    A file can be read until the next one is asked for. Memory does not grow with their number.
    """
    with open_tar(path) as archive:
        yield (
            (member, content)
            for member in list_members(archive)
            if member.isfile() and (content := archive.extractfile(member)) is not None
        )


def read_first(path: Path, name: str, size: int) -> bytes:
    """Read the first bytes of one file of an archive."""
    with open_archive(path) as files:
        for member, content in files:
            if member.name == name:
                return content.read(size)
    raise UserError(f"{path}: expected the file {name} in it, found none")
