"""Places where data lies: a local folder, or a URI of an object store that all hosts reach.

    data/shards/digits                                      a folder
    s3://bucket/shards/digits?endpoint_override=host:9000   what pyarrow knows: s3, gs, file, ...
    memory://shards/digits                                  any protocol of fsspec

A place is whole when its `manifest.json` is there: `publish` writes that file last.
"""

from __future__ import annotations

import contextlib
import errno
import glob
import os
import re
import shutil
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

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

__all__ = [
    "discard",
    "exists",
    "filesystem",
    "is_uri",
    "join",
    "local_path",
    "names",
    "publish",
    "read_bytes",
    "remove",
    "write_bytes",
]

MARKER = "manifest.json"
CHUNK = 1 << 22
ABANDONED_SECONDS = 24 * 3600
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)(://|::)")


def is_uri(location: str | Path) -> bool:
    """Tell whether a place is a URI rather than a folder.

    Example:
        >>> is_uri("s3://bucket/key"), is_uri("data/shards")
        (True, False)
    """
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
    """Return the path of a place in this host's own file system, None for one in an object store.

    Example:
        >>> local_path("file:///shared/train"), local_path("s3://bucket/train")
        (PosixPath('/shared/train'), None)
    """
    if not is_uri(location):
        return Path(location)
    scheme = str(location).partition(":")[0].lower()
    return Path(filesystem(location)[1]) if scheme in ("file", "local") else None


def filesystem(location: str | Path) -> tuple[FileSystem, str]:
    """Open the file system of a place.

    Arguments:
        location: a folder (relative ones are made absolute), or a URI. Options of pyarrow's own
            file systems go into the query, as in `?endpoint_override=host:port&scheme=http`.

    Returns:
        The file system and the path in it.

    Raises:
        UserError: for an unknown protocol, a missing package or a malformed URI.

    Example:
        >>> filesystem("/tmp/digits")[1]
        '/tmp/digits'
    """
    if not is_uri(location):
        return LocalFileSystem(), os.path.abspath(location)
    try:
        found, path = _arrow_filesystem(str(location)) or _fsspec_filesystem(str(location))
    except (pa.ArrowException, OSError, ValueError, ImportError) as error:
        raise UserError(
            f"{redacted(location)}: expected a folder or the URI of a known file system: "
            f"{_first_line(error)}"
        ) from None
    return found, path.rstrip("/") or path


def read_bytes(location: str | Path) -> bytes:
    """Read a whole file.

    Raises:
        FileNotFoundError: if there is none.
        UserError: if it can't be read.
    """
    found, path = filesystem(location)
    try:
        with found.open_input_stream(path, compression=None) as stream:
            return bytes(stream.read())
    except FileNotFoundError:
        raise
    except (pa.ArrowException, OSError) as error:
        raise SiteError(f"{redacted(location)}: cannot read: {_first_line(error)}") from None


def write_bytes(location: str | Path, content: bytes) -> None:
    """Write a whole file, so that a reader sees all of it, all of what was there before, or none.

    Raises:
        UserError: if an object store refuses.
        OSError: if a local write fails, on a full disk for example.
    """
    found, path = filesystem(location)
    if isinstance(found, LocalFileSystem):
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        with _hidden_sibling(Path(path)) as partial:
            partial.write_bytes(content)
            os.replace(partial, path)
        return
    try:
        found.create_dir(path.rpartition("/")[0], recursive=True)
        with found.open_output_stream(path) as sink:
            sink.write(content)
    except (pa.ArrowException, OSError) as error:
        raise SiteError(f"{redacted(location)}: cannot write: {_first_line(error)}") from None


def exists(location: str | Path) -> bool:
    """Whether there is a file or folder.

    Example:
        >>> exists("/"), exists("/no such folder")
        (True, False)
    """
    where, path = filesystem(location)
    return bool(where.get_file_info(path).type != FileType.NotFound)


def names(location: str | Path) -> list[str]:
    """Return the names of all that is in a folder, in any order; none if there is no folder.

    Example:
        >>> names("/no such folder")
        []
    """
    found, path = filesystem(location)
    selector = FileSelector(path, allow_not_found=True)
    return [info.base_name for info in found.get_file_info(selector)]


def remove(location: str | Path) -> None:
    """Remove a file, or a folder and all in it; do nothing if there is none.

    Raises:
        ValueError: for the root of a file system.
        UserError: if it can't be removed.
    """
    found, path = filesystem(location)
    if not path.strip("/"):
        raise ValueError(f"location: expected a path below the root, got {redacted(location)}")
    try:
        # A file system may list what another process is just removing.
        with contextlib.suppress(FileNotFoundError):
            kind = found.get_file_info(path).type
            if kind == FileType.Directory:
                found.delete_dir(path)
            elif kind != FileType.NotFound:
                found.delete_file(path)
    except (pa.ArrowException, OSError) as error:
        raise SiteError(f"{redacted(location)}: cannot remove: {_first_line(error)}") from None


def discard(location: str | Path) -> None:
    """Remove a folder of a disk so that a kill midway leaves nothing half there under its name.

    What such a kill leaves beside it goes the next time. In an object store, which renames
    nothing, it is removed as by `remove`.

    Raises:
        UserError: if it can't be removed.
    """
    path = local_path(location)
    if path is None:
        remove(location)
        return
    gone = path.with_name(f".{path.name}.gone")
    remove(gone)
    try:
        with contextlib.suppress(FileNotFoundError):
            path.rename(gone)
    except OSError as error:
        raise SiteError(f"{redacted(location)}: cannot remove: {_first_line(error)}") from None
    remove(gone)


def publish(folder: Path, location: str | Path, marker: str = MARKER) -> None:
    """Copy a local folder to a place, so that readers find it whole or not at all.

    Nothing is done where the place already has the same marker, and beside it the same files, by
    names and sizes. Several processes may publish the same folder at the same time.

    Arguments:
        folder: has the marker.
        location: a folder or a URI. A folder of other content is replaced; in an object store its
            files are overwritten, and those of names that aren't written now stay.
        marker: the file that tells one content from another; an object store gets it last.

    Raises:
        UserError: if the folder has no marker, or an object store refuses.
        OSError: if a local copy fails, on a full disk for example.

    Example:
        >>> import tempfile
        >>> source, place = Path(tempfile.mkdtemp()), Path(tempfile.mkdtemp()) / "there"
        >>> _ = (source / "manifest.json").write_text("{}")
        >>> publish(source, place)
        >>> read_bytes(place / "manifest.json")
        b'{}'
    """
    path_of_marker = folder / marker
    if not path_of_marker.is_file():
        raise UserError(f"{path_of_marker}: file not found; run the stage that writes it first")
    content = path_of_marker.read_bytes()
    if _is_published(folder, location, marker, content):
        return
    found, path = filesystem(location)
    if isinstance(found, LocalFileSystem):
        _publish_folder(folder, Path(path), marker, content)
        return
    try:
        if _marker_at(location, marker) not in (None, content):
            with contextlib.suppress(FileNotFoundError):
                found.delete_file(f"{path}/{marker}")
        _publish_objects(folder, found, path, marker, content)
    except (pa.ArrowException, OSError) as error:
        raise SiteError(f"{redacted(location)}: cannot write: {_first_line(error)}") from None


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def _arrow_filesystem(location: str) -> tuple[FileSystem, str] | None:
    """Open a file system of pyarrow's own; None if it doesn't know the protocol."""
    try:
        found: tuple[FileSystem, str] = FileSystem.from_uri(location)
        return found
    except pa.ArrowNotImplementedError:
        return None
    except pa.ArrowInvalid as error:
        if str(error).startswith("Unrecognized filesystem type"):
            return None
        raise


def _fsspec_filesystem(location: str) -> tuple[FileSystem, str]:
    if "::" in location.split("://")[0]:
        raise ValueError("chained URIs are not supported")
    found, path = fsspec.core.url_to_fs(location)
    return PyFileSystem(FSSpecHandler(found)), path


def _marker_at(location: str | Path, marker: str) -> bytes | None:
    try:
        return read_bytes(join(location, marker))
    except FileNotFoundError:
        return None


def _is_published(folder: Path, location: str | Path, marker: str, content: bytes) -> bool:
    """Tell whether a place has a folder's marker, and its files by names and sizes."""
    if _marker_at(location, marker) != content:
        return False
    found, root = filesystem(location)
    files = _files(folder)
    there = found.get_file_info([f"{root}/{path.relative_to(folder).as_posix()}" for path in files])
    return all(info.size == path.stat().st_size for info, path in zip(there, files, strict=True))


def _publish_folder(folder: Path, target: Path, marker: str, content: bytes) -> None:
    """Copy beside the target, then rename; whoever comes second finds the first one's copy."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with _hidden_sibling(target) as partial, _hidden_sibling(target) as old:
        shutil.copytree(folder, partial, copy_function=shutil.copyfile)
        while not _renamed(partial, target) and not _is_published(folder, target, marker, content):
            with contextlib.suppress(FileNotFoundError):
                os.rename(target, old)  # of other content
            try:
                if _renamed(partial, target):
                    return
            except OSError:
                with contextlib.suppress(OSError):  # unless another process put one there
                    os.rename(old, target)
                raise
            shutil.rmtree(old, ignore_errors=True)


def _renamed(partial: Path, target: Path) -> bool:
    """Rename a folder, unless another one is in the way."""
    try:
        os.rename(partial, target)
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise
        return False
    return True


@contextlib.contextmanager
def _hidden_sibling(target: Path) -> Iterator[Path]:
    """Name a sibling that no other process uses; remove it, and those of killed ones, at the end.

    Whoever finds the target there already leaves it.
    """
    name = target.with_name(f".{target.name}.{uuid.uuid4().hex}.partial")
    try:
        yield name
    finally:
        for leftover in target.parent.glob(f".{glob.escape(target.name)}.*.partial"):
            with contextlib.suppress(FileNotFoundError):
                if leftover == name or time.time() - leftover.stat().st_mtime > ABANDONED_SECONDS:
                    if leftover.is_dir():
                        shutil.rmtree(leftover, ignore_errors=True)
                    else:
                        leftover.unlink()


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def _publish_objects(
    folder: Path, found: FileSystem, target: str, marker: str, content: bytes
) -> None:
    """Write the files, then the marker.

    A marker of the same content stays, since others may be reading it; each file is replaced in
    one step by the same.
    """
    for path in _files(folder):
        name = path.relative_to(folder).as_posix()
        if name == marker:
            continue
        parent, _, _ = f"{target}/{name}".rpartition("/")
        found.create_dir(parent, recursive=True)
        with path.open("rb") as source, found.open_output_stream(f"{target}/{name}") as sink:
            shutil.copyfileobj(source, sink, CHUNK)
    found.create_dir(target, recursive=True)
    with found.open_output_stream(f"{target}/{marker}") as sink:
        sink.write(content)
