"""Bringing a dataset's raw files to `data/raw/<dataset>/`, verified by SHA-256.

Sources, in order: what is there already (also `<file>.gz`, put there by hand), the mirror of
`ARCORE_MIRROR`, raw folders of other datasets, folders of system packages, the public address. An
archive that has the file as a member will do at each of them. A file gets its name only once it is
whole and verified. Of a dataset of the user's own the file that the user has is the source.
"""

import gzip
import hashlib
import io
import logging
import os
import shlex
import zlib
from functools import partial
from pathlib import Path, PurePosixPath
from typing import BinaryIO, NoReturn, cast
from urllib.parse import quote, unquote, urlsplit

import requests
import urllib3
from tqdm import tqdm

from pipeline import stage
from pipeline.artifacts import artifact
from pipeline.artifacts.writer import Work
from pipeline.core import paths
from pipeline.core.errors import UserError, one_line
from pipeline.core.records import write_object
from pipeline.core.redaction import redacted
from pipeline.datasets.base import Dataset, RawFile
from pipeline.datasets.formats import archives
from pipeline.datasets.user.user_data import UserOptions
from pipeline.stage import Made

MIRROR_VARIABLE = "ARCORE_MIRROR"
TIMEOUT = (4.0, 20.0)  # seconds to connect, and between two packets
CHUNK = 1 << 20

logger = logging.getLogger(__name__)


def fetch(dataset: Dataset) -> Path:
    """Bring all raw files of a dataset to its folder, and write `source.json` next to them."""
    return stage.run(artifact.raw(dataset.name), partial(_fetch, dataset))


def _fetch(dataset: Dataset, work: Work) -> Made[Path]:
    folder, own = paths.shortened(work.folder), _own_path(dataset)
    folder.mkdir(parents=True, exist_ok=True)
    mirror = _mirror() if own is None else None
    for file in dataset.files:
        _fetch_file(dataset, file, folder / file.name, mirror)
        (folder / f"{file.name}.gz").unlink(missing_ok=True)  # put there by hand, unpacked
    for leftover in folder.glob(".*.part"):
        leftover.unlink()
    source = {
        "dataset": dataset.name,
        "source": "files" if dataset.files else "embedded" if own is None else "in place",
        "files": {f.name: {"sha256": f.sha256, "size": f.size} for f in dataset.files},
    }
    write_object(folder / "source.json", source)
    where = own or "embedded data, or the folder that the option says,"
    said = f"{dataset.name}: nothing to copy, preprocess reads {where} where it is"
    return Made(folder, said=[] if dataset.files else [said])


def verify_raw(dataset: Dataset) -> Path:
    """Check a dataset's raw files by SHA-256 without fetching any; return their folder."""
    folder, own = paths.shortened(paths.raw(dataset.name)), _own_path(dataset)
    hint = f"run python -m stages.fetch {dataset.name}"
    if own is not None:
        hint += f" {shlex.quote(f'path={own}')}"
    for file in dataset.files:
        path = folder / file.name
        if not path.is_file():
            raise UserError(f"{path}: file not found; {hint}")
        try:
            with path.open("rb") as stream:
                _copy(stream, None, file, "verifying")
        except UserError as error:
            problem = f"{path}: {error}" if own is None else f"{own}: changed since it was fetched"
            raise UserError(f"{problem}; {hint}") from None
    return folder


def _own_path(dataset: Dataset) -> str | None:
    """Where the files of a dataset of the user's own are; None for other datasets."""
    return dataset.options.path if isinstance(dataset.options, UserOptions) else None


def _mirror() -> Path | str | None:
    """The mirror as a folder or as an address without a final slash."""
    mirror = os.environ.get(MIRROR_VARIABLE, "").strip()
    if not mirror:
        return None
    try:
        parts = urlsplit(mirror)
    except ValueError as error:
        raise UserError(
            f"{MIRROR_VARIABLE}: expected a folder or an address, got {redacted(mirror)!r}: {error}"
        ) from None
    if parts.scheme in ("http", "https"):
        return mirror.rstrip("/")
    path = Path(unquote(parts.path) if parts.scheme == "file" else mirror).expanduser()
    if not path.is_dir():
        raise UserError(
            f"{MIRROR_VARIABLE}: expected an existing folder or an address beginning with "
            f"http://, https:// or file://, got {redacted(mirror)!r}"
        )
    return path


def _fetch_file(dataset: Dataset, file: RawFile, target: Path, mirror: Path | str | None) -> None:
    tried: list[str] = []
    for source in _candidates(dataset, file, target, mirror):
        shown = redacted(str(source))
        try:
            if isinstance(source, str):
                _download(source, target, file)
            elif not source.is_file():
                continue
            elif source == target:
                with target.open("rb") as stream:
                    _copy(stream, None, file, "verifying")
            else:
                _unpack(source, source.name, target, file)
        except (UserError, OSError, urllib3.exceptions.HTTPError) as error:
            tried.append(f"{shown} ({_reason(error)})")
            continue
        missed = f"; not used: {'; '.join(tried)}" if tried else ""
        logger.info("%s: verified, from %s%s", target, shown, missed)
        return
    where = "; ".join(tried) or "no public address is known for it"
    raise UserError(
        f"cannot fetch {file.name} of {dataset.name}: tried {where}; put the file at {target} "
        f"(or {target}.gz), or set {MIRROR_VARIABLE} to a folder or address that has "
        f"{dataset.family or dataset.name}/{file.name}"
    )


def _candidates(
    dataset: Dataset, file: RawFile, target: Path, mirror: Path | str | None
) -> list[Path | str]:
    names = [file.name, f"{file.name}.gz", *([archive_of(file)] if file.member else [])]
    family = dataset.family or dataset.name
    places: list[Path | str] = [target.parent]
    if mirror is not None:
        places.append(mirror / family if isinstance(mirror, Path) else f"{mirror}/{family}")
    places += [*sorted(target.parent.parent.glob("*")), *map(Path, dataset.system_folders)]
    found = [
        place / name if isinstance(place, Path) else f"{place}/{quote(name)}"
        for place in dict.fromkeys(places)
        for name in names
    ]
    return found if file.url is None else [*found, file.url]


def archive_of(file: RawFile) -> str:
    """The name of the archive at the file's public address."""
    return PurePosixPath(urlsplit(file.url or "").path).name


def _reason(error: BaseException) -> str:
    if isinstance(error, (requests.Timeout, urllib3.exceptions.TimeoutError)):
        return "no answer in time"
    if isinstance(error, requests.HTTPError) and error.response is not None:
        return f"HTTP status {error.response.status_code}"
    if isinstance(error, (requests.RequestException, urllib3.exceptions.HTTPError)):
        return "no connection, or it was cut"
    return one_line(error)


def _download(url: str, target: Path, file: RawFile) -> None:
    part = target.with_name(f".{target.name}.download.part")
    most = max(2 * file.size, file.archive_size) + CHUNK
    headers = {"Accept-Encoding": "identity"}
    try:
        with (
            requests.get(url, headers=headers, stream=True, timeout=TIMEOUT) as response,
            part.open("wb") as out,
            _progress(file, "downloading") as bar,
        ):
            response.raise_for_status()
            for chunk in response.raw.stream(CHUNK, decode_content=False):
                bar.update(out.write(chunk))
                if out.tell() > most:
                    raise UserError(f"more than the {most} bytes of {file.name}")
        _unpack(part, PurePosixPath(urlsplit(url).path).name, target, file)
    finally:
        part.unlink(missing_ok=True)


def _unpack(source: Path, name: str, target: Path, file: RawFile) -> None:
    """Copy to `target`, which appears only once verified; out of the archive, or of gzip."""
    part = target.with_name(f".{target.name}.part")
    stream: BinaryIO
    if file.member is not None and name == archive_of(file):
        stream = io.BytesIO(archives.read_first(source, file.member, file.size))
    elif name.endswith(".gz") and not file.name.endswith(".gz"):
        stream = cast(BinaryIO, gzip.open(source))
    else:
        stream = source.open("rb")
    try:
        with stream, part.open("wb") as out:
            _copy(stream, out, file, "copying")
        os.replace(part, target)
    finally:
        part.unlink(missing_ok=True)


def _copy(stream: BinaryIO, out: BinaryIO | None, file: RawFile, doing: str) -> None:
    """Read a file to its end, at most as far as it may be long, and compare its checksum."""
    digest, left = hashlib.sha256(), 2 * file.size if file.equals else file.size
    try:
        with _progress(file, doing) as bar:
            while chunk := stream.read(CHUNK):
                left -= len(chunk)
                if left < 0:
                    expected = f"expected {file.size} bytes, got more"
                    raise UserError(f"too large for {file.name}: {expected}")
                digest.update(chunk)
                if out is not None:
                    out.write(chunk)
                bar.update(len(chunk))
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise UserError(f"truncated or damaged gzip data ({error})") from None
    if digest.hexdigest() not in (file.sha256, *file.equals):
        raise UserError(
            f"wrong checksum for {file.name}: expected sha256 {file.sha256}, got "
            f"{digest.hexdigest()}"
        )


def _progress(file: RawFile, doing: str) -> "tqdm[NoReturn]":
    """Return a bar of bytes, shown where somebody looks."""
    return tqdm(
        disable=None, desc=f"{doing} {file.name}", total=file.size, unit="B", unit_scale=True,
        leave=False, delay=0 if doing == "downloading" else 0.5,
    )  # fmt: skip
