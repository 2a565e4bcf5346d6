"""A folder of WAV files of one's own (VCTK, say), with or without a table of speakers and texts.

Such a dataset is a file `pipeline/conf/dataset/<name>.yaml`:

    name: vctk
    kind: wav_folder
    path: /data/vctk              # searched at any depth; or relative to the project's root
    sample_rate: 16000            # that all files must have
    table: /data/vctk/table.csv   # or "" for none: columns file, and speaker or text or both
    valid_fraction: 0.05
    test_fraction: 0.05
    split_seed: 0
    rows_per_shard: 16384

A table's files are relative to `path`; only these are read. Texts are sequences of characters.
Files stay where they are: `fetch` copies nothing, `dvc repro -f preprocess@<name>` reads them anew.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from arcore.events import Levels
from pipeline.core import paths
from pipeline.core.errors import UserError
from pipeline.datasets.base import (
    SPLITS,
    Dataset,
    Options,
    Sound,
    SplitData,
    SplitStream,
    parse_options,
)
from pipeline.datasets.formats import wave_files
from pipeline.datasets.formats.text_and_idx import read_bytes
from pipeline.datasets.read_transforms import permute_rows

COLUMNS = ("file", "speaker", "text")
_PART = 256


@dataclass(frozen=True, kw_only=True)
class WavOptions(Options):
    """Options of a dataset of kind wav_folder; see the module's example."""

    path: str = ""
    sample_rate: int = 16000
    table: str = ""
    valid_fraction: float = 0.1
    test_fraction: float = 0.1
    split_seed: int = 0


@dataclass(frozen=True)
class Entry:
    """A file with its speaker and text, as the table has them."""

    file: Path
    speaker: str = ""
    text: str = ""


def read_entries(folder: Path, table: Path | None) -> list[Entry]:
    """List the files of a folder, or of its table, by name.

    Raises:
        UserError: for a table without the column file, a file that is named twice or missing, a
            row without text where there are texts, or no file at all.
    """
    if table is None:
        found = [Entry(path) for path in sorted(folder.rglob("*")) if path.suffix.lower() == ".wav"]
        if not found:
            raise UserError(f"{folder}: expected WAV files, found none")
        return found
    try:
        reader = csv.DictReader(read_bytes(table).decode("utf-8-sig").splitlines(), strict=True)
        lines = list(reader)
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{table}: not a table of text: {error}") from None
    columns = reader.fieldnames or []
    if "file" not in columns or not {"speaker", "text"} & set(columns):
        raise UserError(f"{table}: expected the columns {', '.join(COLUMNS)}, got {columns}")
    entries: dict[Path, Entry] = {}
    for number, line in enumerate(lines, start=2):
        file = folder / (line["file"] or "")
        values = [(line[name] or "").strip() if name in columns else "" for name in COLUMNS[1:]]
        for name, value in zip(COLUMNS[1:], values, strict=True):
            if name in columns and not value:
                raise UserError(f"{table}: row {number}: expected a {name}, got none")
        if file in entries or not file.is_file():
            problem = "named twice" if file in entries else "not found"
            raise UserError(f"{table}: row {number}: {file}: {problem}")
        entries[file] = Entry(file, *values)
    if not entries:
        raise UserError(f"{table}: expected rows below the header, got none")
    return [entries[file] for file in sorted(entries)]


@dataclass(frozen=True, kw_only=True)
class WavFolder(Dataset):
    """A folder of WAV files, split at random by file.

    Arguments:
        entries: its files.
        wav: the options.
    """

    entries: tuple[Entry, ...]
    wav: WavOptions

    def decode(self, raw_dir: Path) -> dict[str, SplitStream]:
        """Read and compand the files; `raw_dir` is not read."""
        count = len(self.entries)
        shares = (self.wav.test_fraction, self.wav.valid_fraction)
        num_test, num_valid = (round(share * count) for share in shares)
        if min(num_test, num_valid, count - num_test - num_valid) < 1:
            raise UserError(
                f"{self.wav.path}: expected files for each of train, valid and test, got {count} "
                f"with valid_fraction {shares[1]} and test_fraction {shares[0]}"
            )
        order = permute_rows(count, self.wav.split_seed)
        cuts = np.split(order, [num_test, num_test + num_valid])
        chosen = {"test": np.sort(cuts[0]), "valid": np.sort(cuts[1]), "train": np.sort(cuts[2])}
        return {split: self._stream(chosen[split]) for split in SPLITS}

    def _stream(self, numbers: np.ndarray) -> SplitStream:
        parts = (numbers[first : first + _PART] for first in range(0, len(numbers), _PART))
        return SplitStream(len(numbers), map(self._rows, parts))

    def _rows(self, numbers: np.ndarray) -> SplitData:
        assert self.sound is not None
        utterances = []
        for entry in (self.entries[number] for number in numbers):
            samples = wave_files.read_wave(entry.file, self.sound.sample_rate, entry.file)
            speaker = self.sound.speakers.index(entry.speaker) if self.sound.speakers else 0
            symbols = tuple(self.sound.symbols.index(symbol) for symbol in entry.text)
            utterances.append(wave_files.Utterance(wave_files.encode(samples), speaker, symbols))
        return wave_files.rows(utterances, self.sound)


def build(config: Mapping[str, object]) -> Dataset:
    """Build a dataset of kind wav_folder, whose files must be there; only headers are read.

    Raises:
        UserError: for bad options, a folder or table that is missing or empty, or a bad file.
    """
    name = str(config["name"])
    given = {key: value for key, value in config.items() if key != "kind"}
    options = parse_options(WavOptions, name, given)
    where = f"of dataset {name!r}"
    for key in ("valid_fraction", "test_fraction"):
        if not 0 < getattr(options, key) < 1:
            raise UserError(
                f"option {key} {where}: expected in (0, 1), got {getattr(options, key)}"
            )
    folder = paths.root() / options.path
    if not options.path or not folder.is_dir():
        raise UserError(f"option path {where}: expected an existing folder, got {options.path!r}")
    table = paths.root() / options.table if options.table else None
    if table is not None and not table.is_file():
        raise UserError(f"option table {where}: expected an existing file, got {options.table!r}")
    entries = tuple(read_entries(folder, table))
    lengths = [wave_files.count_samples(e.file, options.sample_rate, e.file) for e in entries]
    speakers = tuple(sorted({entry.speaker for entry in entries}))
    return WavFolder(
        name=name,
        family=name,
        event=Levels(wave_files.NUM_LEVELS, (None,)),
        unit="bits_per_dim",
        files=(),
        provenance=(
            f"{len(entries)} files of {options.path}; mu-law, {wave_files.NUM_LEVELS} levels; "
            f"{options.test_fraction} test and {options.valid_fraction} valid of the files, chosen "
            f"by seed {options.split_seed}"
        ),
        options=options,
        sound=Sound(
            options.sample_rate,
            max(lengths),
            max(len(entry.text) for entry in entries),
            speakers,
            tuple(sorted({symbol for entry in entries for symbol in entry.text})),
        ),
        entries=entries,
        wav=options,
    )


KINDS = {"wav_folder": build}
