"""A folder of the user's sounds (VCTK, say), with or without a table of speakers and texts.

Such a dataset is a file `pipeline/conf/dataset/<name>.yaml`, which
`python -m stages.add_dataset <name> --sounds <folder>` writes:

    name: vctk
    kind: wav_folder
    path: /data/vctk              # WAV, FLAC and Ogg files at any depth; or relative to the root
    sample_rate: 16000            # that all files must have
    resample: false               # true: files of another rate are resampled to it
    mix: false                    # true: several channels become their mean
    table: /data/vctk/table.csv   # or "" for none: columns file, and speaker or text or both
    symbols: characters           # of texts; words where symbols are apart by spaces, as phones are
    valid_fraction: 0.05
    test_fraction: 0.05
    split_seed: 0
    max_seconds: 3600             # of a file
    rows_per_shard: 16384

A table's files are relative to `path`; only these are read. Texts have no times: a text's symbols
share its sound's frames out evenly. Files stay where they are: `fetch` copies nothing, and
`dvc repro -f preprocess@<name>` reads them again.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np

from arcore.events import Levels
from pipeline.core.errors import UserError
from pipeline.datasets.base import SPLITS, Dataset, Sound, SplitData, SplitStream
from pipeline.datasets.decoding_parts import rows_of_a_part
from pipeline.datasets.formats import wave_files
from pipeline.datasets.formats.sound_files import (
    RATES,
    SUFFIXES,
    Hearing,
    count_samples,
    read_samples,
)
from pipeline.datasets.formats.text_and_idx import read_bytes
from pipeline.datasets.formats.visible_files import visible_files
from pipeline.datasets.options import between, parse_options
from pipeline.datasets.user.findings import (
    columns_aside,
    counted,
    left_aside,
    listed,
    splits_found,
)
from pipeline.datasets.user.user_data import (
    UserDataset,
    UserOptions,
    existing,
    is_inside,
    split_by_seed,
)

COLUMNS = ("file", "speaker", "text")
_PART = 256


@dataclass(frozen=True, kw_only=True)
class WavOptions(UserOptions):
    """Options of a dataset of kind wav_folder; see the module's example."""

    sample_rate: Annotated[int, between(RATES.start, RATES.stop - 1)] = 16000
    resample: bool = False
    mix: bool = False
    table: str = ""
    symbols: Literal["characters", "words"] = "characters"
    max_seconds: int = 3600

    @property
    def hearing(self) -> Hearing:
        """How a file becomes samples."""
        return Hearing(self.sample_rate, self.resample, self.mix, self.max_seconds)

    def cut(self, text: str) -> list[str]:
        """The symbols of a text."""
        return text.split() if self.symbols == "words" else list(text)


@dataclass(frozen=True)
class SoundFile:
    """A file with its speaker and text, as the table has them."""

    file: Path
    speaker: str = ""
    text: str = ""


def read_entries(folder: Path, table: Path | None) -> list[SoundFile]:
    """List the files of a folder, or of its table, by name.

    Raises:
        UserError: for a table without the column file, a file that is named twice or missing, a
            row without text where there are texts, or no file at all.
    """
    if table is None:
        found = [SoundFile(p) for p in visible_files(folder) if p.suffix.lower() in SUFFIXES]
        if not found:
            raise UserError(f"{folder}: expected WAV, FLAC or Ogg files, found none")
        return found
    columns, lines = _read_table(table)
    twice = any(columns.count(name) > 1 for name in COLUMNS)
    if twice or "file" not in columns or not {"speaker", "text"} & set(columns):
        raise UserError(f"{table}: expected the columns {', '.join(COLUMNS)}, got {columns}")
    entries: dict[Path, SoundFile] = {}
    for number, line in lines:
        if None in line:
            got = len(columns) + len(line[None])
            raise UserError(f"{table}: row {number}: expected {len(columns)} cells, got {got}")
        file = folder / (line["file"] or "")
        values = [(line[name] or "").strip() if name in columns else "" for name in COLUMNS[1:]]
        for name, value in zip(COLUMNS[1:], values, strict=True):
            if name in columns and not value:
                raise UserError(f"{table}: row {number}: expected a {name}, got none")
        if not is_inside(line["file"] or ""):
            raise UserError(
                f"{table}: row {number}: expected a path relative to {folder} without '..', "
                f"got {line['file']!r}"
            )
        if file in entries or not file.is_file():
            problem = "named twice" if file in entries else "not found"
            raise UserError(f"{table}: row {number}: {file}: {problem}")
        entries[file] = SoundFile(file, *values)
    if not entries:
        raise UserError(f"{table}: expected rows below the header, got none")
    return [entries[file] for file in sorted(entries)]


def _read_table(table: Path) -> tuple[list[str], list[tuple[int, dict[Any, Any]]]]:
    """Return the columns of a table, without spaces around them, and its rows by their lines."""
    try:
        text = io.StringIO(read_bytes(table).decode("utf-8-sig"), newline="")
        reader = csv.DictReader(text, strict=True)
        columns = [name.strip() for name in reader.fieldnames or []]
        reader.fieldnames = columns
        return columns, [(reader.line_num, line) for line in reader]
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{table}: not a table of text: {error}") from None


@dataclass(frozen=True, kw_only=True)
class WavFolder(UserDataset):
    """A folder of WAV files, split at random by file.

    Arguments:
        entries: its files.
    """

    options: WavOptions
    entries: tuple[SoundFile, ...]

    def decode(self, raw_dir: Path) -> dict[str, SplitStream]:
        """Read and compand the files; `raw_dir` is not read."""
        chosen = split_by_seed(len(self.entries), self.options, self.options.path, "files")
        return {split: self._stream(chosen[split]) for split in SPLITS}

    def examine(self) -> list[str]:
        """Decode all files, and say what was found."""
        assert self.sound is not None
        rate, lengths = self.options.sample_rate, []
        for entry in self.entries:
            lengths.append(len(read_samples(entry.file, self.options.hearing)))
        chosen = split_by_seed(len(self.entries), self.options, self.options.path, "files")
        total, longest = sum(lengths) / rate / 60, max(lengths) / rate
        lines = [
            f"{counted(len(lengths), 'sound')} in {self.options.path}: {total:.1f} minutes at "
            f"{rate} Hz, the longest of {longest:.1f} s",
            *splits_found({split: len(chosen[split]) for split in SPLITS}, "file"),
        ]
        if len(self.sound.speakers) > 1:
            lines.append(f"speakers: {listed(self.sound.speakers)}")
        if self.sound.symbols:
            lines.append(
                f"texts of {len(self.sound.symbols)} symbols: {listed(self.sound.symbols)}"
            )
        used = {entry.file for entry in self.entries}
        if self.options.table:
            table = existing(self.name, "table", self.options.table)
            used.add(table)
            lines += columns_aside([one for one in _read_table(table)[0] if one not in COLUMNS])
        folder = existing(self.name, "path", self.options.path, folder=True)
        return [*lines, *left_aside(folder, used)]

    def _stream(self, numbers: np.ndarray) -> SplitStream:
        assert self.sound is not None
        rows = rows_of_a_part(_PART, self.sound.max_length)
        parts = (numbers[first : first + rows] for first in range(0, len(numbers), rows))
        return SplitStream(len(numbers), map(self._rows, parts))

    def _rows(self, numbers: np.ndarray) -> SplitData:
        assert self.sound is not None
        utterances = []
        for entry in (self.entries[number] for number in numbers):
            samples = read_samples(entry.file, self.options.hearing)
            speaker = self.sound.speakers.index(entry.speaker) if self.sound.speakers else 0
            symbols = tuple(self.sound.symbols.index(one) for one in self.options.cut(entry.text))
            utterances.append(wave_files.Utterance(wave_files.encode(samples), speaker, symbols))
        return wave_files.rows(utterances, self.sound)


def build(config: Mapping[str, object]) -> Dataset:
    """Build a dataset of kind wav_folder, whose files must be there; only headers are read.

    Raises:
        UserError: for bad options, a folder or table that is missing or empty, or a bad file.
    """
    name = str(config["name"])
    options = parse_options(WavOptions, name, config)
    rate = options.sample_rate
    folder = existing(name, "path", options.path, folder=True)
    table = existing(name, "table", options.table) if options.table else None
    entries = tuple(read_entries(folder, table))
    lengths = [count_samples(entry.file, options.hearing) for entry in entries]
    texts = [options.cut(entry.text) for entry in entries]
    speakers = tuple(sorted({entry.speaker for entry in entries}))
    return WavFolder(
        name=name,
        event=Levels(wave_files.NUM_LEVELS, (None,)),
        unit="bits_per_dim",
        provenance=(
            f"{len(entries)} files of {options.path}; "
            + (
                f"resampled to {options.sample_rate} Hz where they had another rate; "
                * options.resample
            )
            + ("the mean of several channels; " * options.mix)
            + f"mu-law, {wave_files.NUM_LEVELS} levels; {options.split_words('files')}"
        ),
        options=options,
        sound=Sound(
            rate,
            max(lengths),
            max(map(len, texts)),
            speakers,
            tuple(sorted({symbol for text in texts for symbol in text})),
        ),
        entries=entries,
    )
