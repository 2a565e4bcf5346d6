"""What a study leaves: `study.json` and `table.csv`, and the pictures that the record names.

studies/<study>/ is one entry of `studies` in params.yaml.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

from pipeline.artifacts import artifact
from pipeline.artifacts.reader import read_origin
from pipeline.core.errors import UserError, one_line
from pipeline.core.records import Record, write_object
from pipeline.uses.use_records import Shown
from reproductions.studies.study_base import StudyOutcome

FILE, TABLE = artifact.STUDY.origin, artifact.STUDY.main


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


def write(record: StudyRecord, outcome: StudyOutcome, folder: Path) -> None:
    """Write a study's table and record into its folder."""
    with open(folder / TABLE, "w", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows([outcome.header, *outcome.rows])
    write_object(folder / FILE, record.to_dict())


def read(folder: Path) -> StudyRecord:
    """Read the record of a study's folder.

    Raises:
        UserError: naming the file, if it is missing or malformed, or of another run than the table,
            which `dvc checkout` may leave.
    """
    path = folder / FILE
    found = read_origin(folder, artifact.STUDY)
    if found is None:
        again = f"run `python -m reproductions.study {folder.name}`"
        raise UserError(f"{path}: expected the record of {TABLE}, found none; {again}")
    return StudyRecord.from_dict(found, str(path))


def read_table(folder: Path) -> tuple[list[str], list[list[str]]]:
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
