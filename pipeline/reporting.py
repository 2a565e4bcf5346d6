"""Tables of our results beside the published ones: Markdown, CSV and plain text.

The HTML page, with figures, is in `pipeline.figures`.
"""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import yaml

from arcore import events
from arcore.zoo import MODELS
from pipeline import paths
from pipeline.errors import UserError
from pipeline.published import PublishedResult, match, published_for

UNITS = {"nats": "nats", "bits_per_dim": "bits/dim"}
TERMINAL_CONTEXT_ROWS = 8


@dataclass(frozen=True, kw_only=True)
class Result:
    """What `evaluate` measured of one experiment, with the config of its model.

    Attributes:
        num_members: 1 for a single model, else an ensemble of so many.
        unit: the dataset's unit, "nats" (per event) or "bits_per_dim"; both values are given.
        nats_stderr, bits_per_dim_stderr: standard errors of the mean over `num_rows` rows.
        device: of the training, as far as it is known.
        published: `{model, variant}` of the published counterpart.
        exact: False where the number only bounds the negative log-likelihood from above.
        config: the content of the model's `config.yaml`.
        event: what is modelled.
        folder: `evaluation/<dataset>/<experiment>`.
    """

    experiment: str
    dataset: str
    model: str
    num_members: int
    unit: str
    nats: float
    nats_stderr: float
    bits_per_dim: float
    bits_per_dim_stderr: float
    num_rows: int
    exact: bool
    valid_nats: float | None
    num_parameters: int | None
    train_seconds: float | None
    device: str | None
    published: Mapping[str, Any] | None
    config: Mapping[str, Any] = field(repr=False)
    event: events.Event
    folder: Path

    @property
    def value(self) -> float:
        """The test value in the dataset's unit."""
        return self.nats if self.unit == "nats" else self.bits_per_dim

    @property
    def members(self) -> str:
        """In words: one, or an ensemble of so many."""
        return "one" if self.num_members == 1 else f"ensemble of {self.num_members}"

    @property
    def settings(self) -> str:
        """The hyperparameters that differ from the model's defaults, and the search they are of."""
        given = {k: v for k, v in self.config["model"].items() if k != "name"}
        if self.model not in MODELS:
            return "-"
        defaults = MODELS[self.model].Config().to_dict()
        changed = [f"{k}={v}" for k, v in given.items() if v != defaults.get(k)]
        base = PurePosixPath(str(self.config.get("base") or ""))
        if base.parts[:1] == ("searches",):
            changed.append(f"(found by {base.parent})")
        return " ".join(changed).replace("'", "") or "defaults"


@dataclass(frozen=True, kw_only=True)
class Row:
    """One of our results with its published counterpart, if the experiment names one."""

    result: Result
    published: PublishedResult | None
    published_value: float | None

    @property
    def difference(self) -> float | None:
        """Ours minus published, in the dataset's unit; negative is better."""
        return None if self.published_value is None else self.result.value - self.published_value


@dataclass(frozen=True, kw_only=True)
class Report:
    """Everything that a dataset's table says.

    Attributes:
        rows: ours, best first.
        context: published rows that none of ours is matched with, and their values in the
            dataset's unit (None where the metric is another quantity), best first; those that are
            no valid likelihood of the test split come last.
    """

    dataset: str
    published_name: str | None
    unit: str
    rows: tuple[Row, ...]
    context: tuple[tuple[PublishedResult, float | None], ...]


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object.

    Raises:
        UserError: naming the file, if it is missing or malformed.
    """
    try:
        content = json.loads(path.read_text())
    except FileNotFoundError as error:
        raise UserError(f"{path}: missing; run the stage that writes it") from error
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: expected JSON, got {error}") from error
    if not isinstance(content, dict):
        raise UserError(f"{path}: expected an object, got {type(content).__name__}")
    return content


def read_results(dataset: str) -> list[Result]:
    """Read `evaluation/<dataset>/*/metrics.json`, with each model's config; by experiment.

    Raises:
        UserError: if nothing is evaluated, or naming the file that is malformed.
    """
    found = sorted((paths.root() / "evaluation" / dataset).glob("*/metrics.json"))
    if not found:
        raise UserError(f"evaluation/{dataset}: no evaluated experiment; run evaluate first")
    return [_read_result(path) for path in found]


def _read_result(path: Path) -> Result:
    metrics = read_json(path)
    config = _read_config(paths.model(path.parent.name) / "config.yaml")
    try:
        event = events.from_dict(config["event"])
        names = {item.name for item in dataclasses.fields(Result)} - {"config", "event", "folder"}
        optional = ("valid_nats", "num_parameters", "train_seconds", "device")
        published = (config.get("evaluation") or {}).get("published")
        given = {**dict.fromkeys(optional), "exact": True, "published": published, **metrics}
        missing = names - set(given)
        if missing:
            raise ValueError(f"missing {', '.join(sorted(missing))}")
        values = {name: given[name] for name in names}
        training = paths.model(path.parent.name) / "training.json"
        if training.is_file():
            values["device"] = read_json(training).get("device") or values["device"]
        result = Result(**values, config=config, event=event, folder=path.parent)
        _check(result)
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{path}: {error}") from error
    return result


def _check(result: Result) -> None:
    if result.unit not in UNITS:
        raise ValueError(f"unit: expected one of {list(UNITS)}, got {result.unit!r}")
    for name in ("nats", "nats_stderr", "bits_per_dim", "bits_per_dim_stderr"):
        value = getattr(result, name)
        if isinstance(value, bool) or not isinstance(value, (int, float)) or math.isnan(value):
            raise ValueError(f"{name}: expected a number, got {value!r}")
    if not isinstance(result.num_members, int) or result.num_members < 1:
        raise ValueError(f"num_members: expected an integer >= 1, got {result.num_members!r}")
    bits = events.nats_to_bits_per_dim(float(result.nats), result.event)
    if not math.isclose(bits, result.bits_per_dim, rel_tol=1e-4, abs_tol=1e-6):
        raise ValueError(
            f"bits_per_dim: expected {bits:.6g} for {result.nats:.6g} nats, "
            f"got {result.bits_per_dim:.6g}"
        )


def _read_config(path: Path) -> Mapping[str, Any]:
    try:
        config = yaml.safe_load(path.read_text())
    except FileNotFoundError as error:
        raise UserError(f"{path}: missing; train the experiment first") from error
    except (OSError, yaml.YAMLError) as error:
        raise UserError(f"{path}: expected YAML, got {error}") from error
    if not isinstance(config, dict) or "event" not in config:
        raise UserError(f"{path}: expected a mapping with an event")
    return config


def build_report(dataset: str) -> Report:
    """Put a dataset's results beside the published ones.

    An experiment names its counterpart in its config, `evaluation.published: {model, variant}`.

    Raises:
        UserError: for missing or malformed files, or a counterpart that is not published.
    """
    results = sorted(read_results(dataset), key=lambda result: (result.value, result.experiment))
    name = read_json(paths.shards(dataset) / "manifest.json").get("published_name")
    units = {result.unit for result in results}
    if len(units) > 1 or len({result.event for result in results}) > 1:
        raise UserError(f"evaluation/{dataset}: its experiments differ in unit or event")
    unit, event = results[0].unit, results[0].event
    published = published_for(name)
    rows = []
    for result in results:
        row = None
        if result.published is not None:
            where = f"{result.experiment}: evaluation.published"
            row = match(published, result.published, where)
        value = None if row is None else row.nll(unit, event)
        rows.append(Row(result=result, published=row, published_value=value))
    ours = {row.published for row in rows}
    context = [(row, row.nll(unit, event)) for row in published if row not in ours]
    context.sort(
        key=lambda item: (not item[0].comparable, math.inf if item[1] is None else item[1])
    )
    return Report(
        dataset=dataset,
        published_name=name,
        unit=unit,
        rows=tuple(rows),
        context=tuple(context),
    )


def with_error(value: float, stderr: float, exact: bool = True) -> str:
    """Print a value and its standard error; "<=" marks a bound.

    Example:
        >>> with_error(88.4567, 0.2134), with_error(1.23456, 0.0042, exact=False)
        ('88.46 ± 0.21', '<= 1.2346 ± 0.0042')
    """
    digits = 2
    if 0 < stderr < 0.1:
        digits = min(4, 1 - math.floor(math.log10(stderr)))
    return f"{'' if exact else '<= '}{value:.{digits}f} ± {stderr:.{digits}f}"


def duration(seconds: float | None) -> str:
    """Print a duration.

    Example:
        >>> duration(41.26), duration(754), duration(4000)
        ('41 s', '12.6 min', '1.1 h')
    """
    if seconds is None:
        return "-"
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.1f} min" if seconds < 3600 else f"{seconds / 3600:.1f} h"


def published_text(row: PublishedResult, value: float | None) -> str:
    """Print a published value in the dataset's unit, or as it is if it has no such unit."""
    if value is None:
        text = f"{row.value:g} {row.metric}"
    else:
        text = f"{value:.2f}"
    return f"{row.sign} {text}".strip()


def our_table(report: Report) -> tuple[list[str], list[list[str]]]:
    """Return the header and cells of our rows, as text."""
    other = next(unit for unit in UNITS if unit != report.unit)
    header = ["experiment", "model", "settings", "members", f"test ({UNITS[report.unit]})"]
    header += [f"test ({UNITS[other]})", "parameters", "train time", "device"]
    header += ["published", "difference", "source"]
    digits = 2 if report.unit == "nats" else 3
    cells = []
    for row in report.rows:
        result, published = row.result, row.published
        both = {
            "nats": with_error(result.nats, result.nats_stderr, result.exact),
            "bits_per_dim": with_error(
                result.bits_per_dim, result.bits_per_dim_stderr, result.exact
            ),
        }
        count = "-" if result.num_parameters is None else f"{result.num_parameters:,}"
        line = [result.experiment, result.model, result.settings, result.members]
        line += [
            both[report.unit],
            both[other],
            count,
            duration(result.train_seconds),
            result.device or "-",
        ]
        if published is None:
            line += ["-", "-", "-"]
        else:
            unconfirmed = " (unconfirmed)" if published.verified == "memory" else ""
            line += [
                published_text(published, row.published_value) + unconfirmed,
                "-" if row.difference is None else f"{row.difference:+.{digits}f}",
                f"{published.label}: {published.source} [{published.status}]",
            ]
        cells.append(line)
    return header, cells


def context_table(report: Report) -> tuple[list[str], list[list[str]]]:
    """Return the header and cells of the published rows without a counterpart of ours."""
    header = ["model", f"published ({UNITS[report.unit]})", "status", "source"]
    return header, [
        [row.label, published_text(row, value), row.status, row.source]
        for row, value in report.context
    ]


def nothing_published(report: Report) -> str:
    """Say why a report has no context rows."""
    if report.published_name is None or not published_for(report.published_name):
        return f"No published results for {report.dataset}."
    return "Every published result on record has a counterpart above."


def markdown(report: Report) -> str:
    """Render a report as Markdown."""
    unit = UNITS[report.unit]
    parts = [
        f"# {report.dataset}\n",
        f"Test split, {unit}, lower is better; ± is one standard error of the mean. "
        "Difference is ours minus published.\n",
        markdown_table(*our_table(report)),
        "## Published results of models that are not matched above\n",
    ]
    if report.context:
        parts.append(markdown_table(*context_table(report)))
    else:
        parts.append(nothing_published(report) + "\n")
    return "\n".join(parts)


def markdown_table(header: Sequence[str], cells: Sequence[Sequence[str]]) -> str:
    """Render a Markdown table with aligned columns."""
    rows = [[cell.replace("|", "\\|") for cell in row] for row in (header, *cells)]
    widths = [max(len(row[i]) for row in rows) for i in range(len(header))]
    padded = [[c.ljust(w) for c, w in zip(row, widths, strict=True)] for row in rows]
    lines = [f"| {' | '.join(row)} |" for row in padded]
    lines.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return "\n".join(lines) + "\n"


def csv_rows(report: Report) -> list[dict[str, Any]]:
    """Return every row as raw numbers, ours and then the published ones.

    `nats` and `bits_per_dim` are both given; `published_value` and `difference` are in `unit`.
    """
    rows: list[dict[str, Any]] = []
    for row in report.rows:
        result, published = row.result, row.published
        rows.append(
            {
                "kind": "ours",
                "experiment": result.experiment,
                "model": result.model,
                "num_members": result.num_members,
                "relation": "exact" if result.exact else "upper_bound",
                "nats": result.nats,
                "nats_stderr": result.nats_stderr,
                "bits_per_dim": result.bits_per_dim,
                "bits_per_dim_stderr": result.bits_per_dim_stderr,
                "num_rows": result.num_rows,
                "num_parameters": result.num_parameters,
                "train_seconds": result.train_seconds,
                "device": result.device,
                "split": "test",
                "published": published.label if published else None,
                "published_value": row.published_value,
                "difference": row.difference,
                "source": published.source if published else None,
                "status": published.status if published else None,
            }
        )
    event = report.rows[0].result.event
    for other, _ in report.context:
        rows.append(
            {
                "kind": "published",
                "model": other.model,
                "variant": other.variant,
                "relation": other.relation,
                "nats": other.nll("nats", event),
                "bits_per_dim": other.nll("bits_per_dim", event),
                "split": other.split,
                "source": other.source,
                "status": other.status,
            }
        )
    columns = list(dict.fromkeys(key for row in rows for key in row))
    head = {"dataset": report.dataset, "unit": report.unit}
    return [{**head, **{column: row.get(column) for column in columns}} for row in rows]


def csv_text(report: Report) -> str:
    """Render a report as CSV, numbers raw (see `csv_rows`)."""
    rows = csv_rows(report)
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def show(datasets: Iterable[str] = ()) -> str:
    """Return the tables of existing reports, aligned for a terminal (sources left out).

    Arguments:
        datasets: which; all under `reports/` if empty.

    Raises:
        UserError: if one has no report.
    """
    existing = (paths.root() / "reports").glob("*/table.md")
    names = list(datasets) or sorted(path.parent.name for path in existing)
    if not names:
        raise UserError("reports: none yet; run `make repro` or `dvc repro`")
    shown = []
    for name in names:
        path = paths.report(name) / "table.md"
        if not path.is_file():
            raise UserError(f"{path}: missing; run `python -m stages.report {name}`")
        shown.append(_terminal(path.read_text(), path))
    return "\n\n".join(shown)


def _terminal(text: str, path: Path) -> str:
    lines: list[str] = []
    table: list[list[str]] = []
    for line in [*text.splitlines(), ""]:
        if line.startswith("|"):
            cells = re.split(r"(?<!\\)\|", line)[1:-1]
            if not set(line) <= set("|-"):
                table.append([cell.strip().replace("\\|", "|") for cell in cells])
            continue
        if table:
            first = not any(row.startswith("  ") for row in lines)
            kept = table if first else table[: 1 + TERMINAL_CONTEXT_ROWS]
            lines += _aligned(kept)
            if len(kept) < len(table):
                lines.append(f"  ... and {len(table) - len(kept)} more in {path}")
            table = []
        if line:
            lines.append(line.lstrip("# "))
    return "\n".join(lines)


def _aligned(table: list[list[str]]) -> list[str]:
    keep = [i for i, name in enumerate(table[0]) if name != "source"]
    widths = [max(len(row[i]) for row in table) for i in keep]
    rows = [
        "  " + "  ".join(row[i].ljust(w) for i, w in zip(keep, widths, strict=True)).rstrip()
        for row in table
    ]
    return [rows[0], "  " + "-" * (max(map(len, rows)) - 2), *rows[1:]]
