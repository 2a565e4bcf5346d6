"""Tables of a search: its trials, and the share of each parameter in their variance."""

from __future__ import annotations

import csv
import math
import statistics
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.core.errors import UserError, one_line
from pipeline.core.records import Record, read_object
from pipeline.experiments import naming
from pipeline.reporting import wording

RECORD = "search.json"
SEED, SECONDS, NATS = "trainer.seed", "sampling_seconds", "best_valid_nats"
TIMED = "seconds for 16"
Table = tuple[list[str], list[list[str]]]


@dataclass(frozen=True, kw_only=True)
class SearchFacts(Record):
    """What a page says of search.json (`pipeline.search.outcome.summarize`)."""

    search: str
    dataset: str
    model: str
    trials: int
    stopped: int
    failed: int
    best_trial: int
    best_valid_nats: float
    default_valid_nats: float | None
    seconds: float
    commit: str
    device: str = ""
    command: str = ""


@dataclass(frozen=True)
class TrialGroup:
    """Trials that differ in their seed alone.

    Attributes:
        settings: what they had, by parameter, as text.
        nats: the best validation nats of each.
        seconds: of sampling, "" where the search has one objective.
    """

    settings: Mapping[str, str]
    nats: Sequence[float]
    seconds: str

    @property
    def mean(self) -> float:
        """Mean of the nats."""
        return statistics.fmean(self.nats)

    @property
    def text(self) -> str:
        """The mean, with its standard error if there are several."""
        if len(self.nats) == 1:
            return wording.rounded(self.mean, 2)
        return wording.with_error(
            self.mean, statistics.stdev(self.nats) / math.sqrt(len(self.nats))
        )


def command_of(record: Mapping[str, object], name: str) -> str:
    """Return the command of a search's record; of an older one that of its name.

    Empty for an older one with overrides.
    """
    plain = "" if naming.is_variant(name) else f"python -m stages.tune {name}"
    return str(record.get("command") or plain)


def groups(path: Path) -> list[TrialGroup]:
    """Read a trials.csv of a search, in the order of the trials.

    Trials without a value are left out (`read_finished`), and of two objectives all but those that
    none beats in both, which come by rising nats. Where any was stopped early, the settings say
    after how many epochs each ended.

    Raises:
        UserError: naming the file, if it is missing or malformed, or a trial that has no value.
    """
    found = read_finished(path)
    if found and SECONDS in found[0]:
        found = [row for row in found if row.get("front") == "yes"]
        found.sort(key=lambda row: numbers_of([row], path))
    names = [name for name in found[0] if "." in name and name != SEED] if found else []
    stopped = any(row.get("status") == "stopped" for row in found)
    together: defaultdict[tuple[str, ...], list[Mapping[str, str]]] = defaultdict(list)
    for row in found:
        together[(*(row[name] for name in names), *([_ended(row)] if stopped else []))].append(row)
    names += ["epochs"] if stopped else []
    return [
        TrialGroup(
            dict(zip(names, values, strict=True)),
            numbers_of(rows, path),
            rows[0].get(SECONDS, ""),
        )
        for values, rows in together.items()
    ]


def _ended(row: Mapping[str, str]) -> str:
    return row.get("epochs", "?") + (", stopped" if row.get("status") == "stopped" else "")


def trials(path: Path, best_first: bool = False) -> Table:
    """Return a row for each group of trials: what they had, and their validation nats.

    Arguments:
        path: of a trials.csv.
        best_first: sort by nats, and print numbers with three digits.

    Raises:
        UserError: as `groups`.
    """
    found = groups(path)
    if best_first:
        found.sort(key=lambda group: group.mean)
    printed = setting if best_first else str
    seeds = SEED in read_rows(path)[0]
    timed = any(group.seconds for group in found)
    header = [title(name) for name in found[0].settings] if found else []
    header += [*(["seeds"] if seeds else []), "validation nats"]
    header += [TIMED] if timed else []
    return header, [
        [
            *map(printed, group.settings.values()),
            *([str(len(group.nats))] if seeds else []),
            group.text,
            *([printed(group.seconds)] if timed else []),
        ]
        for group in found
    ]


def shares(folder: Path, best: int) -> Table:
    """Read what a search's best trial had, and each parameter's own share in the variance.

    A column of shares for each objective; no rows where there are none, as of fewer than four
    trials or two parameters, or of trials that came out alike.

    Raises:
        UserError: naming the file that is missing or malformed.
    """
    path = folder / "importance.csv"
    values, found = trial(folder, best), _rows(path)
    names = [name for name in found[0] if name != "parameter"] if found else []
    try:
        rows = [
            [
                title(row["parameter"]),
                setting(values[row["parameter"]]),
                *(wording.rounded(float(row[name]), 2) for name in names),
            ]
            for row in found
        ]
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{path}: expected shares in the variance, got {one_line(error)}") from None
    return ["parameter", "best trial", *(title(name) for name in names)], rows


def trial(folder: Path, number: int) -> dict[str, str]:
    """Read one trial of a search.

    Raises:
        UserError: if there is none of that number.
    """
    for row in read_rows(folder / "trials.csv"):
        if row["trial"] == str(number):
            return row
    expected = f"expected the record of a search, got '{number}' as its best"
    raise UserError(f"{folder / RECORD}: {expected}")


def setting(value: str) -> str:
    """Print a value of a parameter, numbers with three digits.

    Example:
        >>> setting("0.00123456"), setting("random"), setting("16")
        ('0.00123', 'random', '16')
    """
    try:
        return f"{float(value):.3g}" if "." in value else value
    except ValueError:
        return value


def title(parameter: str) -> str:
    """Return a parameter's name without what it belongs to.

    Example:
        >>> title("model.num_blocks")
        'num blocks'
    """
    return parameter.rpartition(".")[2].replace("_", " ")


def read_record(folder: Path) -> SearchFacts:
    """Read a search's record, which must be of its trials: `dvc checkout` may leave another run's.

    Raises:
        UserError: naming the record.
    """
    where = str(folder / RECORD)
    record = SearchFacts.from_dict(read_object(folder / RECORD), where)
    best, value = str(record.best_trial), f"{record.best_valid_nats:.6f}"
    rows = read_rows(folder / "trials.csv")
    if not any((row.get("trial"), row.get(NATS)) == (best, value) for row in rows):
        raise UserError(
            f"{where}: expected the record of trials.csv, got one of another run, whose best is "
            f"trial {best} with {value}; run the search again"
        )
    return record


def read_rows(path: Path) -> list[dict[str, str]]:
    """Read a table of a search; raise a `UserError` that names a file which is none."""
    found = _rows(path)
    if not found:
        raise UserError(f"{path}: expected a table of {path.stem}, got no row")
    return found


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

    Invalid combinations have none, nor has what was stopped before its first validation.
    """
    return [row for row in read_rows(path) if not _has_none(row)]


def _has_none(row: Mapping[str, str]) -> bool:
    status, nats = row.get("status"), row.get(NATS)
    return status == "failed" or (status == "stopped" and nats == "")


def numbers_of(rows: Sequence[Mapping[str, str]], path: Path) -> list[float]:
    """Return the best validation nats of trials; raise a `UserError` that names the file."""
    try:
        return [float(row[NATS]) for row in rows]
    except (KeyError, ValueError) as error:
        raise UserError(f"{path}: {NATS}: expected a number for each trial, got {error}") from None
