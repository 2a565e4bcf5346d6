"""A folder of the user's sounds (VCTK, say), with or without a table of speakers and texts.

A table's files are relative to `path`; only these are read. Texts have no times: a text's symbols
share its sound's frames out evenly.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import soundfile

from arcore.events import Levels
from pipeline.core import paths
from pipeline.core.errors import UserError, require
from pipeline.datasets.base import SPLITS, Dataset, Sound, SplitData, SplitStream
from pipeline.datasets.formats import sound_files
from pipeline.datasets.formats.sound_files import Hearing
from pipeline.datasets.formats.visible_files import visible_files
from pipeline.datasets.options import between, parse_options, refuse_unless
from pipeline.datasets.tables.csv_table import read_table
from pipeline.datasets.user.user_data import (
    Fact,
    UserDataset,
    UserOptions,
    existing,
    is_inside,
    listed,
    option_values,
    other_files,
    readable_bytes,
    rows_of_a_part,
    split_by_seed,
)

COLUMNS = ("file", "speaker", "text")
_PART, _PROBED = 256, 200  # rows in memory, headers that are read for a guess


@dataclass(frozen=True, kw_only=True)
class WavOptions(Hearing, UserOptions):
    """Options of a dataset of kind wav_folder.

    Arguments:
        table: a file with the columns file, and speaker or text or both; "" for none.
        symbols: of texts; words where symbols are apart by spaces, as phones are.
    """

    sample_rate: Annotated[int, between(1000, 384_000)] = 16000
    table: str = ""
    symbols: Literal["characters", "words"] = "characters"

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
    """List the files of a folder, or of its table, by name."""
    if table is None:
        found = visible_files(folder, sound_files.SUFFIXES)
        require(bool(found), str(folder), "WAV, FLAC or Ogg files", "none")
        return [SoundFile(path) for path in found]
    cells = read_table(table, missing=())
    columns = [name for name in COLUMNS if name in cells]
    fits = "file" in columns and len(columns) > 1
    require(fits, str(table), f"the columns {', '.join(COLUMNS)}", cells.columns.tolist())
    entries: dict[Path, SoundFile] = {}
    for number, *values in cells[columns].itertuples():
        where = f"{table}: row {number}"
        for name, value in zip(columns, values, strict=True):
            require(isinstance(value, str), where, f"a {name}", "none")
        given, *told = values
        wanted = f"a path relative to {folder} without '..'"
        require(is_inside(given), where, wanted, given)
        file = folder / given
        if file in entries or not file.is_file():
            problem = "named twice" if file in entries else "not found"
            raise UserError(f"{where}: {file}: {problem}")
        entries[file] = SoundFile(file, **dict(zip(columns[1:], told, strict=True)))
    return [entries[file] for file in sorted(entries)]


@dataclass(frozen=True, kw_only=True)
class WavFolder(UserDataset):
    """A folder of WAV files, split at random by file."""

    options: WavOptions
    entries: tuple[SoundFile, ...]

    def decode(self, raw_dir: Path) -> dict[str, SplitStream]:
        """Read and compand the files; `raw_dir` is not read."""
        chosen = split_by_seed(len(self.entries), self.options, self.options.path, "files")
        return {split: self._stream(chosen[split]) for split in SPLITS}

    def facts(self) -> list[Fact]:
        """Tell rate and length, speakers and symbols where there are some, and what is left out."""
        assert self.sound is not None
        options, sound = self.options, self.sound
        folder = paths.root() / options.path
        size = sum(entry.file.stat().st_size for entry in self.entries)
        seconds = sound.max_length / sound.sample_rate
        told = f"{len(self.entries):,} files, {readable_bytes(size)}"
        facts = [
            Fact("files", told, option_values(options, "table")),
            Fact(
                "sounds",
                f"at {sound.sample_rate} Hz, the longest of {seconds:.1f} s",
                option_values(options, "sample_rate", "resample", "mix"),
            ),
        ]
        if any(sound.speakers):
            facts.append(Fact("speakers", listed(sound.speakers)))
        if sound.symbols:
            told = listed(sound.symbols)
            facts.append(Fact("symbols", told, option_values(options, "symbols")))
        other = other_files(folder, (*sound_files.SUFFIXES, Path(options.table).name or ".csv"))
        return [*facts, Fact("left out", other)] if other else facts

    def _stream(self, numbers: np.ndarray) -> SplitStream:
        assert self.sound is not None
        rows = rows_of_a_part(_PART, self.sound.max_length)
        parts = (numbers[first : first + rows] for first in range(0, len(numbers), rows))
        return SplitStream(len(numbers), map(self._rows, parts))

    def _rows(self, numbers: np.ndarray) -> SplitData:
        assert self.sound is not None
        utterances = []
        for entry in (self.entries[number] for number in numbers):
            samples = sound_files.read_samples(entry.file, self.options, entry.file)
            speaker = self.sound.speakers.index(entry.speaker)
            symbols = tuple(self.sound.symbols.index(one) for one in self.options.cut(entry.text))
            utterances.append(sound_files.Utterance(sound_files.encode(samples), speaker, symbols))
        return sound_files.rows(utterances, self.sound)


def guess(name: str, path: str, given: Mapping[str, object]) -> dict[str, object]:
    """Suggest options by the headers of some files, and by a `table.csv` next to them."""
    folder = paths.root() / path
    refuse_unless(folder.is_dir(), name, "path", "an existing folder", path)
    files = visible_files(folder, sound_files.SUFFIXES)
    rates, channels = Counter[int](), 1
    for file in files[:: max(1, len(files) // _PROBED)]:
        try:
            found = soundfile.info(file)
        except (soundfile.SoundFileError, RuntimeError, OSError):
            continue  # building the dataset says what is wrong
        rates[found.samplerate] += 1
        channels = max(channels, found.channels)
    require(bool(rates), str(folder), "WAV, FLAC or Ogg files", "none that can be read")
    rate = int(rates.most_common(1)[0][0])
    table = folder / "table.csv"
    return {
        "sample_rate": rate,
        "resample": list(rates) != [given.get("sample_rate", rate)],
        "mix": channels > 1,
        "table": str(Path(path) / table.name) if table.is_file() else "",
    }


def build(settings: Mapping[str, object]) -> Dataset:
    """Build a dataset of kind wav_folder, whose files must be there; only headers are read."""
    name = str(settings["name"])
    options = parse_options(WavOptions, name, settings)
    rate = options.sample_rate
    folder = existing(name, "path", options.path, folder=True)
    table = existing(name, "table", options.table) if options.table else None
    entries = tuple(read_entries(folder, table))
    lengths = [sound_files.count_samples(e.file, options, e.file) for e in entries]
    texts = [options.cut(entry.text) for entry in entries]
    speakers = tuple(sorted({entry.speaker for entry in entries}))
    return WavFolder(
        name=name,
        event=Levels(sound_files.NUM_LEVELS, (None,)),
        unit="bits_per_dim",
        provenance=(
            f"{len(entries)} files of {options.path}; "
            + f"resampled to {rate} Hz where they had another rate; " * options.resample
            + ("the mean of several channels; " * options.mix)
            + f"mu-law, {sound_files.NUM_LEVELS} levels; {options.split_words('files')}"
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
