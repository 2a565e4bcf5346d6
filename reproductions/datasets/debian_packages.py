"""Reading Debian packages file by file: nothing is installed, extracted or run."""

from __future__ import annotations

import io
import lzma
import tarfile
from collections.abc import Iterator
from pathlib import Path

import yaml

from pipeline.core.errors import UserError
from pipeline.datasets.base import RawFile

_MAGIC = b"!<arch>\n"
_HEADER = 60
LARGEST_FILE = 1 << 28
APT_ARCHIVES = "/var/cache/apt/archives"
_POOL = "http://deb.debian.org/debian/pool/main"
_PACKAGES = Path(__file__).with_name("packages.yaml")


def raw_packages(dataset: str) -> tuple[RawFile, ...]:
    """Return the packages of Debian's pool that `packages.yaml` has for a dataset, as raw files.

    Example:
        >>> raw_packages("photo_tiles")[2].url
        'http://deb.debian.org/debian/pool/main/m/mate-backgrounds/mate-backgrounds_1.26.0-1_all.deb'
    """
    listed = yaml.safe_load(_PACKAGES.read_text(encoding="utf-8"))[dataset]
    return tuple(
        RawFile(one["file"], one["sha256"], one["size"], _url(one["source"], one["file"]))
        for one in listed
    )


def _url(source: str, file: str) -> str:
    folder = source[:4] if source.startswith("lib") else source[:1]
    return f"{_POOL}/{folder}/{source}/{file}"


def read_files(path: Path, suffixes: tuple[str, ...]) -> Iterator[tuple[str, bytes]]:
    """Yield the plain files of a package whose names end in one of some suffixes, in its order.

    A package is an archive of `ar` with a `data.tar.xz` in it.

    Arguments:
        path: the .deb file.
        suffixes: such as (".jpg",).

    Yields:
        Path in the package, without "./", and content.

    Raises:
        UserError: if the file is missing, damaged or no such package, or a file in it is absurdly
            large.
    """
    try:
        with path.open("rb") as package:
            package.seek(_start_of_data(package, path))
            with tarfile.open(fileobj=package, mode="r|xz") as archive:
                for member in archive:
                    name = member.name.removeprefix("./")
                    if not member.isreg() or not name.endswith(suffixes):
                        continue
                    if member.size > LARGEST_FILE:
                        raise UserError(f"{path}: {name}: expected a small file, got {member.size}")
                    content = archive.extractfile(member)
                    assert content is not None, "a plain file"
                    yield name, content.read()
    except FileNotFoundError:
        raise UserError(f"{path}: file not found; run python -m stages.fetch first") from None
    except (tarfile.TarError, lzma.LZMAError, EOFError, OSError) as error:
        raise UserError(f"{path}: truncated or damaged package: {error}") from None


def _start_of_data(package: io.BufferedIOBase | io.BufferedReader, path: Path) -> int:
    """Find where `data.tar.xz` begins."""
    place = len(_MAGIC)
    if package.read(place) != _MAGIC:
        raise UserError(f"{path}: expected a Debian package")
    while len(header := package.read(_HEADER)) == _HEADER:
        size = header[48:58].strip()
        if not size.isdigit():
            break
        if header[:16].strip().rstrip(b"/") == b"data.tar.xz":
            return place + _HEADER
        place += _HEADER + int(size) + int(size) % 2
        package.seek(place)
    raise UserError(f"{path}: expected a Debian package with data.tar.xz in it")
