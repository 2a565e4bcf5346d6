"""What a study leaves: `study.json` and `table.csv`, and the pictures that the record names.

studies/<study>/ is one entry of `studies` in params.yaml.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from pipeline.artifacts.artifact import STUDY
from pipeline.artifacts.reader import read_origin
from pipeline.core.errors import UserError, one_line
from pipeline.core.records import Record, read_object, write_object
from pipeline.evaluation.scoring import mean_and_error
from pipeline.reporting import wording
from pipeline.training.training_records import TrainingRecord
from pipeline.uses.use_records import Shown

FILE, TABLE = "study.json", "table.csv"
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
    """Write a study's table and record into its folder."""
    with open(folder / TABLE, "w", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows([outcome.header, *outcome.rows])
    write_object(folder / FILE, record.to_dict())


def check(folder: Path) -> None:
    """Refuse a record of another run than the table beside it, which `dvc checkout` may leave.

    Older records do not say which table theirs is, and pass.

    Raises:
        UserError: naming the record, or the file that is missing or malformed.
    """
    again = f"run `python -m reproductions.study {folder.name}`"
    for name in (FILE, TABLE):
        if not (folder / name).is_file():
            raise UserError(f"{folder / name}: missing; {again}")
    if read_origin(folder, STUDY) is None:
        expected = f"expected the record of {TABLE} as it is, got one of another run"
        raise UserError(f"{folder / FILE}: {expected}; {again}")


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
