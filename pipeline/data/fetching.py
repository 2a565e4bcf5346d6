"""Bringing a dataset's raw files to `data/raw/<dataset>/`, verified by SHA-256.

Sources, in order: what is there already (also `<file>.gz`, put there by hand), the mirror of
`ARCORE_MIRROR`, raw folders of datasets with the same files, folders of system packages, the
public address. Where that is an archive of which the file is a part, the archive will do at each of
them. A file gets its name only once it is whole and verified.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import logging
import os
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import BinaryIO, NoReturn, cast
from urllib.parse import quote, unquote, urlsplit

import requests
import urllib3
from tqdm import tqdm

from pipeline.core import paths
from pipeline.core.errors import UserError, one_line
from pipeline.core.redaction import redacted
from pipeline.datasets.catalog import Dataset, RawFile, get_dataset, list_datasets
from pipeline.datasets.formats import archives

MIRROR_VARIABLE = "ARCORE_MIRROR"
TIMEOUT = (4.0, 20.0)  # seconds to connect, and between two packets
ATTEMPTS = 3
_CHUNK = 1 << 20
_GZIP_MAGIC = b"\x1f\x8b"

logger = logging.getLogger(__name__)


class _WrongChecksum(Exception):
    """The content isn't that of the raw file; the message says how."""


class _Unavailable(Exception):
    """An address cannot give the file; the message says why."""

    def __init__(self, reason: str, host_unreachable: bool = False) -> None:
        super().__init__(reason)
        self.host_unreachable = host_unreachable


class _Interrupted(requests.RequestException):
    """The server closed the connection before the announced end."""


def shortened(path: Path) -> Path:
    """A path relative to the working directory if it is below it, for messages."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def raw_folder(dataset: str) -> Path:
    """The folder of a dataset's raw files, `data/raw/<dataset>`."""
    return shortened(paths.raw(dataset))


def fetch(dataset: Dataset) -> Path:
    """Bring all raw files of a dataset and write `source.json` beside them.

    Returns:
        The folder `data/raw/<dataset>`.

    Raises:
        UserError: when no source has a file, a checksum is wrong or the mirror does not exist.
    """
    folder = raw_folder(dataset.name)
    folder.mkdir(parents=True, exist_ok=True)
    mirror = _mirror()
    for file in dataset.files:
        try:
            if not _already_there(file, folder):
                _fetch_file(dataset, file, folder, mirror)
        except PermissionError as error:
            raise UserError(f"{error.filename}: permission denied") from None
    for leftover in folder.glob(".*.part"):
        leftover.unlink()
    source = {
        "dataset": dataset.name,
        "source": "files" if dataset.files else "embedded",
        "files": {f.name: {"sha256": f.sha256, "size": f.size} for f in dataset.files},
    }
    marker = folder / ".source.json.part"
    marker.write_text(json.dumps(source, indent=2) + "\n", encoding="utf-8")
    os.replace(marker, folder / "source.json")
    if not dataset.files:
        logger.info("%s: embedded, nothing to download", dataset.name)
    return folder


def verify_raw(dataset: Dataset) -> Path:
    """Check size and SHA-256 of a dataset's raw files without fetching any.

    Returns:
        The folder `data/raw/<dataset>`.

    Raises:
        UserError: naming the file that is missing, truncated or altered.
    """
    folder = raw_folder(dataset.name)
    hint = f"run python -m stages.fetch {dataset.name}"
    for file in dataset.files:
        path = folder / file.name
        if not path.is_file():
            raise UserError(f"{path}: file not found; {hint}")
        size = path.stat().st_size
        if size < file.size:
            raise UserError(f"{path}: truncated: expected {file.size} bytes, got {size}; {hint}")
        try:
            _check(file, path)
        except _WrongChecksum as error:
            raise UserError(f"{path}: {error}; {hint}") from None
    return folder


def _mirror() -> Path | str | None:
    """The mirror as a folder or as an address without a final slash."""
    mirror = os.environ.get(MIRROR_VARIABLE, "").strip()
    if not mirror:
        return None
    parts = urlsplit(mirror)
    if parts.scheme in ("http", "https"):
        return mirror.rstrip("/")
    path = Path(unquote(parts.path) if parts.scheme == "file" else mirror).expanduser()
    if not path.is_dir():
        raise UserError(
            f"{MIRROR_VARIABLE}: expected an existing folder or an address beginning with "
            f"http://, https:// or file://, got {redacted(mirror)!r}"
        )
    return path


def _find(folder: Path, name: str) -> Path | None:
    for candidate in (folder / name, folder / f"{name}.gz"):
        if candidate.is_file():
            return candidate
    return None


def _candidates(dataset: Dataset, file: RawFile, mirror: Path | str | None) -> Iterator[Path | str]:
    """Existing paths and addresses where the file may come from, in the order to try them."""
    folders = []
    if isinstance(mirror, Path):
        folders.append(mirror / dataset.family)
    elif mirror is not None:
        address = f"{mirror}/{dataset.family}/{quote(file.name)}"
        yield from (address, f"{address}.gz")
        if archive := _archive(file):
            yield f"{mirror}/{dataset.family}/{quote(archive)}"
    for name in list_datasets():
        if name != dataset.name and get_dataset({"name": name}).family == dataset.family:
            folders.append(raw_folder(name))
    folders += [Path(folder) for folder in dataset.system_folders]
    for folder in folders:
        found = _find(folder, file.name)
        if found is not None:
            yield found
        if (archive := _archive(file)) and (folder / archive).is_file():
            yield folder / archive
    if file.url is not None:
        yield file.url


def _archive(file: RawFile) -> str | None:
    """The name of the archive that has the file as a member, or None."""
    if file.member is None or file.url is None:
        return None
    return PurePosixPath(urlsplit(file.url).path).name


def _refused(dataset: Dataset, folder: Path, mirror: Path | str | None) -> str:
    """Name what lies where a raw file is looked for and isn't read, and say why."""
    places = [folder, *([mirror / dataset.family] if isinstance(mirror, Path) else [])]
    for pattern, reason in dataset.refused:
        for path in (found for place in places for found in sorted(place.glob(pattern))):
            return f"; {path} is not read: {reason}"
    return ""


def _already_there(file: RawFile, folder: Path) -> bool:
    """Whether the file is in the folder, verified; a `.gz` put there by hand is unpacked."""
    target = folder / file.name
    placed = _find(folder, file.name)
    if placed is None:
        return False
    try:
        if placed == target:
            _check(file, placed)
        else:
            _unpack(placed, target, file)
            placed.unlink()
    except _WrongChecksum as error:
        # Outside the folder, because that is an output that DVC tracks.
        aside = folder.with_name(f"{folder.name}.rejected") / placed.name
        aside.parent.mkdir(exist_ok=True)
        os.replace(placed, aside)
        raise UserError(
            f"{placed}: {error}; moved to {aside}, the next run fetches the file anew"
        ) from None
    logger.info("%s: present and verified", target)
    return True


def _fetch_file(dataset: Dataset, file: RawFile, folder: Path, mirror: Path | str | None) -> None:
    """Make `folder/file.name` exist, verified, from the first source that has it."""
    target = folder / file.name
    tried: list[str] = []
    unreachable: set[str] = set()
    for source in _candidates(dataset, file, mirror):
        if isinstance(source, Path):
            try:
                _unpack(source, target, file, source.name)
            except _WrongChecksum as error:
                if source.parent.parent == target.parent.parent:
                    logger.info("%s: %s; passed over", source, error)
                    continue
                raise UserError(f"{source}: {error}; the file was not used") from None
            logger.info("%s: copied from %s, verified", target, source)
            return
        host = urlsplit(source).netloc
        if host in unreachable:
            continue
        try:
            _download_and_unpack(source, target, file)
        except _Unavailable as error:
            tried.append(f"{redacted(source)} ({error})")
            if error.host_unreachable:
                unreachable.add(host)
            continue
        logger.info("%s: downloaded from %s, verified", target, redacted(source))
        return
    where = "; ".join(tried) or "no public address is known for it"
    raise UserError(
        f"cannot fetch {file.name} of {dataset.name}: tried {where}; put the file at {target} "
        f"(or {target}.gz), or set {MIRROR_VARIABLE} to a folder or address that has "
        f"{dataset.family}/{file.name}{_refused(dataset, folder, mirror)}"
    )


def _check(file: RawFile, path: Path) -> None:
    with path.open("rb") as stream, _progress(file, "verifying") as bar:
        digest = hashlib.sha256()
        while chunk := stream.read(_CHUNK):
            digest.update(chunk)
            bar.update(len(chunk))
    _compare(file, digest.hexdigest())


def _compare(file: RawFile, got: str) -> None:
    if got not in (file.sha256, *file.equals):
        raise _WrongChecksum(
            f"wrong checksum for {file.name}: expected sha256 {file.sha256}, got {got}"
        )


def _progress(file: RawFile, doing: str, total: int | None = None) -> tqdm[NoReturn]:
    return tqdm(
        desc=f"{doing} {file.name}",
        total=file.size if total is None else total,
        unit="B",
        unit_scale=True,
        leave=False,
        mininterval=0.5,
        delay=0 if doing == "downloading" else 0.5,
    )


def _unpack(source: Path, target: Path, file: RawFile, source_name: str | None = None) -> None:
    """Copy to `target`, which appears only once verified; decompress gzip.

    Where `source_name` is that of the file's archive, the file is taken out of it.
    """
    temporary = target.with_name(f".{target.name}.unpacked.part")
    try:
        with source.open("rb") as probe:
            compressed = probe.read(2) == _GZIP_MAGIC and not file.name.endswith((".gz", ".tgz"))
        opened: BinaryIO
        if file.member is not None and source_name == _archive(file):
            opened = _open_member(source, file.member, file.size)
        else:
            opened = cast(BinaryIO, gzip.open(source)) if compressed else source.open("rb")
        with (
            opened as stream,
            temporary.open("wb") as out,
            _progress(file, "unpacking" if compressed else "copying") as bar,
        ):
            digest, left = hashlib.sha256(), _largest(file)
            for chunk in _gzip_safe_chunks(stream):
                left -= len(chunk)
                if left < 0:
                    raise _WrongChecksum(
                        f"too large for {file.name}: expected {file.size} bytes, got more"
                    )
                digest.update(chunk)
                out.write(chunk)
                bar.update(len(chunk))
        _compare(file, digest.hexdigest())
        os.replace(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)


def _largest(file: RawFile) -> int:
    """The most bytes that the file may have: one that is written otherwise may be longer."""
    return 2 * file.size if file.equals else file.size


def _open_member(archive: Path, member: str, size: int) -> BinaryIO:
    try:
        return io.BytesIO(archives.read_first(archive, member, size))
    except UserError as error:
        raise _WrongChecksum(str(error)) from None


def _gzip_safe_chunks(stream: BinaryIO) -> Iterator[bytes]:
    while True:
        try:
            chunk = stream.read(_CHUNK)
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise _WrongChecksum(f"truncated or damaged gzip data ({error})") from None
        if not chunk:
            return
        yield chunk


def _download_and_unpack(url: str, target: Path, file: RawFile) -> None:
    """Download to a partial file named for the address (so that it can be resumed), and unpack."""
    tag = hashlib.sha256(url.encode()).hexdigest()[:8]
    part = target.with_name(f".{target.name}.{tag}.part")
    resumed = part.exists()
    _download(url, part, file)
    try:
        _unpack(part, target, file, PurePosixPath(urlsplit(url).path).name)
    except _WrongChecksum as error:
        part.unlink()
        if resumed:  # the partial file may have been of another version of the file
            _download_and_unpack(url, target, file)
            return
        raise UserError(f"{redacted(url)}: {error}; the download was discarded") from None
    part.unlink()


def _download(url: str, part: Path, file: RawFile) -> None:
    """Complete the partial file; interruptions are resumed while they bring something new."""
    for attempt in range(1, ATTEMPTS + 1):
        before = part.stat().st_size if part.exists() else 0
        try:
            _request(url, part, file, before)
            return
        except (requests.RequestException, urllib3.exceptions.HTTPError) as error:
            reached = part.stat().st_size if part.exists() else 0
            if attempt == ATTEMPTS or reached <= before:
                lost = isinstance(error, requests.ConnectionError) and reached == 0
                raise _Unavailable(_reason(error), host_unreachable=lost) from None
            logger.info("%s: interrupted after %d bytes, resuming", redacted(url), reached)


def _reason(error: Exception) -> str:
    if isinstance(error, (requests.Timeout, urllib3.exceptions.TimeoutError)):
        return "no answer in time"
    if isinstance(error, _Interrupted):
        return str(error)
    if isinstance(error, requests.ConnectionError):
        return "no connection"
    return one_line(error)[:120]


def _request(url: str, part: Path, file: RawFile, offset: int) -> None:
    headers = {"Accept-Encoding": "identity"}
    if offset:
        headers["Range"] = f"bytes={offset}-"
    with requests.get(url, headers=headers, stream=True, timeout=TIMEOUT) as response:
        if response.status_code == 416:
            complete = response.headers.get("Content-Range", "").rpartition("/")[2]
            if complete != str(offset):  # the partial file is longer than the file: start anew
                part.unlink()
                _request(url, part, file, 0)
            return
        if response.status_code not in (200, 206):
            raise _Unavailable(f"HTTP status {response.status_code}")
        if response.status_code == 200:
            offset = 0
        length = response.headers.get("Content-Length")
        total = offset + int(length) if length else None
        with (
            part.open("ab" if offset else "wb") as out,
            _progress(file, "downloading", total) as bar,
        ):
            bar.update(offset)
            for chunk in response.raw.stream(_CHUNK, decode_content=False):
                if file.member is None and out.tell() + len(chunk) > _largest(file) + _CHUNK:
                    raise _Unavailable(f"more than the {file.size} bytes of {file.name}")
                out.write(chunk)
                bar.update(len(chunk))
    got = part.stat().st_size
    if total is not None and got < total:
        raise _Interrupted(f"ended after {got} of {total} bytes")
