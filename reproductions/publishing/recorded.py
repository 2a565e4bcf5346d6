"""What `results/` keeps, from the records alone: datasets compared with published results.

Tables call a record, and its fields, so:

<experiment>             name, test (with its error, in the dataset's unit), bits, rows, published,
                         time, valid, entropy, above, importance, importance_rows, and config
<experiment> member      what a member of an ensemble scores
<experiment> <split>     what a test split beyond `test` scores
<dataset> codec <label>  the codec or baseline whose label starts so: name, test
embedded <dataset> <experiment>  of embedded.csv: name, members, test
searches <name>          link, trials, entry, best, had, shares, command, commit, device, took
studies <name>           link, command, commit, device, took
"""

import csv
import functools
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from pipeline.artifacts import origin
from pipeline.core.errors import UserError, explained, require
from pipeline.core.records import adapter, read_object
from pipeline.datasets import catalog
from pipeline.evaluation.reading import read_evaluated, read_kept_codecs
from pipeline.reporting import comparison, numbers, searches, tables, wording
from pipeline.reporting.comparison import Report
from pipeline.reporting.tables import value_column

Fields = Mapping[str, object]
EMBEDDED = "embedded.csv"  # the numbers that `make repro` ends with
FILES = {"searches": "search.json", "studies": "study.json"}


@dataclass(frozen=True)
class Recorded:
    """The records of a dataset."""

    report: Report
    frame: pd.DataFrame

    @property
    def markdown(self) -> str:
        """The page of the dataset."""
        return tables.markdown(self.report, self.frame)

    def texts(self, experiment: str) -> dict[str, str]:
        """Return the texts of one of our rows, or of a codec, by column."""
        return tables.texts(self.frame[self.frame["experiment"] == experiment])


def read(dataset: str, records: Path, codecs: Path | None = None) -> Recorded:
    """Read what is kept of a dataset; its codecs from another file where one is given."""
    kept = sorted(path.parent for path in records.glob(f"{dataset}-*/metrics.json"))
    if not kept:
        raise UserError(f"{records}/{dataset}-*: no record of an experiment")
    found = [read_evaluated(folder) for folder in kept]
    config = found[0].config
    described = config.content.get("dataset")
    if not isinstance(described, dict):
        raise UserError(f"{kept[0] / 'config.yaml'}: dataset: expected a mapping, got {described}")
    # Nothing is published of data of the user's own, whose files may be elsewhere.
    published_name = None if "kind" in described else catalog.get_dataset(described).published_name
    path = codecs or records / "codecs" / f"{dataset}.json"
    kept_codecs = read_kept_codecs(path, found[0].event, config.dataset_sha256)
    report = comparison.compare(dataset, found, published_name, kept_codecs)
    return Recorded(report, numbers.numbers(report))


class RecordFields:
    """Reads the records of a folder, each dataset once."""

    def __init__(self, results: Path) -> None:
        self.results = results
        self._recorded = functools.cache(functools.partial(read, records=results))
        self._kinds: Mapping[str, Callable[[str], Fields]] = {
            "embedded": self._embedded,
            "searches": lambda name: search(results / "searches" / name),
            "studies": lambda name: ran(results / "studies" / name, "studies"),
        }

    def names(self, kinds: Iterable[str]) -> list[str]:
        """Return what to call each record of some kinds."""
        found = []
        for kind in kinds:
            require(kind in self._kinds, "each", f"some of {list(self._kinds)}", kind)
            if kind == "embedded":
                lines = read_lines(self.results / EMBEDDED)
                found += [f"{kind} {line.dataset} {line.experiment}" for line in lines]
            else:
                paths = sorted((self.results / kind).glob(f"[!.]*/{FILES[kind]}"))
                found += [f"{kind} {path.parent.name}" for path in paths]
        return found

    def of(self, name: str) -> Fields:
        """Return the fields of a record."""
        first, _, rest = name.partition(" ")
        if first in self._kinds:
            return self._kinds[first](rest)
        kind, _, label = rest.partition(" ")
        if kind == "codec":
            return self._codec(first, label)
        suffix = {"": "", "member": " (a member)"}.get(kind, f" ({kind})")
        return self._experiment(first, first + suffix)

    def _experiment(self, name: str, label: str) -> Fields:
        kept = self._recorded(name.partition("-")[0])
        found = [row for row in kept.report.rows if row.result.experiment == label]
        if not found:
            raise UserError(f"{self.results / name}: no record of {label}")
        result, config = found[0].result, found[0].evaluated.config
        texts, main = kept.texts(label), value_column(kept.report.unit)
        fields: dict[str, object] = {
            "name": name,
            "test": texts[main],
            "bits": texts[value_column("bits_per_dim")],
            "rows": f"{result.num_rows:,}",
            "published": texts.get("published", ""),
            "time": wording.duration(result.train_seconds),
            "entropy": texts.get(numbers.ENTROPY, "-"),
            "above": texts.get(numbers.ABOVE, "-"),
            "config": config.content,
            "valid": _nats(result.valid_nats),
        }
        for row in kept.report.rows:
            if row.approximate and row.evaluated.config == config:
                fields["importance"] = kept.texts(row.result.experiment)[main]
                fields["importance_rows"] = f"{row.result.num_rows:,}"
        return fields

    def _codec(self, dataset: str, label: str) -> Fields:
        kept = self._recorded(dataset)
        found = [one.label for one in kept.report.codecs if one.label.startswith(label)]
        where = f"{self.results / 'codecs' / dataset}.json"
        require(len(found) == 1, where, f"one codec {label}", found)
        return {"name": found[0], "test": kept.texts(found[0])[value_column(kept.report.unit)]}

    def _embedded(self, name: str) -> Fields:
        for line in read_lines(self.results / EMBEDDED):
            if f"{line.dataset} {line.experiment}" == name:
                return {"name": line.experiment, "members": line.members, "test": line.test}
        raise UserError(f"{self.results / EMBEDDED}: no line of {name}")


def search(folder: Path) -> Fields:
    """Return what a search found: nats of the entry and the best, what it had, and its shares."""
    record = searches.read_record(folder)
    best = searches.trial(folder, record.best_trial)
    _, shares = searches.shares(folder, record.best_trial)
    had = [row[:2] for row in shares] or searches.settings(best)
    return {
        **ran(folder, "searches"),
        "trials": str(record.trials),
        "entry": _nats(record.default_valid_nats),
        "best": _nats(record.best_valid_nats),
        "had": ", ".join(f"{parameter} {value}" for parameter, value in had),
        "shares": ", ".join(f"{parameter} {share}" for parameter, _, share, *_ in shares),
    }


def ran(folder: Path, kind: str) -> Fields:
    """Return what repeats a search or study; its commit, machine and time, where it says so."""
    record = read_object(folder / FILES[kind])
    command = record.get("command") or ""
    if kind == "searches":
        command = searches.command_of(record, folder.name)
    code = {"command": command, "commit": record.get("commit")}
    return {
        "link": f"[{folder.name}]({kind}/{folder.name})",
        "device": record.get("device", ""),
        "took": _took(record),
    } | {key: f"`{value}`" if value else "" for key, value in code.items()}


def _took(record: Mapping[str, object]) -> str:
    """Print how long a record took, and its trials where these took longer: run side by side."""
    seconds, trials = record.get("seconds"), record.get("trial_seconds")
    if not isinstance(seconds, int | float):
        return ""
    spent = sum(map(float, trials)) if isinstance(trials, list) else 0.0
    took = wording.duration(float(seconds))
    return f"{took} (trials {wording.duration(spent)})" if spent > 1.1 * seconds else took


def _nats(value: float | None) -> str:
    return "" if value is None else wording.rounded(value, 2)


@dataclass(frozen=True, kw_only=True)
class EmbeddedLine:
    """A result on embedded data, or of a codec by its label."""

    dataset: str
    experiment: str
    members: str
    sign: str = ""
    value: float  # in `unit`, as is `stderr`, which old records lack
    stderr: float | None = None
    unit: str
    above: str = ""  # the least that is possible, by how much
    commit: str = ""

    @property
    def test(self) -> str:
        """The value with its error and unit, and how far it is above the bound."""
        value = f"{self.sign} {self.value:g}".lstrip()
        if self.stderr is not None:
            value = wording.with_error(self.value, self.stderr, self.sign)
        text = f"{value} {wording.UNITS[self.unit]}"
        return f"{text}, {self.above} above the bound" if self.above else text


def lines_of(frame: pd.DataFrame) -> list[EmbeddedLine]:
    """Return the lines of a report's numbers, in their order."""
    here = origin.commit()
    groups = numbers.compared(frame).groupby("experiment", sort=False)
    return [_line(group, here) for _, group in groups]


def _line(group: pd.DataFrame, here: str) -> EmbeddedLine:
    first, ours = group.iloc[0], group["kind"].iloc[0] == "ours"
    given = f", given {first['condition']}" if first["condition"] else ""
    return EmbeddedLine(
        dataset=first["dataset"],
        experiment=first["experiment"],
        members=first["members"] + given if ours else first["settings"],
        sign=wording.SIGNS[first["relation"]],
        value=float(first["value"]),
        stderr=float(first["error"]),
        unit=first["unit"],
        above=tables.texts(group).get(numbers.ABOVE, ""),
        commit=first["commit"] if ours else here,
    )


def csv_text(lines: Iterable[EmbeddedLine]) -> str:
    """Render lines as CSV."""
    return str(pd.DataFrame(map(vars, lines)).to_csv(index=False, lineterminator="\n"))


def read_lines(path: Path) -> list[EmbeddedLine]:
    """Read what `csv_text` rendered."""
    if not path.is_file():
        again = "run `python -m reproductions.results --embedded <datasets>`"
        raise UserError(f"{path}: missing; {again}")
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file, restval=""))
    lines = []
    for number, row in enumerate(rows, 2):
        with explained(f"{path}: line {number}: expected numbers, got", KeyError, ValueError):
            given = row | {"stderr": row["stderr"] or None}
            lines.append(adapter(EmbeddedLine).validate_python(given))
    return lines
