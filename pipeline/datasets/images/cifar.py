"""CIFAR-10 from its binary version, and the subset of the first 4,000 images of its first batch.

A record is one byte of label and 3,072 of pixels: red, green and blue planes, each row by row.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from arcore.events import Levels
from pipeline.core.errors import UserError
from pipeline.datasets.base import SPLITS, Dataset, RawFile, SplitData
from pipeline.datasets.formats.archives import open_archive
from pipeline.datasets.formats.text_and_idx import check_rows, read_bytes
from pipeline.datasets.options import Options, parse_options

SHAPE = (3, 32, 32)
RECORD = 1 + 3 * 32 * 32
NUM_CLASSES = 10
FOLDER = "cifar-10-batches-bin"
TRAIN_BATCHES = tuple(f"data_batch_{number}.bin" for number in range(1, 6))
TEST_BATCHES = ("test_batch.bin",)

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
_PICKLED = "the Python version is pickled, and nothing is unpickled here; take the binary version"
_REFUSED = (("cifar-10-python.tar*", _PICKLED), ("cifar-10-batches-py", _PICKLED))


def decode_records(data: bytes, where: str | Path) -> tuple[np.ndarray, np.ndarray]:
    """Decode records of the binary version.

    Arguments:
        data: whole records.
        where: what to call them in an error.

    Example:
        >>> x, labels = decode_records(bytes([7]) + bytes(range(256)) * 12, "example")
        >>> x.shape, int(x[0, 0, 1, 2]), labels.tolist()
        ((1, 3, 32, 32), 34, [7])

    Returns:
        Images (N, 3, 32, 32) uint8, a view of `data`, and labels (N,) int64.

    Raises:
        UserError: naming what is truncated, pickled or no such file.
    """
    if data[:1] == b"\x80" and data[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05"):
        raise UserError(f"{where}: {_PICKLED}")
    if len(data) == 0 or len(data) % RECORD:
        raise UserError(
            f"{where}: truncated: expected records of {RECORD} bytes, got {len(data) // RECORD} "
            f"whole ones and {len(data) % RECORD} bytes"
        )
    records = np.frombuffer(data, np.uint8).reshape(-1, RECORD)
    labels = records[:, 0].astype(np.int64)
    if labels.max() >= NUM_CLASSES:
        row = int((labels >= NUM_CLASSES).argmax())
        raise UserError(
            f"{where}: record {row + 1}: expected a label in [0, {NUM_CLASSES}), got {labels[row]}"
        )
    return records[:, 1:].reshape(-1, *SHAPE), labels


@dataclass(frozen=True, kw_only=True)
class Cifar(Dataset):
    """All of CIFAR-10, from the archive of the binary version.

    Arguments:
        num_batch: rows of each of the five training batches and of the test batch.
        num_valid: the last rows of train that are valid.
    """

    num_batch: int = 10_000
    num_valid: int = 5_000

    def decode(self, raw_dir: Path) -> dict[str, SplitData]:
        """Decode the batches and cut train and valid."""
        path = raw_dir / _ARCHIVE.name
        batches = self._read(path)
        x, labels = (
            np.concatenate(parts)
            for parts in zip(*(batches[name] for name in TRAIN_BATCHES), strict=True)
        )
        (test,) = (batches[name] for name in TEST_BATCHES)
        return {
            "train": SplitData(x[: -self.num_valid], labels[: -self.num_valid]),
            "valid": SplitData(x[-self.num_valid :], labels[-self.num_valid :]),
            "test": SplitData(*test),
        }

    def _read(self, path: Path) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        wanted = {f"{FOLDER}/{name}": name for name in (*TRAIN_BATCHES, *TEST_BATCHES)}
        batches = {}
        with open_archive(path) as files:
            for member, content in files:
                if member.name.startswith("cifar-10-batches-py"):
                    raise UserError(f"{path}: {_PICKLED}")
                if member.name not in wanted:
                    continue
                where = Path(f"{path}: {member.name}")
                if member.size > self.num_batch * RECORD:
                    check_rows(where, member.size // RECORD, self.num_batch)
                x, labels = decode_records(content.read(), where)
                check_rows(where, len(x), self.num_batch)
                batches[wanted[member.name]] = x, labels
        for member_name, name in wanted.items():
            if name not in batches:
                raise UserError(f"{path}: expected the file {member_name} in it, found none")
        return batches


@dataclass(frozen=True, kw_only=True)
class CifarSubset(Dataset):
    """The first records of CIFAR-10's first training batch.

    Arguments:
        rows: rows of train, valid and test, which follow each other in the file.
    """

    rows: tuple[int, int, int] = (3000, 500, 500)

    def decode(self, raw_dir: Path) -> dict[str, SplitData]:
        """Decode the file and cut it."""
        path = raw_dir / _FIRST_4000.name
        x, labels = decode_records(read_bytes(path), path)
        check_rows(path, len(x), sum(self.rows))
        splits, start = {}, 0
        for split, rows in zip(SPLITS, self.rows, strict=True):
            part = slice(start, start + rows)
            splits[split] = SplitData(x[part], labels[part])
            start += rows
        return splits


def _cifar10(config: Mapping[str, object]) -> Dataset:
    return Cifar(
        name="cifar10",
        family="cifar10",
        event=Levels(256, SHAPE),
        num_classes=NUM_CLASSES,
        unit="bits_per_dim",
        files=(_ARCHIVE,),
        provenance=f"{_URL}; valid = the last 5000 of the 50000 training rows",
        options=parse_options(Options, "cifar10", config),
        published_name="cifar10",
        refused=_REFUSED,
    )


def _cifar10_4k(config: Mapping[str, object]) -> Dataset:
    # No published name: numbers of the whole set must not be shown next to those of a subset.
    return CifarSubset(
        name="cifar10_4k",
        family="cifar10",
        event=Levels(256, SHAPE),
        num_classes=NUM_CLASSES,
        unit="bits_per_dim",
        files=(_FIRST_4000,),
        provenance=(
            f"4,000-image subset of CIFAR-10: the first 4000 records of data_batch_1.bin in {_URL}"
            "; rows 0-2999 train, 3000-3499 valid, 3500-3999 test; its numbers do not compare with "
            "those published for CIFAR-10"
        ),
        options=parse_options(Options, "cifar10_4k", config),
        refused=_REFUSED,
    )


DATASETS = {"cifar10": _cifar10, "cifar10_4k": _cifar10_4k}
