"""A report as Markdown."""

from __future__ import annotations

import re
from collections.abc import Sequence

from arcore.events import is_gray, is_real
from pipeline.evaluation.results import CodecResult
from pipeline.reporting import wording
from pipeline.reporting.comparison import Report, Row
from pipeline.reporting.published import PublishedResult, published_for
from pipeline.reporting.wording import UNITS, with_error


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
        wording.trained(result),
        result.device if result.device and not wording.is_combined(result) else "-",
    ]


def published_cells(row: Row, unit: str) -> list[str]:
    """Return the published value of a row's counterpart, the difference from it, and its source."""
    published = row.published
    if published is None:
        return ["-", "-", "-"]
    digits = 3 if unit in ("bits_per_dim", "nats_per_dim") else 2
    return [
        published_text(published, row.published_value) + published.doubt,
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
        >>> _escape("<= 1 <b>"), unescape(_escape("<= 1 | <b>"))
        ('<= 1 &lt;b>', '<= 1 | <b>')
    """
    plain = " ".join(cell.split()).replace("|", "\\|")
    return re.sub(r"<(?=[A-Za-z/!?])", "&lt;", plain)


def unescape(cell: str) -> str:
    """Return what `markdown_table` made a cell of, spaces at its ends left out."""
    return cell.strip().replace("\\|", "|").replace("&lt;", "<")
