"""What a dataset is to the pipeline: raw files, how they decode, and its published protocol."""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np

from arcore.events import Event
from pipeline.core.records import validated, value_of
from pipeline.core.yaml_settings import read_yaml
from pipeline.datasets.options import Options
from pipeline.datasets.read_transforms import ReadTransform, dequantize
from pipeline.datasets.scaling import Scaling

SPLITS = ("train", "valid", "test")
NOISE_SEEDS = {"valid": 1, "test": 2}
Unit = Literal["nats", "bits_per_dim", "nats_per_frame", "nats_per_dim"]


@dataclass(frozen=True)
class RawFile:
    """One raw file as its publisher names it.

    Arguments:
        name: file name in the raw folder and in a mirror (a mirror may add `.gz`).
        sha256: of the decompressed bytes.
        size: decompressed bytes.
        url: public address, compressed or not; None when there is none.
        equals: sums of other files with the same values, which differ in how they are written.
        member: where `url` is a tar archive: the path in it whose first `size` bytes the file is.
        archive_size: bytes of that archive, the most that are downloaded.
    """

    name: str
    sha256: str
    size: int
    url: str | None
    member: str | None = None
    archive_size: int = 0
    equals: tuple[str, ...] = ()


def listed_files(path: Path, key: str) -> tuple[RawFile, ...]:
    """Return the raw files that a YAML file lists by a key."""
    listed = value_of(read_yaml(path), key, list, str(path))
    return tuple(validated(RawFile, one, f"{path}: {key}") for one in listed)


@dataclass(frozen=True)
class Sound:
    """What rows of sounds, of text or of piano rolls are, whose event has an open length.

    A row is padded at its end to `max_length`. Its label is a row of integers: the number of its
    samples, its speaker, the number of its symbols, and these, padded to `max_symbols`.

    Arguments:
        sample_rate: in Hz; 0 of text, whose samples are bytes; of piano rolls steps a second.
        max_length: samples of the longest row.
        max_symbols: symbols of the longest text, 0 without texts.
        symbols: what texts are made of.
        lowest_pitch: of piano rolls, whose samples are steps of bits, the MIDI number of the first
            bit's key; None of others.
    """

    sample_rate: int
    max_length: int
    max_symbols: int
    speakers: tuple[str, ...]
    symbols: tuple[str, ...]
    lowest_pitch: int | None = None

    @property
    def label_width(self) -> int:
        """Integers of a row's label."""
        return 3 + self.max_symbols

    @property
    def is_text(self) -> bool:
        """Whether samples are bytes of text, which cannot be heard."""
        return self.sample_rate == 0

    @property
    def is_roll(self) -> bool:
        """Whether samples are steps of a piano roll."""
        return self.lowest_pitch is not None


def level_type(num_levels: int) -> np.dtype:
    """Element type of stored levels."""
    return np.dtype(np.uint8 if num_levels <= 256 else "<i4")


@dataclass(frozen=True)
class SplitData:
    """One decoded split.

    Arguments:
        x: (N, *event shape), of open length (N, max_length, ...); of `level_type` for discrete
            events, uint8 for levels that are drawn when read, float32 for real ones.
        labels: (N,) int64, of sounds (N, label_width); of a dataset with a `condition_size`
            (N, condition_size) float32, with a `condition_sequence` or `condition_shape` (N, *it)
            float32; or None.
        read_transform: what is done each time that rows are read: "bernoulli" where `x` holds gray
            levels that become bits, "dequantize" where it holds levels that become reals, "moving"
            where it holds digits (N, n, side, side), n of them a row, that become clips.
        scalings: how values were standardised: of `x`, of `conditions`, or none.
    """

    x: np.ndarray
    labels: np.ndarray | None = None
    read_transform: ReadTransform | None = None
    scalings: Mapping[str, Scaling] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, rows: np.ndarray | slice) -> SplitData:
        """Return some of the rows, by their positions."""
        labels = None if self.labels is None else self.labels[rows]
        return SplitData(self.x[rows], labels, self.read_transform, self.scalings)

    def whole(self) -> SplitData:
        """Return all rows: of a split that stays in its shards they are read."""
        return self


def joined(parts: Sequence[SplitData]) -> SplitData:
    """Put parts of a split together, one below the other; a part alone is not copied."""
    first = parts[0]
    if len(parts) == 1:
        return first
    labels = [part.labels for part in parts if part.labels is not None]
    x = np.concatenate([part.x for part in parts])
    return dataclasses.replace(first, x=x, labels=np.concatenate(labels) if labels else None)


def dequantized(splits: Mapping[str, SplitData], num_levels: int) -> dict[str, SplitData]:
    """Add noise to levels: in train each time that they are read, in valid and test once."""
    found = {"train": SplitData(splits["train"].x, splits["train"].labels, "dequantize")}
    for split, seed in NOISE_SEEDS.items():
        x, labels = splits[split].x, splits[split].labels
        found[split] = SplitData(dequantize(x, np.arange(len(x)), 0, seed, num_levels), labels)
    return found


def noise_note(num_levels: int) -> str:
    """Say in a provenance what `dequantized` does."""
    return (
        f"; (level + u) / {num_levels} with u uniform on [0, 1): in train by (seed, epoch, index) "
        "when read, in valid and test by one draw, seeds 1 and 2"
    )


@dataclass(frozen=True)
class SplitStream:
    """A decoded split that may be larger than memory: `rows` rows, in parts that are read once."""

    rows: int
    parts: Iterable[SplitData]
    scalings: Mapping[str, Scaling] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Dataset(abc.ABC):
    """A dataset of the pipeline.

    Arguments:
        family: its folder in a mirror, its name if empty; datasets of a family share raw files.
        unit: the unit in which the field reports it.
        files: raw files; empty when the data comes inside a package.
        provenance: source and protocol, in words.
        published_name: its name in published_results.yaml, or None.
        system_folders: folders where a system package may have put the files.
        context_frames: frames at the beginning of a clip that the protocol gives: what is scored is
            the frames after them.
        condition_sequence: frames, and length of the vector that each frame of a clip comes with
            (actions, states); None without.
        condition_size: length of the vector that each row comes with; None without.
        condition_shape: channels, height and width of the map that each row comes with (a coarse
            image, a mask), of any resolution; None without. A dataset has classes or one of these
            three.
        extra_test_splits: names of test splits beyond `test`, which are scored as it is.
        num_folds: folds of its protocol, chosen by the option `fold`; 1 for a single split.
        sound: what rows are beyond their event, where they are sounds.
        columns: names of a row's numbers, where they have some.
        by_class: whether test rows without labels lie class by class all the same.
    """

    name: str
    family: str = ""
    event: Event
    unit: Unit
    files: tuple[RawFile, ...] = ()
    provenance: str
    options: Options
    num_classes: int | None = None
    published_name: str | None = None
    system_folders: tuple[str, ...] = ()
    context_frames: int = 0
    condition_sequence: tuple[int, int] | None = None
    condition_size: int | None = None
    condition_shape: tuple[int, int, int] | None = None
    extra_test_splits: tuple[str, ...] = ()
    num_folds: int = 1
    sound: Sound | None = None
    columns: tuple[str, ...] = ()
    by_class: bool = False

    @property
    def splits(self) -> tuple[str, ...]:
        """The names of all splits."""
        return SPLITS + self.extra_test_splits

    def source_nats(self, data: SplitData) -> np.ndarray | None:
        """Return -ln p of rows under the source that drew them, (N,), None where it is unknown.

        No model can score better on average than its source.
        """
        return None

    @abc.abstractmethod
    def decode(self, raw_dir: Path) -> Mapping[str, SplitData | SplitStream]:
        """Decode the raw files of a folder into the splits train, valid, test and further tests."""
