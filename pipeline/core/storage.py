"""Places where data lies: a local folder, or a URI of an object store that all hosts reach.

    data/shards/digits                                      a folder
    s3://bucket/shards/digits?endpoint_override=host:9000   what pyarrow knows: s3, gs, file, ...
    memory://shards/digits                                  any protocol of fsspec

A place is whole when its `manifest.json` is there: `publish` writes that file last.
"""

import contextlib
import fcntl
import glob
import io
import os
import re
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import IO, BinaryIO

import fsspec
import pyarrow as pa
from pyarrow.fs import (
    FileSelector,
    FileSystem,
    FileType,
    FSSpecHandler,
    LocalFileSystem,
    PyFileSystem,
)

from pipeline.core.errors import SiteError, UserError
from pipeline.core.redaction import redacted

MARKER = "manifest.json"
CHUNK = 1 << 22
LOCK_SECONDS = 10.0  # between making a file and locking it, at the most
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)(://|::)")


def is_uri(location: str | Path) -> bool:
    """Tell whether a place is a URI rather than a folder."""
    return isinstance(location, str) and _SCHEME.match(location) is not None


def join(location: str | Path, *parts: str) -> str:
    """Append parts to a place; a URI's query stays at its end.

    Example:
        >>> join("s3://bucket/shards/?scheme=http", "digits", "manifest.json")
        's3://bucket/shards/digits/manifest.json?scheme=http'
        >>> join("data", "shards")
        'data/shards'
    """
    if not is_uri(location):
        return str(Path(location, *parts))
    base, question, query = str(location).partition("?")
    return "/".join([base.rstrip("/"), *parts]) + question + query


def local_path(location: str | Path) -> Path | None:
    """Return the path of a place in this host's file system; None for one in an object store."""
    if not is_uri(location):
        return Path(location)
    scheme = str(location).partition(":")[0].lower()
    return Path(filesystem(location)[1]) if scheme in ("file", "local") else None


def filesystem(location: str | Path) -> tuple[FileSystem, str]:
    """Return the file system of a folder, made absolute, or of a URI, and the path in it.

    Options of pyarrow's own file systems go into the query, as in
    `?endpoint_override=host:port&scheme=http`.
    """
    if not is_uri(location):
        return LocalFileSystem(), os.path.abspath(location)
    try:
        found, path = _opened(str(location))
    except (pa.ArrowException, OSError, ValueError, ImportError) as error:
        raise UserError(
            f"{redacted(location)}: expected a folder or the URI of a known file system: "
            f"{_first_line(error)}"
        ) from None
    return found, path.rstrip("/") or path


def read_bytes(location: str | Path) -> bytes:
    """Read a whole file; a `FileNotFoundError` says that there is none."""
    found, path = filesystem(location)
    with (
        _explained(location, "read"),
        found.open_input_stream(path, compression=None) as stream,
    ):
        return bytes(stream.read())


def write_bytes(location: str | Path, content: bytes) -> None:
    """Write a whole file; a reader sees all of it, all of what was there before, or none."""
    found, path = filesystem(location)
    with _explained(location, "write"):
        _put(found, path, io.BytesIO(content))


def exists(location: str | Path) -> bool:
    """Whether there is a file or folder."""
    where, path = filesystem(location)
    with _explained(location, "look for it"):
        return bool(where.get_file_info(path).type != FileType.NotFound)


def names(location: str | Path) -> list[str]:
    """Return the names of all that is in a folder, in any order; none if there is no folder."""
    found, path = filesystem(location)
    selector = FileSelector(path, allow_not_found=True)
    with _explained(location, "list"):
        return [info.base_name for info in found.get_file_info(selector)]


def remove(location: str | Path) -> None:
    """Remove a file, or a folder and all in it, but no root; do nothing if there is none.

    A kill midway leaves nothing half there under the name of a folder of a disk; what it leaves
    beside that goes the next time. An object store renames nothing.
    """
    found, path = filesystem(location)
    if not path.strip("/"):
        raise ValueError(f"location: expected a path below the root, got {redacted(location)}")
    # A file system may list what another process is just removing.
    with _explained(location, "remove"), contextlib.suppress(FileNotFoundError):
        if isinstance(found, LocalFileSystem) and not os.path.isfile(path):
            path, whole = str(Path(path).with_name(f".{Path(path).name}.gone")), path
            shutil.rmtree(path, ignore_errors=True)
            os.replace(whole, path)
        kind = found.get_file_info(path).type
        if kind == FileType.Directory:
            found.delete_dir(path)
        elif kind != FileType.NotFound:
            found.delete_file(path)


def publish(folder: Path, location: str | Path, marker: str = MARKER) -> None:
    """Copy a local folder to a place, so that readers find it whole or not at all.

    Nothing is done where the place already has the same marker, and beside it the same files, by
    names and sizes. Several processes may publish the same folder at the same time. Files are
    overwritten one by one, the marker last; files of other names stay.
    The folder has the marker, the file that tells one content from another.
    """
    path_of_marker = folder / marker
    if not path_of_marker.is_file():
        raise UserError(f"{path_of_marker}: file not found; run the stage that writes it first")
    found, root = filesystem(location)
    there = None
    with contextlib.suppress(FileNotFoundError):
        there = read_bytes(join(location, marker))
    same = there == path_of_marker.read_bytes()
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path != path_of_marker)
    targets = [f"{root}/{path.relative_to(folder).as_posix()}" for path in files]
    sizes = [info.size for info in found.get_file_info(targets)]
    if same and sizes == [path.stat().st_size for path in files]:
        return
    if there is not None and not same:
        remove(join(location, marker))
    with _explained(location, "write"):
        for path, target in [
            *zip(files, targets, strict=True),
            (path_of_marker, f"{root}/{marker}"),
        ]:
            with path.open("rb") as source:
                _put(found, target, source)


def _put(found: FileSystem, path: str, source: BinaryIO) -> None:
    """Write a file in one step, which an object store does by itself."""
    above, _, name = path.rpartition("/")
    found.create_dir(above, recursive=True)
    if not isinstance(found, LocalFileSystem):
        with found.open_output_stream(path, compression=None) as sink:
            shutil.copyfileobj(source, sink, CHUNK)
        return
    partial = Path(above, f".{name}.{uuid.uuid4().hex}.partial")
    try:
        with open(partial, "xb") as held:
            _try_lock(held)
            shutil.copyfileobj(source, held, CHUNK)
            held.flush()
            _sweep(partial, name)
            os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def _sweep(partial: Path, name: str) -> None:
    """Remove what killed writers of the same file left: no process holds it any more.

    Ages are by the file system, whose clock may differ from this host's.
    """
    began = partial.stat().st_mtime - LOCK_SECONDS
    for other in partial.parent.glob(f".{glob.escape(name)}.*.partial"):
        with contextlib.suppress(OSError):
            if other.stat().st_mtime < began:
                with open(other, "rb+") as left:
                    if _try_lock(left):
                        other.unlink()


def _try_lock(file: IO[bytes]) -> bool:
    """Lock an open file, which a kill unlocks; tell whether that was possible."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


@contextlib.contextmanager
def _explained(location: str | Path, doing: str) -> Iterator[None]:
    """Explain what a place refuses; a file that is missing and a full local disk stay errors."""
    try:
        yield
    except (pa.ArrowException, OSError) as error:
        is_missing = doing == "read" and isinstance(error, FileNotFoundError)
        if is_missing or (doing == "write" and local_path(location) is not None):
            raise
        raise SiteError(f"{redacted(location)}: cannot {doing}: {_first_line(error)}") from None


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def _opened(location: str) -> tuple[FileSystem, str]:
    """Open a file system of pyarrow's own, or of fsspec where pyarrow doesn't know the protocol."""
    try:
        own: tuple[FileSystem, str] = FileSystem.from_uri(location)
        return own
    except (pa.ArrowNotImplementedError, pa.ArrowInvalid) as error:
        unknown = str(error).startswith("Unrecognized filesystem type")
        if isinstance(error, pa.ArrowInvalid) and not unknown:
            raise
    if "::" in location.split("://")[0]:
        raise ValueError("chained URIs are not supported")
    found, path = fsspec.core.url_to_fs(location)
    return PyFileSystem(FSSpecHandler(found)), path
