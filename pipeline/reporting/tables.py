"""Tables of texts, made of the table of numbers: what Markdown, the terminal and pages show."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pandas as pd

from arcore.events import is_gray, is_real
from pipeline.reporting import numbers, templates, wording
from pipeline.reporting.comparison import Report
from pipeline.reporting.published import published_for
from pipeline.reporting.wording import SIGNS, UNITS, rounded, with_error

PER_DIM = ("bits_per_dim", "nats_per_dim")
NONE = "-"


def value_column(unit: str) -> str:
    """Return the name of the column of test values in a unit."""
    return f"test ({UNITS[unit]})"


def results(frame: pd.DataFrame) -> pd.DataFrame:
    """Return a row of texts for each experiment and codec; columns that say nothing are left out.

    Arguments:
        frame: of `numbers`.
    """
    measured = frame[frame["kind"] != "published"]
    units = list(dict.fromkeys(measured.loc[measured["quantity"] == numbers.TEST, "unit"]))
    rows = [_cells(group) for _, group in measured.groupby("experiment", sort=False)]
    main, *others = map(value_column, units)
    columns = ["experiment", "model", "settings", "members", "condition", main]
    columns += [numbers.ENTROPY, numbers.ABOVE, *others, numbers.CODED, numbers.CODING]
    columns += [numbers.PARAMETERS, numbers.SECONDS, "device"]
    columns += ["published", "difference", "source"]
    table = pd.DataFrame(rows).reindex(columns=columns).fillna(NONE)
    return table.loc[:, [name for name in columns if (table[name] != NONE).any()]]


def _cells(group: pd.DataFrame) -> dict[str, str]:
    """Return the texts of one experiment by column."""
    first, texts = group.iloc[0], {}
    by_quantity = {one["quantity"]: one for _, one in group.iterrows()}
    for _, one in group.iterrows():
        name = value_column(one["unit"]) if one["quantity"] == numbers.TEST else one["quantity"]
        texts[name] = number_text(one)
    texts[value_column(first["unit"])] += _in_parentheses(scored_of(first))
    if numbers.CODED in texts:
        texts[numbers.CODED] += f" ({texts.pop(numbers.CODED_ABOVE)})"
    combined = wording.is_combined(first["model"])
    if combined and numbers.SECONDS in by_quantity:
        texts[numbers.SECONDS] += ", members"
    texts |= {name: first[name] for name in ("experiment", "model", "settings", "members")}
    texts["condition"] = first["condition"] or NONE
    texts["device"] = first["device"] if first["device"] and not combined else NONE
    return texts | _published_cells(first)


def scored_of(one: pd.Series) -> str:
    """Say how many rows of the split were scored, "" for all."""
    rows, split_rows = (None if pd.isna(one[key]) else one[key] for key in ("rows", "split_rows"))
    return "" if one["kind"] != "ours" else wording.rows_scored(rows, split_rows)


def _in_parentheses(text: str) -> str:
    return f" ({text})" if text else ""


def number_text(one: pd.Series) -> str:
    """Print a number in the way of its quantity."""
    value, error, unit = one["value"], one["error"], one["unit"]
    match one["quantity"]:
        case numbers.TEST | numbers.ABOVE:
            return with_error(value, error, SIGNS[one["relation"]])
        case numbers.ENTROPY:
            return rounded(value, 3 if unit == "bits_per_dim" else 2)
        case numbers.CODED:
            return rounded(value, 4 if unit in PER_DIM else 2)
        case numbers.CODED_ABOVE:
            return f"{_signed(value, 2)} %"
        case numbers.CODING:
            return f"{wording.speed(value)} rows/s"
        case numbers.PARAMETERS:
            return f"{int(value):,}"
        case numbers.SECONDS:
            return wording.duration(value)
    return f"{value:g} {unit}"


def _published_cells(first: pd.Series) -> dict[str, str]:
    if not first["published_by"]:
        return {}
    digits = 3 if first["unit"] in PER_DIM else 2
    difference = first["difference"]
    return {
        "published": published_text(first),
        "difference": NONE if pd.isna(difference) else _signed(difference, digits),
        "source": f"{first['published_by']}: {first['source']} [{first['status']}]",
    }


def published_text(one: pd.Series) -> str:
    """Print the published value of a row, or a published row itself."""
    itself = one["kind"] == "published"
    value, unit, relation = (
        one[key]
        for key in (
            ("value", "unit", "relation")
            if itself
            else ("published", "published_unit", "published_relation")
        )
    )
    text = rounded(value, 2) if unit in UNITS else f"{value:g} {unit}"
    doubt = " (unconfirmed)" if one["status"].startswith("unconfirmed") and not itself else ""
    return f"{SIGNS[relation]} {text}".strip() + doubt


def _signed(value: float, digits: int) -> str:
    text = rounded(value, digits)
    return text if text.startswith("-") else f"+{text}"


def published(frame: pd.DataFrame) -> pd.DataFrame:
    """Return a row of texts for each published result that none of ours is matched with."""
    context = frame[frame["kind"] == "published"]
    rows = [
        (one["experiment"], published_text(one), one["status"], one["source"])
        for _, one in context.iterrows()
    ]
    unit = UNITS[numbers.main_unit(frame)]
    return pd.DataFrame(rows, columns=["model", f"published ({unit})", "status", "source"])


def nothing_published(report: Report) -> str:
    """Say why a report has no table of published results."""
    if report.published_name is None or not published_for(report.published_name):
        return f"No published results for {report.dataset}."
    return "Every recorded published result has a counterpart above."


def legend(report: Report, columns: Sequence[str]) -> str:
    """Say how a table of results is read.

    Arguments:
        report: that the table is of.
        columns: that the table has.
    """
    text = templates.render(
        templates.LEGEND,
        unit=UNITS[report.unit],
        columns=columns,
        folds=any(row.result.num_folds > 1 for row in report.rows),
        bounded=any(row.relation_in(report.unit) != "exact" for row in report.rows),
        levels=list(_levels(report)),
        context_frames=report.rows[0].result.context_frames,
        gray=is_gray(report.event),
        real=is_real(report.event),
        kinds={codec.kind for codec in report.codecs},
    )
    return " ".join(text.split())


def _levels(report: Report) -> Iterator[str]:
    """Yield what each level of a bound costs, for each of ours that has levels."""
    for row in report.rows:
        if row.result.bound is not None and not row.approximate:
            name = wording.short_name(row.result.experiment, report.dataset)
            yield f"{name}: {wording.levels(row.result.bound)}"


def markdown(report: Report, frame: pd.DataFrame) -> str:
    """Render a report and its numbers as Markdown."""
    shown, context = results(frame), published(frame)
    return templates.render(
        templates.MARKDOWN,
        dataset=report.dataset,
        legend=legend(report, list(shown)),
        results=markdown_table(list(shown), shown.values.tolist()),
        published=markdown_table(list(context), context.values.tolist()) if len(context) else "",
        nothing_published=nothing_published(report),
    )


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Render a Markdown table with aligned columns."""
    lines = [[templates.markdown_text(cell) for cell in row] for row in (header, *rows)]
    widths = _widths(lines)
    texts = [f"| {' | '.join(_padded(line, widths))} |" for line in lines]
    texts.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return "\n".join(texts)


def plain_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Render an indented table of aligned columns, for a terminal or a block of text."""
    widths = _widths([header, *rows])
    texts = ["  " + "  ".join(_padded(line, widths)).rstrip() for line in (header, *rows)]
    texts.insert(1, "  " + "-" * (max(map(len, texts)) - 2))
    return "\n".join(texts)


def _widths(lines: Sequence[Sequence[str]]) -> list[int]:
    return [max(map(len, column)) for column in zip(*lines, strict=True)]


def _padded(line: Sequence[str], widths: Sequence[int]) -> list[str]:
    return [cell.ljust(width) for cell, width in zip(line, widths, strict=True)]
