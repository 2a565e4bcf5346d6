"""Reading tar archives file by file: nothing is extracted, no path or link is followed."""

from __future__ import annotations

import lzma
import tarfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO, Literal

from pipeline.core.errors import UserError, one_line


class WholeTarInfo(tarfile.TarInfo):
    """A member of a tar whose end is its end mark: tarfile itself ends at a damaged header."""

    @classmethod
    def fromtarfile(cls, archive: tarfile.TarFile) -> WholeTarInfo:
        """Read the next member's header.

        Raises:
            tarfile.ReadError: if it is damaged, cut, or missing without an end mark before it.
        """
        try:
            return super().fromtarfile(archive)
        except tarfile.EOFHeaderError:  # type: ignore[attr-defined]
            raise
        except tarfile.HeaderError as error:
            raise tarfile.ReadError(f"at byte {archive.offset}: {error}") from None


Files = Iterator[tuple[tarfile.TarInfo, IO[bytes]]]


@contextmanager
def open_tar(path: Path, mode: Literal["r:*", "r|*"] = "r:*") -> Iterator[tarfile.TarFile]:
    """Open a tar archive, compressed or not.

    Arguments:
        path: of the archive.
        mode: of tarfile: `r|*` for one that is read once, forwards.

    Raises:
        UserError: naming the archive if it is missing, truncated or damaged.
    """
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
    """Open a tar archive, compressed or not, as an iterator over its files in their order.

    A file can be read until the next one is asked for; what is not read is passed over. Memory does
    not grow with the number of files.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "a.tar"
        >>> with tarfile.open(path, "w") as archive:
        ...     archive.add(__file__, "folder/code.py")
        >>> with open_archive(path) as files:
        ...     [(member.name, content.read(3)) for member, content in files]
        [('folder/code.py', b'\"\"\"')]

    Raises:
        UserError: naming the archive if it is missing, truncated or damaged, or has a path that
            leaves its folder, a link or a special file.
    """
    with open_tar(path) as archive:
        yield _files(path, archive)


def _files(path: Path, archive: tarfile.TarFile) -> Files:
    for member in list_members(archive):
        where = PurePosixPath(member.name)
        if where.is_absolute() or ".." in where.parts:
            raise UserError(
                f"{path}: expected relative paths without '..' in it, got {member.name!r}"
            )
        if member.isdir():
            continue
        content = archive.extractfile(member) if member.isreg() and not member.issparse() else None
        if content is None:
            raise UserError(
                f"{path}: expected plain files and folders in it, got {member.name!r}, "
                "a link or special file"
            )
        yield member, content


def read_first(path: Path, name: str, size: int) -> bytes:
    """Read the first bytes of one file of an archive.

    Arguments:
        path: the archive.
        name: path of the file in it.
        size: how many bytes.

    Raises:
        UserError: if the archive cannot be read, or the file is missing or shorter.
    """
    with open_archive(path) as files:
        for member, content in files:
            if member.name == name:
                if member.size < size:
                    raise UserError(
                        f"{path}: expected {name} of at least {size} bytes, got {member.size}"
                    )
                return content.read(size)
    raise UserError(f"{path}: expected the file {name} in it, found none")
