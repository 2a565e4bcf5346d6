"""A study's record and its table: whether both are of one run."""

from __future__ import annotations

from pathlib import Path

from pipeline.core.errors import UserError
from pipeline.core.file_hash import sha256_of
from pipeline.core.records import read_object

RECORD, TABLE = "study.json", "table.csv"
TABLE_SHA256 = "table_sha256"  # of the record


def check(folder: Path) -> None:
    """Refuse a record of another run than the table beside it, which `dvc checkout` may leave.

    Older records do not say which table theirs is, and pass.

    Raises:
        UserError: naming the record, or the file that is missing or malformed.
    """
    said = read_object(folder / RECORD).get(TABLE_SHA256)
    if said is None:
        return
    try:
        found = sha256_of(folder / TABLE)
    except OSError as error:
        raise UserError(f"{folder / TABLE}: expected a table, got {error.strerror}") from None
    if found != said:
        raise UserError(
            f"{folder / RECORD}: expected the record of {TABLE} ({found[:12]}), got one of "
            f"another run ({str(said)[:12]}); run `python -m stages.study {folder.name}`"
        )
