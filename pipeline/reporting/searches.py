"""A search: its record, trials and shares of parameters in their variance, as tables."""

import csv
import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from pipeline.core.errors import UserError, explained, require
from pipeline.core.records import Record, read_object
from pipeline.experiments import naming
from pipeline.reporting import wording

RECORD = "search.json"
SEED, SECONDS, NATS = "trainer.seed", "sampling_seconds", "best_valid_nats"
TIMED = "seconds for 16"
Table = tuple[list[str], list[list[str]]]  # a header and rows


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


def command_of(record: Mapping[str, object], name: str) -> str:
    """Return the command of a search's record; an older one's by its name, if it has one."""
    plain = "" if naming.is_variant(name) else f"python -m stages.tune {name}"
    return str(record.get("command") or plain)


def trials(path: Path, best_first: bool = False) -> Table:
    """Return a row for each group of trials that differ in their seed alone, with its mean nats.

    Trials without a value are left out, and of two objectives all but those that none beats in
    both, which come by rising nats. Numbers have three digits where the best comes first.
    """
    found = valued(path)
    timed, seeded = SECONDS in found, SEED in found
    if timed:
        require("front" in found, str(path), "a column front", list(found))
        found = found[found["front"] == "yes"].sort_values(NATS, kind="stable")
    names = [name for name in found.columns if "." in name and name != SEED]
    require(bool(names), str(path), "a parameter that trials differ in", list(found))
    if (stopped := found["status"] == "stopped").any():
        found["epochs"] += stopped.map({True: ", stopped", False: ""})
        names.append("epochs")
    printed: Callable[[str], str] = setting if best_first else str
    lines = []
    for values, group in found.groupby(names, sort=False):
        nats = group[NATS].tolist()
        seconds = [printed(group[SECONDS].iloc[0])] if timed else []
        seeds = [str(len(nats))] if seeded else []
        cells = [*(printed(str(value)) for value in values), *seeds, _mean(nats), *seconds]
        lines.append((statistics.fmean(nats), cells))
    if best_first:
        lines.sort(key=lambda line: line[0])
    header = [title(name) for name in names] + ["seeds"] * seeded + ["validation nats"]
    return header + [TIMED] * timed, [cells for _, cells in lines]


def valued(path: Path) -> pd.DataFrame:
    """Read the trials that have a value."""
    found = read_table(path, "trial")
    with explained(f"{path}: {NATS}: expected a number for each trial, got", KeyError, ValueError):
        if "status" in found:
            valued = found[NATS] != ""
            found = found[(found["status"] == "finished") | (found["status"] != "failed") & valued]
        status = found.get("status", "finished")  # records of results/ may have none
        return found.assign(**{NATS: found[NATS].map(float), "status": status})


def _mean(nats: Sequence[float]) -> str:
    mean = statistics.fmean(nats)
    if len(nats) == 1:
        return wording.rounded(mean, 2)
    return wording.with_error(mean, statistics.stdev(nats) / math.sqrt(len(nats)))


def shares(folder: Path, best: int) -> Table:
    """Read what a search's best trial had, and each parameter's own share in the variance.

    A column of shares for each objective; no rows of fewer than four trials or two parameters, or
    of trials that came out alike.
    """
    path = folder / "importance.csv"
    values, found = trial(folder, best), read_table(path)
    names = [name for name in found.columns if name != "parameter"]
    with explained(f"{path}: expected shares in the variance, got", KeyError, ValueError):
        rows = [
            [
                title(row["parameter"]),
                setting(values[row["parameter"]]),
                *(wording.rounded(float(row[name]), 2) for name in names),
            ]
            for _, row in found.iterrows()
        ]
    return ["parameter", "best trial", *map(title, names)], rows


def trial(folder: Path, number: int) -> dict[str, str]:
    """Read one trial of a search."""
    found = read_table(folder / "trials.csv", "trial")
    for row in found[found["trial"] == str(number)].to_dict("records"):
        return {str(key): value for key, value in row.items()}
    expected = f"expected the record of a search, got '{number}' as its best"
    raise UserError(f"{folder / RECORD}: {expected}")


def settings(values: Mapping[str, str]) -> list[list[str]]:
    """Return the parameters of a trial and what it had."""
    return [[title(name), setting(value)] for name, value in values.items() if "." in name]


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
    """Return a parameter's name without what it belongs to: "num blocks" of model.num_blocks."""
    return parameter.rpartition(".")[2].replace("_", " ")


def read_record(folder: Path) -> SearchFacts:
    """Read a search's record, which must be of its trials: `dvc checkout` may leave another's."""
    where = folder / RECORD
    record = SearchFacts.from_dict(read_object(where), str(where))
    best, value = str(record.best_trial), f"{record.best_valid_nats:.6f}"
    found = read_table(folder / "trials.csv", "trial")
    if not ((found["trial"] == best) & (found.get(NATS) == value)).any():
        raise UserError(
            f"{where}: expected the record of trials.csv, got one of another run, whose best is "
            f"trial {best} with {value}; run the search again"
        )
    return record


def read_table(path: Path, *columns: str) -> pd.DataFrame:
    """Read a CSV file of texts, with a row at least if columns are asked for."""
    with explained(f"{path}: expected a table of {path.stem}, got", OSError, csv.Error, ValueError):
        with path.open(newline="", encoding="utf-8") as file:  # pandas fills and cuts rows
            header, *rows = [row for row in csv.reader(file, strict=True) if row] or [[]]
        if columns and not rows:
            raise ValueError("no row")
        if any(len(row) != len(header) for row in rows):
            raise ValueError("rows of other lengths than its header")
        if lacking := [name for name in columns if name not in header]:
            raise ValueError(f"no column {lacking[0]}")
    return pd.DataFrame(rows, columns=header, dtype=str)
