"""CIFAR-10 from its binary version, and the first 4,000 images of its first batch, in two forms.

A record is one byte of label and 3,072 of pixels: red, green and blue planes, each row by row.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from arcore.events import Event, Levels, Real
from pipeline.datasets.base import SPLITS, Dataset, RawFile, SplitData, dequantized, noise_note
from pipeline.datasets.formats.archives import open_archive
from pipeline.datasets.options import Options, parse_options

SHAPE, NUM_LEVELS = (3, 32, 32), 256
RECORD = 1 + 3 * 32 * 32
NUM_CLASSES = 10
FOLDER = "cifar-10-batches-bin"
TRAIN_BATCHES = tuple(f"data_batch_{number}.bin" for number in range(1, 6))
TEST_BATCHES = ("test_batch.bin",)
NAMES = ("cifar10", "cifar10_4k", "cifar10_4k_dequantized")

_URL = "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz"
_ARCHIVE = RawFile(
    "cifar-10-binary.tar.gz",
    "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
    170_052_171,
    _URL,
)
_FIRST_4000 = RawFile(
    "data_batch_1_first4000.bin",
    "0993cf8b8e43bc207603aef9787006995746513f5e3fa5a52e06d1b069926330",
    4000 * RECORD,
    _URL,
    member=f"{FOLDER}/data_batch_1.bin",
    archive_size=_ARCHIVE.size,
)


def decode_records(data: bytes) -> tuple[np.ndarray, np.ndarray]:
    """Decode records of the binary version: images (N, 3, 32, 32) uint8, labels (N,) int64.

    Example:
        >>> x, labels = decode_records(bytes([7]) + bytes(range(256)) * 12)
        >>> x.shape, int(x[0, 0, 1, 2]), labels.tolist()
        ((1, 3, 32, 32), 34, [7])
    """
    records = np.frombuffer(data, np.uint8).reshape(-1, RECORD)
    return records[:, 1:].reshape(-1, *SHAPE), records[:, 0].astype(np.int64)


@dataclass(frozen=True, kw_only=True)
class Cifar(Dataset):
    """All of CIFAR-10; valid is the last `num_valid` training rows."""

    num_valid: int = 5_000

    def decode(self, raw_dir: Path) -> dict[str, SplitData]:
        """Decode the batches and cut train and valid."""
        with open_archive(raw_dir / _ARCHIVE.name) as files:
            found = {member.name: content.read() for member, content in files}
        train, test = (
            decode_records(b"".join(found[f"{FOLDER}/{name}"] for name in names))
            for names in (TRAIN_BATCHES, TEST_BATCHES)
        )
        (x, labels), cut = train, len(train[0]) - self.num_valid
        return {
            "train": SplitData(x[:cut], labels[:cut]),
            "valid": SplitData(x[cut:], labels[cut:]),
            "test": SplitData(*test),
        }


@dataclass(frozen=True, kw_only=True)
class CifarSubset(Dataset):
    """The first records of CIFAR-10's first training batch: `rows` of each split in turn.

    Of a real event they are levels with noise.
    """

    rows: tuple[int, int, int] = (3000, 500, 500)

    def decode(self, raw_dir: Path) -> dict[str, SplitData]:
        """Decode the file and cut it."""
        every = SplitData(*decode_records((raw_dir / _FIRST_4000.name).read_bytes()))
        ends = np.cumsum(self.rows)
        starts = ends - self.rows
        splits = {s: every[i:j] for s, i, j in zip(SPLITS, starts, ends, strict=True)}
        return dequantized(splits, NUM_LEVELS) if isinstance(self.event, Real) else splits


def _build(name: str, settings: Mapping[str, object]) -> Dataset:
    # No published name of the subset: numbers of the whole set must not be shown next to its own.
    is_whole = name == "cifar10"
    kind: type[Cifar | CifarSubset] = Cifar if is_whole else CifarSubset
    event: Event = Levels(NUM_LEVELS, SHAPE)
    note = ""
    if name.endswith("_dequantized"):
        event, note = Real(SHAPE, bin_width=1 / NUM_LEVELS), noise_note(NUM_LEVELS)
    return kind(
        name=name,
        family="cifar10",
        event=event,
        num_classes=NUM_CLASSES,
        unit="bits_per_dim",
        files=(_ARCHIVE if is_whole else _FIRST_4000,),
        provenance=(
            f"{_URL}; valid = the last 5000 of the 50000 training rows"
            if is_whole
            else f"4,000-image subset of CIFAR-10: the first 4000 records of data_batch_1.bin in "
            f"{_URL}; rows 0-2999 train, 3000-3499 valid, 3500-3999 test; its numbers do not "
            f"compare with those published for CIFAR-10{note}"
        ),
        options=parse_options(Options, name, settings),
        published_name="cifar10" if is_whole else None,
    )


DATASETS = {name: partial(_build, name) for name in NAMES}
