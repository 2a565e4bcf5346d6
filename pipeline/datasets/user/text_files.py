"""A text of the user's, or a folder of them, as rows of bytes of any length.

Files follow each other by name, and each is cut into rows of at most `row_bytes` bytes. Splits are
contiguous: the first rows are train, then come valid and test.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np

from arcore.events import Levels
from pipeline.core import paths
from pipeline.core.errors import UserError, require
from pipeline.datasets.base import SPLITS, Dataset, Sound, SplitData, SplitStream
from pipeline.datasets.formats import sound_files
from pipeline.datasets.formats.sound_files import Utterance
from pipeline.datasets.formats.visible_files import visible_files
from pipeline.datasets.options import between, parse_options, refuse_unless
from pipeline.datasets.user.user_data import (
    Fact,
    UserDataset,
    UserOptions,
    option_values,
    other_files,
    readable_bytes,
    rows_of_a_part,
)

SUFFIXES = (".txt",)
NUM_LEVELS = 256
LONGEST, SHORTEST, USUAL_ROWS = 4096, 256, 100
_PART = 256  # rows in memory


@dataclass(frozen=True, kw_only=True)
class TextOptions(UserOptions):
    """Options of a dataset of kind text, whose path is a file or a folder of .txt files.

    Arguments:
        row_bytes: of a row, but for the last one of a file; each row is scored by itself.
    """

    row_bytes: Annotated[int, between(2, 1 << 20)] = LONGEST

    def split_words(self, what: str) -> str:
        """Say how rows are split, for a provenance."""
        return f"the last {self.test_fraction} test, {self.valid_fraction} before it valid"


@dataclass(frozen=True)
class TextRow:
    """The bytes of a file that are a row."""

    file: Path
    begin: int
    end: int


@dataclass(frozen=True, kw_only=True)
class TextFiles(UserDataset):
    """Texts as bytes, split in contiguous parts."""

    options: TextOptions
    rows: tuple[TextRow, ...]

    @property
    def split_options(self) -> tuple[str, ...]:
        """The options that decide where the text is cut."""
        return ("valid_fraction", "test_fraction")

    def decode(self, raw_dir: Path) -> dict[str, SplitStream]:
        """Cut the rows into contiguous splits; `raw_dir` is not read."""
        options, count = self.options, len(self.rows)
        num_test, num_valid = (
            round(share * count) for share in (options.test_fraction, options.valid_fraction)
        )
        if min(num_test - 1, num_valid, count - num_test - num_valid) < 1:
            raise UserError(
                f"{options.path}: expected rows for each of train, valid and test (two), got "
                f"{count} rows of at most row_bytes={options.row_bytes} bytes"
            )
        ends = np.cumsum([0, count - num_valid - num_test, num_valid, num_test])
        return {
            split: self._stream(self.rows[ends[number] : ends[number + 1]])
            for number, split in enumerate(SPLITS)
        }

    def facts(self) -> list[Fact]:
        """Tell what is read, and what a row is."""
        options = self.options
        path = paths.root() / options.path
        files = {row.file for row in self.rows}
        size = sum(row.end - row.begin for row in self.rows)
        facts = [
            Fact(
                "text",
                f"{readable_bytes(size)}, {len(files)} file{'s' * (len(files) > 1)}, byte by byte",
            ),
            Fact("split", "contiguous: train is first, then valid, and test is last"),
            Fact("row", f"at most {options.row_bytes} bytes", option_values(options, "row_bytes")),
            Fact("unit", "bits/dim, which are bits per byte"),
        ]
        other = other_files(path, SUFFIXES) if path.is_dir() else ""
        return [*facts, Fact("left out", other)] if other else facts

    def _stream(self, rows: tuple[TextRow, ...]) -> SplitStream:
        at_once = rows_of_a_part(_PART, self.options.row_bytes)
        parts = (rows[first : first + at_once] for first in range(0, len(rows), at_once))
        return SplitStream(len(rows), map(self._read, parts))

    def _read(self, rows: tuple[TextRow, ...]) -> SplitData:
        assert self.sound is not None
        return sound_files.rows([Utterance(levels) for levels in _levels(rows)], self.sound)


def _levels(rows: tuple[TextRow, ...]) -> Iterator[np.ndarray]:
    for row in rows:
        size = row.end - row.begin
        levels = np.fromfile(row.file, np.uint8, size, offset=row.begin)
        require(len(levels) == size, str(row.file), f"{row.end} bytes", row.begin + len(levels))
        yield levels


def find_texts(name: str, given: str) -> dict[Path, int]:
    """Return the files of a path, by name, and their bytes; empty ones are passed over."""
    path = paths.root() / given
    refuse_unless(bool(given) and path.exists(), name, "path", "an existing file or folder", given)
    files = [path] if path.is_file() else visible_files(path, SUFFIXES)
    sizes = {file: file.stat().st_size for file in files}
    require(sum(sizes.values()) > 0, str(path), "a text, or .txt files with some", "none")
    return {file: size for file, size in sizes.items() if size}


def guess(name: str, path: str, given: Mapping[str, object]) -> dict[str, object]:
    """Suggest the bytes of a row: about a hundred rows, none of them very short or long."""
    size = sum(find_texts(name, path).values())
    return {"row_bytes": min(LONGEST, max(SHORTEST, size // USUAL_ROWS))}


def build(settings: Mapping[str, object]) -> Dataset:
    """Build a dataset of kind text, whose files must be there."""
    name = str(settings["name"])
    options = parse_options(TextOptions, name, settings)
    rows = tuple(
        TextRow(file, begin, min(begin + options.row_bytes, size))
        for file, size in find_texts(name, options.path).items()
        for begin in range(0, size, options.row_bytes)
    )
    longest = max(row.end - row.begin for row in rows)
    return TextFiles(
        name=name,
        event=Levels(NUM_LEVELS, (None,)),
        unit="bits_per_dim",
        provenance=(
            f"bytes of {Path(options.path).name}, so that bits/dim are bits per byte; rows of at "
            f"most {options.row_bytes}, in order, {options.split_words('rows')}"
        ),
        options=options,
        sound=Sound(0, longest, 0, ("",), ()),
        rows=rows,
    )
