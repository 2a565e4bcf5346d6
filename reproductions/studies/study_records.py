"""What a study leaves: `study.json` and `table.csv`, and the pictures that the record names.

studies/<study>/ is one entry of `studies` in params.yaml.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from pipeline.core.errors import UserError, one_line
from pipeline.core.file_hash import sha256_of
from pipeline.core.records import Record, read_object, write_object
from pipeline.evaluation.scoring import mean_and_error
from pipeline.reporting import wording
from pipeline.training.training_records import TrainingRecord
from pipeline.uses.use_records import Shown

FILE, TABLE = "study.json", "table.csv"
TABLE_SHA256 = "table_sha256"  # of the record
Table = tuple[list[str], list[list[str]]]


@dataclass(frozen=True, kw_only=True)
class StudyRecord(Record):
    """A study.

    Attributes:
        study: its name, a key of `studies` in params.yaml.
        kind: a key of `reproductions.studies.kinds.KINDS`.
        dataset: whose shards it read.
        dataset_sha256: of the shards.
        settings: that it ran with.
        notes: what to know of the table, one sentence or more.
        command, commit: what made it.
        device: that it computed on; where networks were trained, of the trainings.
        seconds: that it took, without trainings that were there of an earlier try.
        shown: pictures.
    """

    study: str
    kind: str
    dataset: str
    dataset_sha256: str
    settings: dict[str, object]
    notes: str
    command: str
    commit: str
    device: str
    seconds: float
    shown: tuple[Shown, ...]


@dataclass(frozen=True)
class StudyOutcome:
    """What came out of a study.

    Attributes:
        header, rows: of its table, text.
        notes, device, shown: as in a `StudyRecord`.
    """

    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    notes: str
    device: str
    shown: Sequence[Shown] = ()


def device_of(trainings: Sequence[TrainingRecord]) -> str:
    """Return the name of the device that networks were trained on, or of all of them."""
    return ", ".join(dict.fromkeys(one.device for one in trainings))


def with_error(values: Tensor) -> str:
    """Return the mean of values with its standard error, as text.

    Example:
        >>> import torch
        >>> with_error(torch.tensor([80.0, 81.0, 82.0]))
        '81.00 ± 0.58'
    """
    return wording.with_error(*mean_and_error(values.double()))


def write(record: StudyRecord, outcome: StudyOutcome, folder: Path) -> None:
    """Write a study's table and record into its folder; the record says which table it is of."""
    with open(folder / TABLE, "w", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows([outcome.header, *outcome.rows])
    written = {TABLE_SHA256: sha256_of(folder / TABLE)}
    write_object(folder / FILE, record.to_dict() | written)


def check(folder: Path) -> None:
    """Refuse a record of another run than the table beside it, which `dvc checkout` may leave.

    Older records do not say which table theirs is, and pass.

    Raises:
        UserError: naming the record, or the file that is missing or malformed.
    """
    said = read_object(folder / FILE).get(TABLE_SHA256)
    if said is None:
        return
    try:
        found = sha256_of(folder / TABLE)
    except OSError as error:
        raise UserError(f"{folder / TABLE}: expected a table, got {error.strerror}") from None
    if found != said:
        raise UserError(
            f"{folder / FILE}: expected the record of {TABLE} ({found[:12]}), got one of "
            f"another run ({str(said)[:12]}); run `python -m reproductions.study {folder.name}`"
        )


def read(folder: Path) -> StudyRecord:
    """Read the record of a study's folder.

    Raises:
        UserError: naming the file, if it is missing or malformed, or of another run than the table.
    """
    path = folder / FILE
    check(folder)
    return StudyRecord.from_dict(read_object(path), str(path))


def read_table(folder: Path) -> Table:
    """Read a study's table as a header and rows.

    Raises:
        UserError: naming the file, if it is missing or malformed.
    """
    path = folder / TABLE
    try:
        with open(path, newline="", encoding="utf-8") as file:
            lines = list(csv.reader(file, strict=True))
    except (OSError, csv.Error, UnicodeDecodeError) as error:
        raise UserError(f"{path}: expected a table, got {one_line(error)}") from None
    if len({len(line) for line in lines}) != 1:
        raise UserError(f"{path}: expected lines of as many cells each, got {len(lines)} lines")
    return lines[0], lines[1:]
