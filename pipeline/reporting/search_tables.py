"""Tables of searches: the trials of one, and what each of them found."""

from __future__ import annotations

import csv
import math
import statistics
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

import arcore
from pipeline.core.errors import UserError, one_line
from pipeline.core.records import read_object, value_of
from pipeline.experiments import naming
from pipeline.reporting import wording

RECORD = "search.json"
SEED, SECONDS = "trainer.seed", "sampling_seconds"
NATS = ("default_valid_nats", "best_valid_nats")


def trials(path: Path, samples: int | None = None) -> tuple[list[str], list[list[str]]]:
    """Read a trials.csv of a search as a header and rows of text, in the order of the trials.

    Trials that differ in their seed alone share a row: the mean, with the standard error of it.
    Where any was stopped early, a column says after how many epochs each ended.
    Trials without a value are left out (`read_finished`), and of two objectives all but those that
    none beats in both, which come by rising nats.

    Arguments:
        path: of the file.
        samples: of a sound, in the mean, where the search is over the dilations of a WaveNet: rows
            say how many it sees, and what one costs in bits.

    Raises:
        UserError: naming the file, if it is missing or malformed, or a trial that has no value.
    """
    found = read_finished(path)
    parameters = [name for name in found[0] if "." in name] if found else []
    timed = bool(found) and SECONDS in found[0]
    if timed:
        found = [row for row in found if row.get("front") == "yes"]
        found.sort(key=lambda row: numbers_of([row], path))
    shown = [name for name in parameters if name != SEED]
    stopped = any(row.get("status") == "stopped" for row in found)
    groups: defaultdict[tuple[str, ...], list[Mapping[str, str]]] = defaultdict(list)
    for row in found:
        ended = (_ended(row),) if stopped else ()
        groups[(*(row[name] for name in shown), *ended)].append(row)
    repeated = SEED in parameters
    header = [_title(name) for name in shown] + (["epochs"] if stopped else [])
    header += ["receptive field"] if samples else []
    header += [*(["seeds"] if repeated else []), "validation nats"]
    header += ["bits a sample"] if samples else []
    header += ["seconds for 16"] if timed else []
    rows = []
    for values, group in groups.items():
        nats = numbers_of(group, path)
        cells = list(values)
        if samples:
            cells.append(str(_receptive_field(group[0], path)))
        cells += [str(len(group))] if repeated else []
        mean = statistics.fmean(nats)
        if len(nats) == 1:
            cells.append(wording.rounded(mean, 2))
        else:
            cells.append(wording.with_error(mean, statistics.stdev(nats) / math.sqrt(len(nats))))
        if samples:
            cells.append(wording.rounded(mean / math.log(2) / samples, 3))
        if timed:
            cells.append(group[0][SECONDS])
        rows.append(cells)
    return header, rows


def _ended(row: Mapping[str, str]) -> str:
    return row.get("epochs", "?") + (", stopped" if row.get("status") == "stopped" else "")


def _receptive_field(row: Mapping[str, str], path: Path) -> int | None:
    try:
        given = {name: int(row[f"model.{name}"]) for name in ("num_blocks", "cycle")}
    except (KeyError, ValueError) as error:
        raise UserError(f"{path}: expected num_blocks and cycle, got {one_line(error)}") from None
    with torch.device("meta"):
        model = arcore.create_model("wavenet", arcore.events.Levels(2, (None,)), **given)
    return model.receptive_field


def outcomes(results: Path) -> tuple[list[str], list[list[str]]]:
    """Return a row for each recorded search: what it varied, and what it found.

    Validation nats of the entry itself and of the best trial, what this one had, and the share of
    each parameter by itself in the variance of the trials.

    Raises:
        UserError: naming the file that is missing or malformed.
    """
    rows = []
    for path in sorted((results / "searches").glob(f"[!.]*/{RECORD}")):
        record, name = read_object(path), path.parent.name
        try:
            best = int(str(record["best_trial"]))
            _, found = shares(path.parent, best)
            had = [row[:2] for row in found] or _had(_trial(path.parent, best))
            cells = [
                f"[{name}](searches/{name})",
                str(record["trials"]),
                *(_nats(record[key]) for key in NATS),
                ", ".join(f"{parameter} {value}" for parameter, value in had),
                ", ".join(f"{parameter} {share}" for parameter, _, share, *_ in found),
            ]
        except (KeyError, TypeError, ValueError) as error:
            raise UserError(f"{path}: expected the record of a search, got {error}") from None
        rows.append(cells)
    header = ["search", "trials", "entry", "best", "which had", "share of the variance by itself"]
    return header, rows


def shares(folder: Path, best: int) -> tuple[list[str], list[list[str]]]:
    """Read what a search's best trial had, and each parameter's own share in the variance.

    A column of shares for each objective; no rows where there are none, as of fewer than four
    trials or two parameters, or of trials that came out alike.

    Raises:
        UserError: naming the file that is missing or malformed.
    """
    path = folder / "importance.csv"
    values, found = _trial(folder, best), _rows(path)
    names = [name for name in found[0] if name != "parameter"] if found else []
    try:
        rows = [
            [
                _title(row["parameter"]),
                _short(values[row["parameter"]]),
                *(wording.rounded(float(row[name]), 2) for name in names),
            ]
            for row in found
        ]
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{path}: expected shares in the variance, got {one_line(error)}") from None
    return ["parameter", "best trial", *(_title(name) for name in names)], rows


def _trial(folder: Path, number: int) -> dict[str, str]:
    trials_of = {row["trial"]: row for row in read_rows(folder / "trials.csv")}
    if str(number) not in trials_of:
        said = f"expected the record of a search, got '{number}' as its best"
        raise UserError(f"{folder / RECORD}: {said}")
    return trials_of[str(number)]


def _had(values: Mapping[str, str]) -> list[list[str]]:
    return [[_title(name), _short(values[name])] for name in values if "." in name]


def _nats(value: object) -> str:
    """Print nats; nothing of the entry itself where no trial was it, or it has none."""
    return "" if value is None else wording.rounded(float(str(value)), 2)


def _short(value: str) -> str:
    try:
        return f"{float(value):.3g}" if "." in value else value
    except ValueError:
        return value


def _title(parameter: str) -> str:
    return parameter.rpartition(".")[2].replace("_", " ")


def read_rows(path: Path) -> list[dict[str, str]]:
    """Read a table of a search; raise a `UserError` that names a file which is none."""
    found = _rows(path)
    if not found:
        raise UserError(f"{path}: expected a table of {path.stem}, got no row")
    return found


def check(folder: Path) -> None:
    """Check that a search's record is of its trials: `dvc checkout` may leave another run's.

    Raises:
        UserError: naming the record.
    """
    record, where = read_object(folder / RECORD), str(folder / RECORD)
    best = str(value_of(record, "best_trial", int, where))
    value = f"{value_of(record, 'best_valid_nats', float, where):.6f}"
    rows = read_rows(folder / "trials.csv")
    if not any((row.get("trial"), row.get("best_valid_nats")) == (best, value) for row in rows):
        raise UserError(
            f"{where}: expected the record of trials.csv, got one of another run, whose best is "
            f"trial {best} with {value}; run the search again"
        )


def _rows(path: Path) -> list[dict[str, str]]:
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file, strict=True))
        if any(None in row or None in row.values() for row in rows):
            raise csv.Error("rows of other lengths than its header")
        return rows
    except (OSError, csv.Error, UnicodeDecodeError) as error:
        raise UserError(f"{path}: expected a table of {path.stem}, got {one_line(error)}") from None


def read_finished(path: Path) -> list[dict[str, str]]:
    """Read the trials of a search that have a value; raises as `read_rows`.

    Combinations that cannot be have none, nor has what was stopped before its first validation.
    """
    return [row for row in read_rows(path) if not _has_none(row)]


def _has_none(row: Mapping[str, str]) -> bool:
    status, nats = row.get("status"), row.get("best_valid_nats")
    return status == "failed" or (status == "stopped" and nats == "")


def numbers_of(rows: Sequence[Mapping[str, str]], path: Path) -> list[float]:
    """Return the best validation nats of trials; raise a `UserError` that names the file."""
    try:
        return [float(row["best_valid_nats"]) for row in rows]
    except (KeyError, ValueError) as error:
        where = f"{path}: best_valid_nats"
        raise UserError(f"{where}: expected a number for each trial, got {error}") from None


def command_of(record: Mapping[str, object], name: str) -> str:
    """Return the command of a search's record; of an older one that of its name.

    Empty for an older one with overrides.
    """
    plain = "" if naming.is_variant(name) else f"python -m stages.tune {name}"
    return str(record.get("command") or plain)
