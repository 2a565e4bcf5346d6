"""Reading history.csv of a model's folder: a row for each finished epoch."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping
from pathlib import Path

from pipeline.core.errors import UserError


def read_history(path: Path) -> list[Mapping[str, str]]:
    """Read a history.csv: each cell a finite number as text, or empty; `epoch` counts from 1.

    Raises:
        UserError: naming the file, if it is missing or damaged.
    """
    try:
        with open(path, newline="", encoding="utf-8") as lines:
            rows = list(csv.DictReader(lines, strict=True, restval=""))
    except FileNotFoundError:
        raise UserError(f"{path}: missing; train the experiment first") from None
    except (csv.Error, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not a table of text: {error}") from None
    for number, row in enumerate(rows, 1):
        where = f"{path}: row {number}"
        if None in row or not str(row.get("epoch") or "").isdecimal() or int(row["epoch"]) < 1:
            raise UserError(f"{where}: expected an epoch and no more cells than columns")
        for column, cell in row.items():
            if cell and not _is_number(cell):
                raise UserError(f"{where}: {column}: expected a finite number, got {cell!r}")
    return list(rows)


def _is_number(cell: str) -> bool:
    try:
        return math.isfinite(float(cell))
    except ValueError:
        return False
