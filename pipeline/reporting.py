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
from pipeline.published import SIGNS, PublishedResult, match, published_for

UNITS = {
    "nats": "nats",
    "bits_per_dim": "bits/dim",
    "nats_per_frame": "nats/frame",
    "nats_per_dim": "nats/dim",
}
TERMINAL_CONTEXT_ROWS = 8
_VALUES = ("nats", "nats_stderr", "bits_per_dim", "bits_per_dim_stderr")


@dataclass(frozen=True, kw_only=True)
class Result:
    """What `evaluate` measured of one experiment, with the config of its model.

    Attributes:
        num_members: 1 for a single model, else an ensemble of so many.
        unit: the dataset's, one of `UNITS`; nats (per scored event) and bits are given.
        nats_stderr, bits_per_dim_stderr: standard errors of the mean over `num_rows` rows, of the
            `num_split_rows` of the test split if that is known.
        device: of the training, as far as it is known.
        published: `{model, variant}` of the published counterpart.
        member_nats, member_nats_stderr: what a member of an ensemble scores, averaged over them.
        published_member: `{model, variant}` of a member's counterpart.
        num_averaged: above 1, the values are the mean over so many single models.
        exact: False where the number only bounds the negative log-likelihood from above.
        nats_importance_weighted, nats_importance_weighted_stderr: an estimate, below the bound, of
            `importance_samples` samples a row on `importance_rows` rows, where one was made.
        published_importance: `{model, variant}` of the estimate's counterpart.
        approximate: whether the values are that estimate.
        num_folds: above 1, the mean over so many folds; standard errors are over folds then.
        config: the content of the model's `config.yaml`.
        context_frames: frames of a clip that were given.
        entropy_nats: the least nats that gray targets allow, where they are gray.
        excess_nats, excess_nats_stderr: nats above that.
        event: what is scored.
        mean_size: mean D of the rows, for events of open length.
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
    num_split_rows: int | None
    member_nats: float | None
    member_nats_stderr: float | None
    published_member: Mapping[str, Any] | None
    num_averaged: int = 1
    exact: bool
    nats_importance_weighted: float | None
    nats_importance_weighted_stderr: float | None
    importance_samples: int | None
    importance_rows: int | None
    published_importance: Mapping[str, Any] | None
    approximate: bool = False
    num_folds: int
    valid_nats: float | None
    num_parameters: int | None
    train_seconds: float | None
    device: str | None
    published: Mapping[str, Any] | None
    context_frames: int
    entropy_nats: float | None
    excess_nats: float | None
    excess_nats_stderr: float | None
    config: Mapping[str, Any] = field(repr=False)
    event: events.Event
    mean_size: float | None = None
    folder: Path

    @property
    def value(self) -> float:
        """The test value in the dataset's unit."""
        return self.value_in(self.unit)

    def value_in(self, unit: str) -> float:
        """Return the test value in a unit."""
        return self.bits_per_dim if unit == "bits_per_dim" else self._in(unit, self.nats)

    def stderr_in(self, unit: str) -> float:
        """Return the test value's standard error in a unit."""
        if unit == "bits_per_dim":
            return self.bits_per_dim_stderr
        return self._in(unit, self.nats_stderr)

    def _in(self, unit: str, nats: float) -> float:
        return events.nats_to(unit, nats, self.event, difference=True)

    @property
    def bound(self) -> tuple[str, str]:
        """In words and the dataset's unit: the entropy bound, and how far the value is above it."""
        entropy, excess, error = self.entropy_nats, self.excess_nats, self.excess_nats_stderr
        if entropy is None or excess is None or error is None:
            return "-", "-"
        return (
            f"{self._in(self.unit, entropy):.2f}",
            with_error(self._in(self.unit, excess), self._in(self.unit, error)),
        )

    def exact_in(self, unit: str) -> bool:
        """Whether the value in a unit is exact: bits of dequantised levels are only bounded."""
        width = self.event.bin_width if isinstance(self.event, events.Real) else None
        return self.exact and (unit == "nats" or width is None)

    def relation_in(self, unit: str) -> str:
        """Say as in `published_results.yaml` what the value in a unit is to the true one."""
        if self.approximate:
            return "approx"
        return "exact" if self.exact_in(unit) else "upper_bound"

    def sign_in(self, unit: str) -> str:
        """What precedes the value in a unit: nothing, <= or ~."""
        return SIGNS[self.relation_in(unit)]

    @property
    def members(self) -> str:
        """In words: one, or an ensemble of so many; of each fold, where there are several."""
        members = "one" if self.num_members == 1 else f"ensemble of {self.num_members}"
        if self.num_averaged > 1:
            members = f"one (mean of {self.num_averaged})"
        return members if self.num_folds == 1 else f"{members} for each of {self.num_folds} folds"

    @property
    def rows(self) -> str:
        """In words: nothing where the whole test split was scored, else how much of it."""
        if self.num_split_rows is None or self.num_rows >= self.num_split_rows:
            return ""
        return f" ({self.num_rows:,} of {self.num_split_rows:,} rows)"

    def of_member(self) -> Result:
        """Return what a member of this ensemble scores, averaged over them."""
        if self.member_nats is None or self.member_nats_stderr is None:
            raise UserError(
                f"{self.experiment}: evaluation.published_member: expected an ensemble, got "
                f"num_members {self.num_members}"
            )
        nats, error = self.member_nats, self.member_nats_stderr
        return dataclasses.replace(
            self,
            experiment=f"{self.experiment} (a member)",
            num_members=1,
            num_averaged=self.num_members,
            nats=nats,
            nats_stderr=error,
            bits_per_dim=events.nats_to_bits_per_dim(nats, self.event),
            bits_per_dim_stderr=events.nats_to_bits_per_dim(error, self.event, difference=True),
            valid_nats=None,
            published=self.published_member,
        )

    def of_importance(self) -> Result:
        """Return the importance-weighted estimate of this bound."""
        nats, error = self.nats_importance_weighted, self.nats_importance_weighted_stderr
        if nats is None or error is None:
            raise UserError(
                f"{self.experiment}: evaluation.published_importance: expected an estimate, which "
                "a model with latents has where evaluation.importance_samples is above 0"
            )
        return dataclasses.replace(
            self,
            experiment=f"{self.experiment} ({self.importance_samples:,} importance samples)",
            approximate=True,
            num_rows=self.importance_rows or self.num_rows,
            nats=nats,
            nats_stderr=error,
            bits_per_dim=events.nats_to_bits_per_dim(nats, self.event),
            bits_per_dim_stderr=events.nats_to_bits_per_dim(error, self.event, difference=True),
            valid_nats=None,
            published=self.published_importance,
        )

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
class CodecResult:
    """What stage `codecs` measured of one general lossless codec on the test images.

    Attributes:
        label: its name in tables, which says that it was measured here.
        settings: in words.
        unit: the dataset's unit; both values are given.
        nats_stderr, bits_per_dim_stderr: standard errors of the mean over `num_rows` images.
        kind: codec, baseline (a simple model of sounds), or entropy (of a known source).
        mean_size: mean D of the rows, for events of open length.
    """

    label: str
    settings: str
    unit: str
    nats: float
    nats_stderr: float
    bits_per_dim: float
    bits_per_dim_stderr: float
    num_rows: int
    kind: str = "codec"
    mean_size: float | None = None

    @property
    def value(self) -> float:
        """The test value in the dataset's unit."""
        return self.nats if self.unit == "nats" else self.bits_per_dim


@dataclass(frozen=True, kw_only=True)
class Report:
    """Everything that a dataset's table says.

    Attributes:
        rows: ours, best first.
        codecs: general codecs on the same images, best first; none for other data.
        context: published rows that none of ours is matched with, and their values in the
            dataset's unit (None where the metric is another quantity), best first; those that are
            no valid likelihood of the test split come last.
    """

    dataset: str
    published_name: str | None
    unit: str
    rows: tuple[Row, ...]
    codecs: tuple[CodecResult, ...]
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
    own = path.with_name("config.yaml")  # as an outcome over folds has, of whose models none stays
    config = _read_config(own if own.is_file() else paths.model(path.parent.name) / own.name)
    try:
        event = events.from_dict(config["event"])
        names = {item.name for item in dataclasses.fields(Result)} - {"config", "event", "folder"}
        names -= {"num_averaged", "approximate", "mean_size"}
        optional = ["valid_nats", "num_parameters", "train_seconds", "device", "num_split_rows"]
        optional += ["member_nats", "member_nats_stderr", "published_member"]
        optional += ["nats_importance_weighted", "nats_importance_weighted_stderr"]
        optional += ["importance_samples", "importance_rows", "published_importance"]
        optional += ["entropy_nats", "excess_nats", "excess_nats_stderr"]
        published = (config.get("evaluation") or {}).get("published")
        given: dict[str, Any] = {**dict.fromkeys(optional), "published": published}
        given |= {"exact": True, "num_folds": 1, "context_frames": 0} | metrics
        missing = names - set(given)
        if missing:
            raise ValueError(f"missing {', '.join(sorted(missing))}")
        values = {name: given[name] for name in names}
        event = events.after_frames(event, values["context_frames"])
        training = paths.model(path.parent.name) / "training.json"
        if training.is_file():
            values["device"] = read_json(training).get("device") or values["device"]
        size = given.get("mean_size")
        result = Result(**values, config=config, event=event, mean_size=size, folder=path.parent)
        _check(result)
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{path}: {error}") from error
    return result


def read_codecs(dataset: str, unit: str, event: events.Event) -> list[CodecResult]:
    """Read `codecs/<dataset>.json`, best first.

    Raises:
        UserError: if it is missing, malformed or of other data than the shards.
    """
    path = paths.codecs(dataset)
    if not path.is_file():
        raise UserError(f"{path}: missing; run `python -m stages.codecs {dataset}`")
    measured, manifest = read_json(path), read_json(paths.shards(dataset) / "manifest.json")
    expected, got = (
        str(found) for found in (manifest.get("sha256"), measured.get("dataset_sha256"))
    )
    if got != expected:
        raise UserError(
            f"{path}: expected measurements on the shards ({expected[:12]}), got {got[:12]}; "
            f"run `python -m stages.codecs {dataset}`"
        )
    optional = {"kind", "mean_size"}
    names = {item.name for item in dataclasses.fields(CodecResult)} - {"unit", *optional}
    results = []
    try:
        for entry in measured["codecs"]:
            given = {name: entry[name] for name in optional if name in entry}
            given |= {name: entry[name] for name in names}
            result = CodecResult(unit=unit, **given)
            _check_values(result, event)
            results.append(result)
    except KeyError as error:
        raise UserError(f"{path}: missing {error}") from error
    except (TypeError, ValueError) as error:
        raise UserError(f"{path}: {error}") from error
    return sorted(results, key=lambda result: (result.value, result.label))


def _check(result: Result) -> None:
    if result.unit not in UNITS:
        raise ValueError(f"unit: expected one of {list(UNITS)}, got {result.unit!r}")
    if not isinstance(result.num_members, int) or result.num_members < 1:
        raise ValueError(f"num_members: expected an integer >= 1, got {result.num_members!r}")
    _check_values(result, result.event)


def _check_values(result: Result | CodecResult, event: events.Event) -> None:
    for name in _VALUES:
        value = getattr(result, name)
        if isinstance(value, bool) or not isinstance(value, (int, float)) or math.isnan(value):
            raise ValueError(f"{name}: expected a number, got {value!r}")
    bits = events.nats_to_bits_per_dim(float(result.nats), event, size=result.mean_size)
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

    An experiment names its counterpart in its config, `evaluation.published: {model, variant}`, and
    an ensemble that of one member, `evaluation.published_member`, which gives it a second row. A
    bound has a second row for its importance-weighted estimate, where one was made.

    Raises:
        UserError: for missing or malformed files, or a counterpart that is not published.
    """
    read = read_results(dataset)
    members = [result.of_member() for result in read if result.published_member is not None]
    read += [
        result.of_importance()
        for result in read
        if result.nats_importance_weighted is not None or result.published_importance is not None
    ]
    read += members
    results = sorted(read, key=lambda result: (result.value, result.experiment))
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
        codecs=tuple(read_codecs(dataset, unit, event)),
        context=tuple(context),
    )


def with_error(value: float, stderr: float, sign: str = "") -> str:
    """Print a value and its standard error; "<=" marks a bound, "~" an estimate.

    Example:
        >>> with_error(88.4567, 0.2134), with_error(1.23456, 0.0042, "<=")
        ('88.46 ± 0.21', '<= 1.2346 ± 0.0042')
    """
    digits = 2
    if 0 < stderr < 0.1:
        digits = min(4, 1 - math.floor(math.log10(stderr)))
    return f"{sign} {value:.{digits}f} ± {stderr:.{digits}f}".lstrip()


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


def measured_rows(report: Report) -> list[Row | CodecResult]:
    """Return our rows and those of codecs as one list, best first."""
    return sorted(
        [*report.rows, *report.codecs],
        key=lambda row: row.value if isinstance(row, CodecResult) else row.result.value,
    )


def our_table(report: Report) -> tuple[list[str], list[list[str]]]:
    """Return the header and cells of our rows and those of codecs, best first, as text."""
    other = next(unit for unit in UNITS if unit != report.unit)
    bounded = any(row.result.entropy_nats is not None for row in report.rows)
    header = ["experiment", "model", "settings", "members", f"test ({UNITS[report.unit]})"]
    header += ["entropy bound", "above it"] if bounded else []
    header += [f"test ({UNITS[other]})", "parameters", "train time", "device"]
    header += ["published", "difference", "source"]
    digits = 3 if report.unit in ("bits_per_dim", "nats_per_dim") else 2
    cells = []
    for row in measured_rows(report):
        if isinstance(row, CodecResult):
            both = {
                "nats": with_error(row.nats, row.nats_stderr),
                "bits_per_dim": with_error(row.bits_per_dim, row.bits_per_dim_stderr),
            }
            line = [row.label, row.kind, row.settings, "-", both[report.unit], both[other]]
            cells.append(line + ["-"] * (len(header) - len(line)))
            continue
        result, published = row.result, row.published
        both = {
            unit: with_error(result.value_in(unit), result.stderr_in(unit), result.sign_in(unit))
            for unit in (report.unit, other)
        }
        count = "-" if result.num_parameters is None else f"{result.num_parameters:,}"
        line = [result.experiment, result.model, result.settings, result.members]
        line += [
            both[report.unit] + result.rows,
            *(result.bound if bounded else ()),
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


def introduction(report: Report) -> str:
    """Say what the table's columns are."""
    text = (
        f"Test split, {UNITS[report.unit]}, lower is better; ± is one standard error of the mean. "
        "Difference is ours minus published."
    )
    if any(row.result.num_folds > 1 for row in report.rows):
        text += " Rows over folds give the mean over them, and its standard error over folds."
    if not all(row.result.exact for row in report.rows):
        text += (
            " <= is an upper bound on the negative log-likelihood (a lower one on the likelihood), "
            "~ an importance-weighted estimate, itself above the true value on average."
        )
    context = report.rows[0].result.context_frames
    if context:
        text += (
            f" The first {context} frames of a clip are given; those after them are scored, each "
            "given the true frames before it."
        )
    if isinstance(report.rows[0].result.event, events.Gray):
        text += (
            " Gray levels are targets of Bernoulli conditionals: values are cross-entropies, no "
            "likelihoods, and the entropy bound is what the same targets cost at least."
        )
    if isinstance(report.rows[0].result.event, events.Real):
        text += " Nats are of a density, so that they may be negative."
    if any(row.kind != "codec" for row in report.codecs):
        text += (
            " Bits are of all real samples, padding never counts. Baselines are simple models "
            "fitted to the training split, codecs code each sound as a file of its own, all bytes "
            "counted."
        )
        if any(row.kind == "entropy" for row in report.codecs):
            text += " The source itself is what drew the data: no model is better but by chance."
    elif report.codecs:
        text += (
            " Codecs are general lossless ones on the same images, each image a file of its own, "
            "all bytes counted."
        )
    return text


def markdown(report: Report) -> str:
    """Render a report as Markdown."""
    parts = [
        f"# {report.dataset}\n",
        introduction(report) + "\n",
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
    """Return every row as raw numbers: ours and codecs, best first, and then the published ones.

    `nats` and `bits_per_dim` are both given; `published_value` and `difference` are in `unit`.
    """
    rows: list[dict[str, Any]] = []
    for row in measured_rows(report):
        if isinstance(row, CodecResult):
            values = {name: getattr(row, name) for name in (*_VALUES, "num_rows")}
            rows.append(
                {"kind": row.kind, "model": row.label, "variant": row.settings, "relation": "exact"}
                | values
                | {"split": "test"}
            )
            continue
        result, published = row.result, row.published
        rows.append(
            {
                "kind": "ours",
                "experiment": result.experiment,
                "model": result.model,
                "num_members": result.num_members,
                "relation": result.relation_in(report.unit),
                "nats": result.nats,
                "nats_stderr": result.nats_stderr,
                "bits_per_dim": result.bits_per_dim,
                "bits_per_dim_stderr": result.bits_per_dim_stderr,
                "num_rows": result.num_rows,
                "num_split_rows": result.num_split_rows,
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
        if result.entropy_nats is not None:
            names = ("context_frames", "entropy_nats", "excess_nats", "excess_nats_stderr")
            rows[-1] |= {name: getattr(result, name) for name in names}
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
