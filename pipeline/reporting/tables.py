"""A report as text: Markdown, CSV, and aligned for a terminal."""

from __future__ import annotations

import csv
import io
import re
import textwrap
from collections.abc import Iterable, Sequence
from pathlib import Path

from arcore.events import Event, is_gray, is_real
from pipeline.core import paths
from pipeline.core.errors import UserError
from pipeline.datasets import catalog
from pipeline.evaluation.results import CodecResult
from pipeline.reporting import origins, wording
from pipeline.reporting.comparison import Report, Row
from pipeline.reporting.published import PublishedResult, published_for
from pipeline.reporting.wording import UNITS, with_error

TERMINAL_CONTEXT_ROWS = 8
TERMINAL_WIDTH = 120
TERMINAL_LEAVES_OUT = (
    "source",
    "device",
    "coding",
    "settings",
    "model",
    "parameters",
    "difference",
    "coded",
)


def published_text(row: PublishedResult, value: float | None) -> str:
    """Print a published value in the dataset's unit, or as it is if it has no such unit."""
    if value is None:
        text = f"{row.value:g} {row.metric}"
    else:
        text = wording.rounded(value, 2)
    return f"{row.sign} {text}".strip()


def our_table(report: Report) -> tuple[list[str], list[list[str]]]:
    """Return the header and cells of our rows and those of codecs, best first, as text."""
    bounded = any(row.result.excess is not None for row in report.rows)
    header = ["experiment", "model", "settings", "members", f"test ({UNITS[report.unit]})"]
    header += ["entropy bound", "above it"] if bounded else []
    header += [f"test ({UNITS[other_unit(report)]})"]
    header += ["coded", "coding"] if report.is_coded else []
    header += ["parameters", "train time", "device"]
    header += ["published", "difference", "source"]
    cells = []
    for row in report.measured:
        if isinstance(row, CodecResult):
            line = _codec_cells(row, report, bounded)
            cells.append(line + ["-"] * (len(header) - len(line)))
        else:
            cells.append(_our_cells(row, report, bounded) + published_cells(row, report.unit))
    return header, cells


def other_unit(report: Report) -> str:
    """Return the unit of the second column of test values."""
    return next(unit for unit in UNITS if unit != report.unit)


def _codec_cells(codec: CodecResult, report: Report, bounded: bool) -> list[str]:
    score = codec.score
    main, other = (
        with_error(score.value_in(unit, report.event), score.stderr_in(unit, report.event))
        for unit in (report.unit, other_unit(report))
    )
    line = [codec.label, codec.kind, codec.settings, "-", main]
    return [*line, *(["-", "-"] if bounded else []), other]


def _our_cells(row: Row, report: Report, bounded: bool) -> list[str]:
    result = row.result
    return [
        result.experiment,
        result.model,
        wording.settings(row.evaluated),
        wording.members(result, row.num_averaged),
        row.text_in(report.unit) + wording.rows_scored(result),
        *(wording.entropy_and_excess(row.evaluated) if bounded else ()),
        row.text_in(other_unit(report)),
        *(wording.coded(result, row.evaluated.event, report.unit) if report.is_coded else ()),
        "-" if result.num_parameters is None else f"{result.num_parameters:,}",
        wording.duration(result.train_seconds),
        result.device or "-",
    ]


def published_cells(row: Row, unit: str) -> list[str]:
    """Return the published value of a row's counterpart, the difference from it, and its source."""
    published = row.published
    if published is None:
        return ["-", "-", "-"]
    unconfirmed = " (unconfirmed)" if published.verified == "memory" else ""
    digits = 3 if unit in ("bits_per_dim", "nats_per_dim") else 2
    return [
        published_text(published, row.published_value) + unconfirmed,
        "-" if row.difference is None else _signed(row.difference, digits),
        f"{published.label}: {published.source} [{published.status}]",
    ]


def _signed(difference: float, digits: int) -> str:
    text = wording.rounded(difference, digits)
    return text if text.startswith("-") else f"+{text}"


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


def introduction(report: Report, differences: bool = True) -> str:
    """Say what the table's columns are.

    Arguments:
        report: whose table it is.
        differences: whether it has a column of differences from published values.
    """
    text = (
        f"Test split, {UNITS[report.unit]}, lower is better; ± is one standard error of the mean."
    )
    if differences:
        text += " Difference is ours minus published."
    if any(row.result.num_folds > 1 for row in report.rows):
        text += " Rows over folds give the mean over them, and its standard error over folds."
    if any(row.sign_in(report.unit) for row in report.rows):
        text += (
            " <= is an upper bound on the negative log-likelihood (a lower one on the likelihood), "
            "~ an importance-weighted estimate, itself above the true value on average (all rows' "
            "bound, less what it gains on the rows that it was made of)."
        )
    bounds = [
        f"{wording.short_name(row.result.experiment, report.dataset)}: "
        f"{wording.levels(row.result.bound)}"
        for row in report.rows
        if row.result.bound is not None and not row.approximate
    ]
    if bounds:
        text += f" What each level of a bound costs in nats: {'. '.join(bounds)}."
    context = report.rows[0].result.context_frames
    if context:
        text += (
            f" The first {context} frames of a clip are given; those after them are scored, each "
            "given the true frames before it."
        )
    if is_gray(report.event):
        text += (
            " Gray levels are targets of Bernoulli conditionals: values are cross-entropies, no "
            "likelihoods, and the entropy bound is what the same targets cost at least."
        )
    if is_real(report.event):
        text += " Nats are of a density, so that they may be negative."
    if any(row.kind != "codec" for row in report.codecs):
        text += (
            " Bits are of all real samples, padding never counts. Baselines are simple models "
            "fitted to the training split, codecs code each sound as a file of its own, all bytes "
            "counted."
        )
        if any(row.kind == "entropy" for row in report.codecs):
            text += (
                " The source itself is what drew the data: no model is better but by chance. The "
                "entropy bound is what the rows that were scored cost under it."
            )
    elif report.codecs and context:
        text += (
            " Codecs are lossless ones of video on the same clips, each clip a stream of its own "
            "or all as one, packets of the given frames not counted."
        )
    elif report.codecs:
        text += (
            " Codecs are general lossless ones on the same images, each image a file of its own or "
            "all as one mosaic, all bytes counted."
        )
    if report.is_coded:
        text += (
            f" Coded is the size, in {UNITS[report.unit]}, of all scored rows as one file that "
            "arcore.coding reads, and what it is above the test value; coding is its speed. Some "
            "hundred bytes are the header, which few rows feel; no level costs more than 24 bits, "
            "so that a model that gives some far less may be coded below its test value."
        )
    return text


def markdown(report: Report) -> str:
    """Render a report as Markdown."""
    parts = [
        f"# {_escape(report.dataset)}\n",
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
    rows = [[_escape(cell) for cell in row] for row in (header, *cells)]
    widths = [max(len(row[i]) for row in rows) for i in range(len(header))]
    padded = [[c.ljust(w) for c, w in zip(row, widths, strict=True)] for row in rows]
    lines = [f"| {' | '.join(row)} |" for row in padded]
    lines.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return "\n".join(lines) + "\n"


def _escape(cell: str) -> str:
    """Keep a cell's text from being read as a border, a line break or HTML; "<=" is none.

    Example:
        >>> _escape("<= 1 <b>"), _unescape(_escape("<= 1 | <b>"))
        ('<= 1 &lt;b>', '<= 1 | <b>')
    """
    plain = " ".join(cell.split()).replace("|", "\\|")
    return re.sub(r"<(?=[A-Za-z/!?])", "&lt;", plain)


def _unescape(cell: str) -> str:
    return cell.strip().replace("\\|", "|").replace("&lt;", "<")


def csv_rows(report: Report) -> list[dict[str, object]]:
    """Return every row as raw numbers: ours and codecs, best first, and then the published ones.

    `nats` and `bits_per_dim` are both given; `value`, its standard error, `published_value` and
    `difference` are in `unit`. Relations are of costs, as values are.
    """
    rows = [
        _codec_row(row, report) if isinstance(row, CodecResult) else _our_row(row, report.unit)
        for row in report.measured
    ]
    rows += [_published_row(row, value, report.event) for row, value in report.context]
    columns = list(dict.fromkeys(key for row in rows for key in row))
    head: dict[str, object] = {"dataset": report.dataset, "unit": report.unit}
    return [head | {column: row.get(column) for column in columns} for row in rows]


def _codec_row(codec: CodecResult, report: Report) -> dict[str, object]:
    return {
        "kind": codec.kind,
        "model": codec.label,
        "variant": codec.settings,
        "relation": "exact",
        "value": report.codec_value(codec),
        "value_stderr": codec.score.stderr_in(report.unit, report.event),
        **codec.score.to_dict(),
        "num_rows": codec.num_rows,
        "split": "test",
    }


def _our_row(row: Row, unit: str) -> dict[str, object]:
    result, published, excess = row.result, row.published, row.result.excess
    found: dict[str, object] = {
        "kind": "ours",
        "experiment": result.experiment,
        "model": result.model,
        "conditional": wording.is_conditional(row.evaluated),
        "num_members": result.num_members,
        "relation": row.relation_in(unit),
        "value": row.value,
        "value_stderr": result.score.stderr_in(unit, row.evaluated.event),
        **result.score.to_dict(),
        "num_rows": result.num_rows,
        "num_split_rows": result.num_split_rows,
        "num_parameters": result.num_parameters,
        "train_seconds": result.train_seconds,
        "device": result.device,
        "split": result.split,
        "published": published.label if published else None,
        "published_value": row.published_value,
        "published_relation": published.nll_relation if published else None,
        "difference": row.difference,
        "source": published.source if published else None,
        "status": published.status if published else None,
        "commit": origins.commit_of(row),
        "dataset_sha256": row.evaluated.config.dataset_sha256,
    }
    if excess is not None:
        found |= {"context_frames": result.context_frames, **vars(excess)}
    return found


def _published_row(row: PublishedResult, value: float | None, event: Event) -> dict[str, object]:
    return {
        "kind": "published",
        "model": row.model,
        "variant": row.variant,
        "relation": row.nll_relation,
        "value": value,
        "nats": row.nll("nats", event),
        "bits_per_dim": row.nll("bits_per_dim", event),
        "split": row.split,
        "source": row.source,
        "status": row.status,
    }


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
        UserError: if one has no report, or is unknown.
    """
    existing = (paths.root() / "reports").glob("[!.]*/table.md")
    names = list(datasets) or sorted(path.parent.name for path in existing)
    if not names:
        raise UserError("reports: none yet; run `make repro` or `dvc repro`")
    shown = []
    for name in names:
        path = paths.report(name) / "table.md"
        if not path.is_file():
            catalog.load_config(name)  # an unknown one is named, with what is near it
            raise UserError(f"{path}: missing; run `python -m stages.report {name}`")
        shown.append(_terminal(path.read_text(encoding="utf-8"), path))
    return "\n\n".join(shown)


def _terminal(text: str, path: Path) -> str:
    lines: list[str] = []
    table: list[list[str]] = []
    for line in [*text.splitlines(), ""]:
        if line.startswith("|"):
            cells = re.split(r"(?<!\\)\|", line)[1:-1]
            if not set(line) <= set("|-"):
                table.append([_unescape(cell) for cell in cells])
            continue
        if table:
            first = not any(row.startswith("  ") for row in lines)
            kept = table if first else table[: 1 + TERMINAL_CONTEXT_ROWS]
            lines += aligned(fitting(kept))
            if len(kept) < len(table):
                lines.append(
                    f"  ... and {len(table) - len(kept)} more in {path.relative_to(paths.root())}"
                )
            table = []
        if line:
            lines += textwrap.wrap(line.lstrip("# "), TERMINAL_WIDTH)
    return "\n".join(lines)


def fitting(table: list[list[str]]) -> list[list[str]]:
    """Leave columns out that say nothing, then others, until a terminal's width is enough.

    Example:
        >>> fitting([["experiment", "device", "test"], ["made", "a" * 99, "1" * 20]])
        [['experiment', 'test'], ['made', '11111111111111111111']]
    """
    columns = [list(column) for column in zip(*table, strict=True)]
    columns = [column for column in columns if set(column[1:]) != {"-"}]
    units = [column[0] for column in columns if column[0].startswith("test (")]
    for name in (*TERMINAL_LEAVES_OUT, *units[1:]):
        if sum(2 + max(map(len, column)) for column in columns) <= TERMINAL_WIDTH:
            break
        columns = [column for column in columns if column[0] != name]
    return [list(row) for row in zip(*columns, strict=True)]


def aligned(table: list[list[str]]) -> list[str]:
    """Return the lines of a table as a terminal shows them, its sources left out."""
    keep = [i for i, name in enumerate(table[0]) if name != "source"]
    widths = [max(len(row[i]) for row in table) for i in keep]
    rows = [
        "  " + "  ".join(row[i].ljust(w) for i, w in zip(keep, widths, strict=True)).rstrip()
        for row in table
    ]
    return [rows[0], "  " + "-" * (max(map(len, rows)) - 2), *rows[1:]]
