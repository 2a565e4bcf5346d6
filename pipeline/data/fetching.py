"""Bringing a dataset's raw files to `data/raw/<dataset>/`, verified by SHA-256.

Sources, in order: what is there already (also `<file>.gz`, put there by hand), the mirror of
`ARCORE_MIRROR`, raw folders of datasets with the same files, folders of system packages, the
public address. Where that is an archive of which the file is a part, the archive will do at each of
them. A file gets its name only once it is whole and verified. Of a dataset of the user's own the
file that the user has is the source, and a copy that differs from it is replaced.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shlex
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from urllib.parse import quote, unquote, urlsplit

from pipeline.artifacts import artifact
from pipeline.artifacts.writer import alone
from pipeline.core import paths
from pipeline.core.errors import UserError
from pipeline.core.redaction import redacted
from pipeline.data.downloading import Unavailable, download
from pipeline.data.unpacking import WrongChecksum, archive_of, check, unpack
from pipeline.datasets.catalog import Dataset, RawFile, get_dataset, list_datasets
from pipeline.datasets.user.user_data import UserOptions

MIRROR_VARIABLE = "ARCORE_MIRROR"

logger = logging.getLogger(__name__)


def raw_folder(dataset: str) -> Path:
    """The folder of a dataset's raw files, `data/raw/<dataset>`."""
    return paths.shortened(paths.raw(dataset))


def fetch(dataset: Dataset) -> Path:
    """Bring all raw files of a dataset and write `source.json` next to them.

    Returns:
        The folder `data/raw/<dataset>`.

    Raises:
        UserError: when no source has a file, a checksum is wrong or the mirror does not exist.
    """
    with alone(artifact.raw(dataset.name), wait=True):
        return _fetch(dataset)


def _fetch(dataset: Dataset) -> Path:
    folder = raw_folder(dataset.name)
    folder.mkdir(parents=True, exist_ok=True)
    own = _own_path(dataset)
    mirror = _mirror() if own is None else None
    for file in dataset.files:
        try:
            if not _already_there(file, folder, own is not None):
                _fetch_file(dataset, file, folder, mirror)
        except PermissionError as error:
            raise UserError(f"{error.filename}: permission denied") from None
    for leftover in folder.glob(".*.part"):
        leftover.unlink()
    source = {
        "dataset": dataset.name,
        "source": "files" if dataset.files else "embedded" if own is None else "in place",
        "files": {f.name: {"sha256": f.sha256, "size": f.size} for f in dataset.files},
    }
    marker = folder / ".source.json.part"
    marker.write_text(json.dumps(source, indent=2) + "\n", encoding="utf-8")
    os.replace(marker, folder / "source.json")
    if not dataset.files and own is None:
        how = "read where option folder says" if hasattr(dataset.options, "folder") else "embedded"
        logger.info("%s: %s, nothing to download", dataset.name, how)
    elif not dataset.files:
        logger.info("%s: nothing to copy, preprocess reads %s where it is", dataset.name, own)
    return folder


def verify_raw(dataset: Dataset) -> Path:
    """Check size and SHA-256 of a dataset's raw files without fetching any.

    Returns:
        The folder `data/raw/<dataset>`.

    Raises:
        UserError: naming the file that is missing, truncated or altered; of a dataset of the user's
            own, the file that has changed since it was copied.
    """
    folder, own = raw_folder(dataset.name), _own_path(dataset)
    hint = f"run python -m stages.fetch {dataset.name}"
    if own is not None:
        hint += f" {shlex.quote(f'path={own}')}"
    for file in dataset.files:
        path = folder / file.name
        if not path.is_file():
            raise UserError(f"{path}: file not found; {hint}")
        size = path.stat().st_size
        if own is not None:
            if size != file.size or not _is_same(file, path):
                raise UserError(f"{own}: changed since it was fetched; {hint}")
            continue
        if size < file.size:
            raise UserError(f"{path}: truncated: expected {file.size} bytes, got {size}; {hint}")
        try:
            check(file, path)
        except WrongChecksum as error:
            raise UserError(f"{path}: {error}; {hint}") from None
    return folder


def _own_path(dataset: Dataset) -> str | None:
    """Where the files of a dataset of the user's own lie; None for other datasets."""
    return dataset.options.path if isinstance(dataset.options, UserOptions) else None


def _is_same(file: RawFile, path: Path) -> bool:
    try:
        check(file, path)
    except WrongChecksum:
        return False
    return True


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


def _find(folder: Path, name: str) -> Path | None:
    for candidate in (folder / name, folder / f"{name}.gz"):
        if candidate.is_file():
            return candidate
    return None


def _candidates(dataset: Dataset, file: RawFile, mirror: Path | str | None) -> Iterator[Path | str]:
    """Existing paths and addresses where the file may come from, in the order to try them."""
    folders = []
    if archive := archive_of(file):
        placed = raw_folder(dataset.name) / archive
        yield from [placed] if placed.is_file() else []
    if isinstance(mirror, Path):
        folders.append(mirror / dataset.family)
    elif mirror is not None:
        address = f"{mirror}/{dataset.family}/{quote(file.name)}"
        yield from (address, f"{address}.gz")
        if archive:
            yield f"{mirror}/{dataset.family}/{quote(archive)}"
    for name in list_datasets():
        if name != dataset.name and get_dataset({"name": name}).family == dataset.family:
            folders.append(raw_folder(name))
    folders += [Path(folder) for folder in dataset.system_folders]
    for folder in folders:
        found = _find(folder, file.name)
        if found is not None:
            yield found
        if archive and (folder / archive).is_file():
            yield folder / archive
    if file.url is not None:
        yield file.url


def _refused(dataset: Dataset, folder: Path, mirror: Path | str | None) -> str:
    """Name a file that is found in place of a raw file and not read, and say why."""
    places = [folder, *([mirror / dataset.family] if isinstance(mirror, Path) else [])]
    for pattern, reason in dataset.refused:
        for path in (found for place in places for found in sorted(place.glob(pattern))):
            return f"; {path} is not read: {reason}"
    return ""


def _already_there(file: RawFile, folder: Path, is_copy: bool) -> bool:
    """Whether the file is in the folder, verified; a `.gz` put there by hand is unpacked.

    What is wrong is moved aside and told, unless it is the copy of a file that has changed since.
    """
    target = folder / file.name
    placed = _find(folder, file.name)
    if placed is None:
        return False
    try:
        if placed == target:
            check(file, placed)
        else:
            unpack(placed, target, file)
            placed.unlink()
    except WrongChecksum as error:
        if is_copy:
            return False
        # Outside the folder, because that is an output that DVC tracks.
        aside = folder.with_name(f"{folder.name}.rejected") / placed.name
        aside.parent.mkdir(exist_ok=True)
        os.replace(placed, aside)
        raise UserError(
            f"{placed}: {error}; moved to {aside}, the next run fetches the file again"
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
                unpack(source, target, file, source.name)
            except WrongChecksum as error:
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
        except Unavailable as error:
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


def _download_and_unpack(url: str, target: Path, file: RawFile) -> None:
    """Download to a partial file named for the address (so that it can be resumed), and unpack."""
    tag = hashlib.sha256(url.encode()).hexdigest()[:8]
    part = target.with_name(f".{target.name}.{tag}.part")
    resumed = part.exists()
    download(url, part, file)
    try:
        unpack(part, target, file, PurePosixPath(urlsplit(url).path).name)
    except WrongChecksum as error:
        part.unlink()
        if resumed:  # the partial file may have been of another version of the file
            _download_and_unpack(url, target, file)
            return
        raise UserError(f"{redacted(url)}: {error}; the download was discarded") from None
    part.unlink()
