"""Files to an archive of coded levels, and back, by a trained model.

See `pipeline.uses.coded_archive` for what an archive is. All files of one shape of events share a
stream of `arcore.coding`; sounds of a model of any length share one, the longest first.
"""

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

import arcore
from arcore import bitstream, coding
from arcore.events import Levels
from pipeline import stage
from pipeline.artifacts import artifact
from pipeline.artifacts.writer import Work
from pipeline.core.errors import UserError, require, require_no_pipe
from pipeline.stage import Made
from pipeline.uses import level_files
from pipeline.uses.coded_archive import FileEntry, check_names, pack, unpack


def compress(
    files: Sequence[Path],
    model_folder: Path,
    out: Path,
    *,
    classes: Sequence[int] = (),
    quantize: bool = False,
    portable: bool = False,
    progress: bool = False,
) -> str:
    """Code files into an archive, once all of it has been decoded and compared; say its size.

    Arguments:
        files: .png or .wav. Relative paths are kept, others by their last name.
        model_folder: that `arcore.load` reads.
        out: archive to write; nothing may be there.
        classes: for a class-conditional model, one for all files or one per file.
        quantize: take a sound's nearest levels where its samples lie between levels.
        portable: so that any processor decodes it, with any version of torch.
        progress: show bars.
    """
    began = time.perf_counter()
    require(len(files) > 0, "files", "a file at least", "none")
    _require_free(out)
    require(out.parent.is_dir(), str(out.parent), "a folder to write to", "none")
    model, event = load(model_folder)
    names = [kept_name(path) for path in files]
    check_names(names, "files")  # as decoding does
    pairs = zip(files, names, strict=True)
    found = [level_files.read(path, name, event, quantize) for path, name in pairs]
    entries = _with_classes([entry for entry, _ in found], model, classes)
    pack(entries, [])  # refuses too many files before any is coded
    streams = []
    for numbers in _groups(entries, event):
        members = [entries[number] for number in numbers]
        x, lengths = _side_by_side([found[number][1] for number in numbers], event)
        with _one_line(f"{len(numbers)} files of {members[0].extents}"):
            condition = _condition(members)
            stream = coding.compress(
                model, x, condition, lengths=lengths, portable=portable, progress=progress
            )
        streams.append(stream)
    archive = pack(entries, streams)
    _write_archive(out, archive)
    return _summary(entries, sum(path.stat().st_size for path in files), len(archive), began)


def _write_archive(out: Path, archive: bytes) -> None:
    partial = out.with_name(f".{out.name}.{os.getpid()}")
    with _one_line(None):
        try:
            partial.write_bytes(archive)
            _require_free(out)  # after hours
            os.replace(partial, out)
        finally:
            partial.unlink(missing_ok=True)


def decompress(archive: Path, model_folder: Path, out: Path, *, progress: bool = False) -> str:
    """Decode an archive's files into a folder that appears when all are in it; say its size."""
    began = time.perf_counter()
    require(out.name not in ("", ".."), "out", "a path that ends in a folder's name", str(out))
    _require_empty(out)
    require_no_pipe(archive)
    try:
        data = archive.read_bytes()
    except OSError as error:
        raise UserError(f"{archive}: {error.strerror}") from None
    entries, streams = unpack(data, archive)
    model, event = load(model_folder)
    for entry in entries:
        level_files.check_kind(entry.kind, event, f"{archive}: {entry.name}")
    groups = _groups(entries, event)
    require(len(groups) == len(streams), str(archive), f"{len(groups)} streams", len(streams))
    levels: dict[int, np.ndarray] = {}
    for numbers, stream in zip(groups, streams, strict=True):
        members = [entries[number] for number in numbers]
        with _one_line(str(archive)):
            _check_members(members, bitstream.split(stream)[0], archive)
            x = coding.decompress(model, stream, _condition(members), progress=progress)
        rows = zip(x.cpu().numpy(), members, strict=True)
        levels |= zip(numbers, (row[: entry.extents[0]] for row, entry in rows), strict=True)

    def make(work: Work) -> Made[int]:
        for number, entry in enumerate(entries):
            level_files.write(entry, levels[number], event, work.folder / entry.name)
        _require_empty(out)  # after hours
        return Made(sum(one.stat().st_size for one in work.folder.rglob("*") if one.is_file()))

    with _one_line(None):
        written = stage.run(artifact.files(out), make)
    return _summary(entries, written, len(data), began)


def _require_free(out: Path) -> None:
    require(not out.exists(), str(out), "no such file yet", "one")


def _require_empty(out: Path) -> None:
    is_empty = not out.exists() or (out.is_dir() and not any(out.iterdir()))
    require(is_empty, str(out), "a new or an empty folder", "one with files")


def load(folder: Path) -> tuple[arcore.AutoregressiveModel, Levels]:
    """Load a model that codes levels, and its event."""
    with _one_line(None):
        arcore.tune_process(flush_denormals=False)
        model = arcore.load(folder)
    event = model.event
    if not isinstance(event, Levels) or model.num_symbols is not None:
        raise UserError(f"{folder}: expected a model of levels without a text, got one of {event}")
    return model, event


def kept_name(path: Path) -> str:
    """Return the name that a file is kept under: its relative path, or its last name."""
    is_inside = not path.is_absolute() and ".." not in path.parts
    return path.as_posix() if is_inside else path.name


def _with_classes(
    entries: Sequence[FileEntry], model: arcore.AutoregressiveModel, given: Sequence[int]
) -> list[FileEntry]:
    """Say under which class each file is coded."""
    count, known = len(entries), model.num_classes
    if known is None:
        require(not given, "classes", "none for a model without classes", list(given))
        return list(entries)
    fits = len(given) in (1, count) and all(0 <= one < known for one in given)
    expected = f"one for all files, or {count}, of numbers in [0, {known})"
    require(fits, "classes", expected, list(given))
    each = given if len(given) == count else [*given] * count
    pairs = zip(entries, each, strict=True)
    return [entry.model_copy(update={"classes": (one,)}) for entry, one in pairs]


def _groups(entries: Sequence[FileEntry], event: Levels) -> list[list[int]]:
    """Return the numbers of the files that share a stream: of one shape; all, of an open length."""
    if event.is_open:
        return [sorted(range(len(entries)), key=lambda number: -entries[number].extents[0])]
    groups: dict[tuple[int, ...], list[int]] = {}
    for number, entry in enumerate(entries):
        groups.setdefault(entry.extents, []).append(number)
    return list(groups.values())


def _side_by_side(rows: Sequence[np.ndarray], event: Levels) -> tuple[Tensor, Tensor | None]:
    """Put files together; of an open length they are padded to the first, with their lengths."""
    if not event.is_open:
        return torch.from_numpy(np.stack(rows)), None
    lengths = [len(row) for row in rows]
    x = np.stack([np.pad(row, (0, lengths[0] - len(row))) for row in rows])
    return torch.from_numpy(x), torch.tensor(lengths)


def _check_members(members: Sequence[FileEntry], header: bitstream.Header, archive: Path) -> None:
    """Check that a stream has the rows of its files."""
    sizes: list[tuple[int, ...]] = [(length,) for length in header.lengths]
    sizes = sizes or [header.extents] * header.count
    expected = f"{len(members)} rows of {members[0].extents}"
    fits = sizes == [entry.extents for entry in members]
    require(fits, str(archive), expected, (header.count, *header.extents))


def _condition(entries: Sequence[FileEntry]) -> Tensor | None:
    classes = [one for entry in entries for one in entry.classes or ()]
    return torch.tensor(classes) if classes else None


def _summary(
    entries: Sequence[FileEntry], file_bytes: int, archive_bytes: int, began: float
) -> str:
    dimensions = sum(int(np.prod(entry.extents)) for entry in entries)
    speed = dimensions / (time.perf_counter() - began) / 1000
    return (
        f"{len(entries)} files of {file_bytes:,} bytes; archive of {archive_bytes:,} bytes, "
        f"{8 * archive_bytes / dimensions:.3f} bits/dim; {speed:,.1f} k levels/s"
    )


@contextmanager
def _one_line(where: str | None) -> Iterator[None]:
    """Turn what arcore or the file system refuses into a user's error."""
    try:
        yield
    except PermissionError as error:
        raise UserError(f"{error.filename}: {error.strerror}") from None
    except ValueError as error:
        text = " ".join(str(error).split())
        raise UserError(text if where is None else f"{where}: {text}") from None
