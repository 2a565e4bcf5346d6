"""Files to an archive of coded levels, and back, by a trained model.

See `pipeline.uses.coded_archive` for what an archive is. All rows of one shape of events share a
stream of `arcore.coding`; sounds of a model of any length share one, the longest first.
"""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

import arcore
from arcore import bitstream, coding
from arcore.events import Levels
from pipeline.artifacts import artifact
from pipeline.artifacts.writer import writing
from pipeline.core.allocator import keep_freed_memory
from pipeline.core.errors import UserError, require
from pipeline.data import sound_batches
from pipeline.uses import level_files
from pipeline.uses.coded_archive import (
    FileEntry,
    check_name,
    manifest_of,
    pack,
    require_different,
    unpack,
)


@dataclass(frozen=True, kw_only=True)
class CompressionSummary:
    """What was coded or decoded.

    Attributes:
        files, rows, dimensions: how many.
        file_bytes, archive_bytes: of the files as they were, and of the archive.
        seconds: that it took, verification included.
    """

    files: int
    rows: int
    dimensions: int
    file_bytes: int
    archive_bytes: int
    seconds: float

    def __str__(self) -> str:
        """Say it in one line."""
        bits = 8 * self.archive_bytes / self.dimensions
        speed = self.dimensions / self.seconds / 1000
        return (
            f"{self.files} files of {self.file_bytes:,} bytes, {self.rows:,} rows; archive of "
            f"{self.archive_bytes:,} bytes, {bits:.3f} bits/dim; {speed:,.1f} k levels/s"
        )


def compress(
    files: Sequence[Path],
    model_folder: Path,
    out: Path,
    *,
    classes: Sequence[int] = (),
    symbols: Sequence[Sequence[int]] = (),
    quantize: bool = False,
    progress: bool = False,
) -> CompressionSummary:
    """Code files into an archive, which is written when all of it has been decoded and compared.

    Arguments:
        files: .png, .wav or .parquet; of names that differ. Relative paths are kept, others by
            their last name.
        model_folder: that `arcore.load` reads.
        out: archive to write; nothing may be there.
        classes: for a class-conditional model, one for all rows or one per row; none for those that
            Parquet rows have as labels.
        symbols: for a model that is given a text, the symbols of one for all sounds, or of one for
            each.
        quantize: take a sound's nearest levels where its samples lie between levels.
        progress: show bars.

    Raises:
        UserError: one line; nothing is written then.
    """
    began = time.perf_counter()
    require(len(files) > 0, "files", "a file at least", "none")
    require(not out.exists(), str(out), "no such file yet", "one")
    require(out.parent.is_dir(), str(out.parent), "a folder to write to", "none")
    model, event = load(model_folder)
    entries, rows = [], []
    for path in files:
        check_name(kept_name(path), path)  # as decoding does
    for path in files:
        entry, levels = level_files.read(path, kept_name(path), event, quantize)
        entries.append(entry)
        rows.append(levels)
    require_different([entry.name.casefold() for entry in entries])  # as some disks see them
    entries = _with_symbols(_with_classes(entries, model, classes), model, symbols)
    manifest_of(entries, [])  # refuses what is too large before anything is coded
    streams = []
    for numbers in _groups(entries, event):
        members = [entries[number] for number in numbers]
        x, lengths = _side_by_side([rows[number] for number in numbers], event)
        with _one_line(f"{len(numbers)} files of {members[0].extents}"):
            condition = _condition(members, model)
            stream = coding.compress(model, x, condition, lengths=lengths, progress=progress)
        streams.append(stream)
    archive = pack(entries, streams)
    partial = out.with_name(f".{out.name}.{uuid.uuid4().hex}")
    with _one_line(None):
        try:
            partial.write_bytes(archive)
            require(not out.exists(), str(out), "no such file yet", "one")  # after hours
            os.replace(partial, out)
        finally:
            partial.unlink(missing_ok=True)
    return _summary(entries, sum(path.stat().st_size for path in files), len(archive), began)


def decompress(
    archive: Path, model_folder: Path, out: Path, *, progress: bool = False
) -> CompressionSummary:
    """Decode an archive's files into a folder that appears when all are in it.

    Arguments:
        archive: to read.
        model_folder: of the very same model.
        out: folder to write; there may be an empty one.
        progress: show bars.

    Raises:
        UserError: one line; nothing is written then.
    """
    began = time.perf_counter()
    require(out.name not in ("", ".."), "out", "a path that ends in a folder's name", str(out))
    _require_empty(out)
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
            x = coding.decompress(model, stream, _condition(members, model), progress=progress)
        levels |= zip(numbers, _apart(x.cpu().numpy(), members), strict=True)
    with _one_line(None), writing(artifact.files(out)) as partial:
        for number, entry in enumerate(entries):
            level_files.write(entry, levels[number], event, partial / entry.name)
        written = sum(path.stat().st_size for path in partial.rglob("*") if path.is_file())
        _require_empty(out)  # after hours
    return _summary(entries, written, len(data), began)


def _require_empty(out: Path) -> None:
    empty = not out.exists() or (out.is_dir() and not any(out.iterdir()))
    require(empty, str(out), "a new or an empty folder", "one with files")


def load(folder: Path) -> tuple[arcore.AutoregressiveModel, Levels]:
    """Load a model that codes levels, and its event.

    Raises:
        UserError: for a folder without one.
    """
    with _one_line(None):
        keep_freed_memory()
        model = arcore.load(folder)
    event = model.event
    if not isinstance(event, Levels):
        raise UserError(f"{folder}: expected a model of levels, got one of {event}")
    return model, event


def kept_name(path: Path) -> str:
    """Return the name that a file is kept under: its relative path, or its last name.

    Example:
        >>> kept_name(Path("a/b.png")), kept_name(Path("/tmp/b.png")), kept_name(Path("../b.png"))
        ('a/b.png', 'b.png', 'b.png')
    """
    inside = not path.is_absolute() and ".." not in path.parts
    return path.as_posix() if inside else path.name


def _with_classes(
    entries: Sequence[FileEntry], model: arcore.AutoregressiveModel, given: Sequence[int]
) -> list[FileEntry]:
    """Say under which class each row is coded."""
    if model.num_classes is None:
        require(not given, "classes", "none for a model without classes", list(given))
        return list(entries)
    rows = sum(entry.rows for entry in entries)
    if not given:
        for entry in entries:
            expected = f"one for all, or {rows}: the model is of {model.num_classes} classes"
            require(entry.labels is not None, "classes", expected, "none")
        return [entry.model_copy(update={"classes": entry.labels}) for entry in entries]
    require(len(given) in (1, rows), "classes", f"one for all rows, or {rows}", len(given))
    fits = all(0 <= one < model.num_classes for one in given)
    require(fits, "classes", f"numbers in [0, {model.num_classes})", list(given))
    wide = list(given) if len(given) == rows else [*given] * rows
    ends = np.cumsum([0, *(entry.rows for entry in entries)]).tolist()
    return [
        entry.model_copy(update={"classes": tuple(wide[begin:end])})
        for entry, begin, end in zip(entries, ends, ends[1:], strict=False)
    ]


def _with_symbols(
    entries: Sequence[FileEntry], model: arcore.AutoregressiveModel, given: Sequence[Sequence[int]]
) -> list[FileEntry]:
    """Say under which text each sound is coded."""
    if model.num_symbols is None:
        require(not given, "symbols", "none for a model without a text", list(given))
        return list(entries)
    count = len(entries)
    expected = f"one text for all files, or {count}, of symbols in [0, {model.num_symbols})"
    sounds = all(entry.kind == "wav" for entry in entries)
    require(sounds, "files", "WAV files for a model that is given a text", "others")
    known = all(text and all(0 <= one < model.num_symbols for one in text) for text in given)
    require(len(given) in (1, count) and known, "symbols", expected, list(given))
    texts = list(given) if len(given) == count else [*given] * count
    return [
        entry.model_copy(update={"symbols": tuple(text)})
        for entry, text in zip(entries, texts, strict=True)
    ]


def _groups(entries: Sequence[FileEntry], event: Levels) -> list[list[int]]:
    """Return the numbers of the files that share a stream: of one shape; all, of an open length."""
    if event.is_open:
        return [sorted(range(len(entries)), key=lambda number: -entries[number].extents[0])]
    groups: dict[tuple[int, ...], list[int]] = {}
    for number, entry in enumerate(entries):
        groups.setdefault(entry.extents, []).append(number)
    return list(groups.values())


def _side_by_side(rows: Sequence[np.ndarray], event: Levels) -> tuple[Tensor, Tensor | None]:
    """Put files' rows together, those of an open length padded to the first, with their lengths."""
    if not event.is_open:
        return torch.from_numpy(np.concatenate(rows)), None
    lengths = [row.shape[1] for row in rows]
    x = np.concatenate([np.pad(row, ((0, 0), (0, lengths[0] - row.shape[1]))) for row in rows])
    return torch.from_numpy(x), torch.tensor(lengths)


def _check_members(members: Sequence[FileEntry], header: bitstream.Header, archive: Path) -> None:
    """Check that the rows of a stream are those that its files had."""
    count = sum(entry.rows for entry in members)
    sizes: list[tuple[int, ...]] = [(length,) for length in header.lengths]
    sizes = sizes or [header.extents] * len(members)
    fits = count == header.count and sizes == [entry.extents for entry in members]
    got = (header.count, *header.extents)
    require(fits, str(archive), f"{count} rows of {members[0].extents}", got)


def _apart(x: np.ndarray, members: Sequence[FileEntry]) -> list[np.ndarray]:
    """Undo `_side_by_side`."""
    parts = np.split(x, np.cumsum([entry.rows for entry in members])[:-1])
    return [part[:, : entry.extents[0]] for part, entry in zip(parts, members, strict=True)]


def _condition(entries: Sequence[FileEntry], model: arcore.AutoregressiveModel) -> Tensor | None:
    """Return what the files' rows are given: classes, texts spread over the sounds, or both."""
    classes = [one for entry in entries for one in entry.classes or ()]
    texts = [entry.symbols for entry in entries if entry.symbols is not None]
    if not texts or model.num_symbols is None:
        return torch.tensor(classes) if classes else None
    labels = np.zeros((len(texts), 3 + max(map(len, texts))), np.int64)
    for row, (entry, text) in enumerate(zip(entries, texts, strict=True)):
        labels[row, 0], labels[row, 2] = entry.extents[0], len(text)
        labels[row, 3 : 3 + len(text)] = text
    if classes:
        labels[:, 1] = classes
    begin = np.zeros(len(texts), np.int64)
    return sound_batches.condition_for(model, labels, begin, entries[0].extents[0])


def _summary(
    entries: Sequence[FileEntry], file_bytes: int, archive_bytes: int, began: float
) -> CompressionSummary:
    return CompressionSummary(
        files=len(entries),
        rows=sum(entry.rows for entry in entries),
        dimensions=sum(entry.rows * int(np.prod(entry.extents)) for entry in entries),
        file_bytes=file_bytes,
        archive_bytes=archive_bytes,
        seconds=time.perf_counter() - began,
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
