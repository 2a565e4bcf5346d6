"""What stand-ins share: Debian packages, read without installing; recorded sums of rows."""

import hashlib
import os
import tarfile
from collections.abc import Iterable, Iterator
from importlib import metadata
from pathlib import Path

from pipeline.core.errors import UserError, require
from pipeline.datasets.base import SplitData

APT_ARCHIVES = "/var/cache/apt/archives"
PACKAGES = Path(__file__).with_name("packages.yaml")


def read_files(path: Path, suffixes: tuple[str, ...]) -> Iterator[tuple[str, bytes]]:
    """Yield path, without "./", and content of a package's plain files whose names end so.

    A package is an archive of `ar`, of 60 bytes before each of its files; one is `data.tar.xz`.
    """
    with path.open("rb") as package:
        package.seek(8)
        while (header := package.read(60))[:11] != b"data.tar.xz":
            require(len(header) == 60, str(path), "a Debian package with data.tar.xz in it", header)
            size = int(header[48:58])
            package.seek(size + size % 2, os.SEEK_CUR)
        with tarfile.open(fileobj=package, mode="r|xz") as archive:
            for member in archive:
                if member.isreg() and member.name.endswith(suffixes):
                    content = archive.extractfile(member)
                    assert content is not None, "a plain file"
                    yield member.name.removeprefix("./"), content.read()


def installed_version(package: str) -> str | None:
    """The version of an installed package, None without it."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def check_content(name: str, parts: Iterable[SplitData], expected: str, by: str) -> None:
    """Compare the SHA-256 of decoded rows, each part's labels after its rows, with a recorded one.

    Another library of images or another simulator may round otherwise; then numbers are of other
    data. The error says what decoded the rows (`by`, with versions).

    Example:
        >>> import numpy as np
        >>> rows = SplitData(np.zeros((1, 2), np.uint8))
        >>> check_content("zeros", [rows], "96a2", "numpy 2")
        Traceback (most recent call last):
        ...
        pipeline.core.errors.UserError: zeros: expected decoded rows of sha256 96a2, got \
96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7 by numpy 2
    """
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part.x.tobytes())
        if part.labels is not None:
            digest.update(part.labels.astype(part.labels.dtype.newbyteorder("<")).tobytes())
    if digest.hexdigest() != expected:
        raise UserError(
            f"{name}: expected decoded rows of sha256 {expected}, got {digest.hexdigest()} by {by}"
        )
