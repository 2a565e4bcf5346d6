"""A search's trials as a table: what was set, and the lowest validation nats."""

from __future__ import annotations

import csv
import math
import statistics
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

from pipeline.core.errors import UserError
from pipeline.reporting import wording

SEED, SECONDS = "trainer.seed", "sampling_seconds"


def trials(path: Path) -> tuple[list[str], list[list[str]]]:
    """Read a trials.csv of a search as a header and rows of text, in the order of the trials.

    Trials that differ in their seed alone share a row: the mean, with the standard error of it.
    Combinations that cannot be are left out, and of two objectives all trials but those that none
    beats in both, which come by rising nats.

    Raises:
        UserError: naming the file, if it is missing or malformed, or a trial that has no value.
    """
    try:
        with path.open(newline="", encoding="utf-8") as file:
            found = list(csv.DictReader(file, strict=True))
        parameters = [name for name in found[0] if "." in name]
        found = [row for row in found if row["status"] != "failed"]  # combinations that cannot be
        timed = SECONDS in found[0]
        if timed:
            found = [row for row in found if row["front"] == "yes"]
            found.sort(key=lambda row: float(row["best_valid_nats"]))
    except (OSError, csv.Error, IndexError, KeyError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: expected a table of trials, got {error}") from None
    shown = [name for name in parameters if name != SEED]
    groups: defaultdict[tuple[str, ...], list[Mapping[str, str]]] = defaultdict(list)
    for row in found:
        groups[tuple(row[name] for name in shown)].append(row)
    repeated = SEED in parameters
    header = [name.rpartition(".")[2].replace("_", " ") for name in shown]
    header += [*(["seeds"] if repeated else []), "validation nats"]
    header += ["seconds for 16"] if timed else []
    rows = []
    for values, group in groups.items():
        nats = _numbers(group, path)
        cells = [*values, *([str(len(group))] if repeated else [])]
        mean = statistics.fmean(nats)
        if len(nats) == 1:
            cells.append(wording.rounded(mean, 2))
        else:
            cells.append(wording.with_error(mean, statistics.stdev(nats) / math.sqrt(len(nats))))
        if timed:
            cells.append(group[0][SECONDS])
        rows.append(cells)
    return header, rows


def _numbers(rows: list[Mapping[str, str]], path: Path) -> list[float]:
    try:
        return [float(row["best_valid_nats"]) for row in rows]
    except (KeyError, ValueError) as error:
        where = f"{path}: best_valid_nats"
        raise UserError(f"{where}: expected a number for each trial, got {error}") from None
