"""Decoding many files at a time, part by part, so that a killed run goes on where it was.

A part that is decoded waits in `data/decoded/<name>-<key>/` until all of the dataset has been
taken; the key is a hash of all that decides the parts. What other keys left is removed. There is no
folder before there is a part.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

import numpy as np
import PIL

from pipeline.core import paths
from pipeline.core.stage_code import stage_sha256

log = logging.getLogger(__name__)
PART_BYTES = 1 << 28
# Decodes events, whose arguments stand in columns, and puts their rows one below the other.
Decode = Callable[[Callable[..., np.ndarray], Sequence[Sequence[object]]], np.ndarray]
_elsewhere: ContextVar[Decode | None] = ContextVar("decode", default=None)


@contextmanager
def decoding_by(decode: Decode) -> Iterator[None]:
    """Let something else than threads of this process decode, inside the block."""
    token = _elsewhere.set(decode)
    try:
        yield
    finally:
        _elsewhere.reset(token)


@contextmanager
def decoder() -> Iterator[Decode]:
    """Give what decodes: as many threads as there are cores, or what `decoding_by` says."""
    given = _elsewhere.get()
    if given is not None:
        yield given
        return
    with ThreadPoolExecutor(available_cores(), thread_name_prefix="decoding") as pool:
        yield lambda read, columns: np.concatenate(list(pool.map(read, *columns)))


class PartsFolder:
    """The decoded parts of one dataset.

    Arguments:
        name: of the dataset.
        decides: plain data that decides what the parts are: options, files, their sizes and times;
            so do the code of `stages.preprocess` and the version of Pillow.
    """

    def __init__(self, name: str, decides: object) -> None:
        code = stage_sha256("preprocess", f"dataset.{name}")
        text = json.dumps([decides, code, PIL.__version__], sort_keys=True, default=str)
        key = hashlib.sha256(text.encode()).hexdigest()[:16]
        self.folder = paths.root() / "data" / "decoded" / f"{name}-{key}"
        if remove_parts(name, other_than=self.folder):
            log.warning(
                "warning: %s: parts that were decoded of other files, by other options or other "
                "code, are removed", name,
            )  # fmt: skip

    def part(self, name: str, decode: Callable[[], np.ndarray]) -> np.ndarray:
        """Return a part that an earlier run decoded, or decode and keep it."""
        path = self.folder / f"{name}.npy"
        with contextlib.suppress(FileNotFoundError, ValueError, EOFError):  # none, or damaged
            kept: np.ndarray = np.load(path, allow_pickle=False)
            return kept
        decoded = decode()
        self.folder.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(f".{os.getpid()}.partial")
        try:
            with partial.open("wb") as file:
                np.save(file, decoded, allow_pickle=False)
            os.replace(partial, path)
        finally:
            partial.unlink(missing_ok=True)
        return decoded

    def remove(self) -> None:
        """Remove the parts, which are no longer needed."""
        shutil.rmtree(self.folder, ignore_errors=True)


def remove_parts(name: str, other_than: Path | None = None) -> bool:
    """Remove the parts of a dataset under all keys, or all but one; return whether there were."""
    found = set((paths.root() / "data" / "decoded").glob(f"{name}-{'[0-9a-f]' * 16}"))
    for folder in found - {other_than}:
        shutil.rmtree(folder, ignore_errors=True)
    return bool(found - {other_than})


def rows_of_a_part(rows: int, event_bytes: int) -> int:
    """Return fewer rows than are usual where these would be above 256 MiB.

    Example:
        >>> rows_of_a_part(2048, 3 * 32 * 32), rows_of_a_part(2048, 3 * 1024 * 1024)
        (2048, 85)
    """
    return max(1, min(rows, PART_BYTES // event_bytes))


def cut_into_parts(counts: Sequence[int], rows: int) -> list[slice]:
    """Cut files that give some rows each into parts of at least `rows` rows, the last excepted.

    Example:
        >>> cut_into_parts([1, 4, 2, 1], rows=5)
        [slice(0, 2, None), slice(2, 4, None)]
    """
    parts, start, filled = [], 0, 0
    for place, count in enumerate(counts):
        filled += count
        if filled >= rows:
            parts.append(slice(start, place + 1))
            start, filled = place + 1, 0
    if start < len(counts):
        parts.append(slice(start, len(counts)))
    return parts


def available_cores() -> int:
    """Count the cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
