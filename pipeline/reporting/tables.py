"""Tables of texts, made of the table of numbers: what Markdown, the terminal and pages show."""

import re
from collections.abc import Sequence

import pandas as pd

from arcore.events import is_gray, is_real, is_table
from arcore.models import COMBINATIONS
from pipeline.evaluation import text_samples
from pipeline.reporting import numbers, templates, wording
from pipeline.reporting.comparison import Report
from pipeline.reporting.wording import SIGNS, UNITS, rounded, with_error

PER_DIM = ("bits_per_dim", "nats_per_dim")
NONE = "-"
CONDITION = "conditioned on"
Texts = dict[str, str]  # by column


def value_column(unit: str) -> str:
    """Return the name of the column of test values in a unit."""
    return f"test ({UNITS[unit]})"


def results(frame: pd.DataFrame) -> list[Texts]:
    """Return the texts of each experiment and codec; columns that say nothing are left out."""
    measured = numbers.compared(frame)
    units = measured.loc[measured["quantity"] == numbers.TEST, "unit"].unique()[:2]
    main, other = map(value_column, units)
    columns = ["experiment", "model", "settings", "members", CONDITION, main]
    columns += [numbers.ENTROPY, numbers.ABOVE, other, numbers.CODED, numbers.CODING]
    columns += [numbers.PARAMETERS, numbers.SECONDS, "device", "published", "difference", "source"]
    rows = []
    for _, group in measured.groupby("experiment", sort=False):
        scored = scored_of(group.iloc[0])
        rows.append(found := texts(group))
        found[main] += f" ({scored})" if scored else ""
    kept = [name for name in columns if any(row.get(name, NONE) != NONE for row in rows)]
    return [{name: row.get(name, NONE) for name in kept} for row in rows]


def texts(group: pd.DataFrame) -> Texts:
    """Return the texts of one experiment or codec by column, as far as there are any."""
    first = group.iloc[0]
    found = {
        value_column(one["unit"]) if one["quantity"] == numbers.TEST else one["quantity"]:
        number_text(one)
        for _, one in group.iterrows()
    }  # fmt: skip
    if numbers.CODED in found:
        found[numbers.CODED] += f" ({found[numbers.CODED_ABOVE]})"
    combined = first["model"] in COMBINATIONS  # whose members were trained, each on a machine
    if combined and numbers.SECONDS in found:
        found[numbers.SECONDS] += ", members"
    found |= {name: first[name] for name in ("experiment", "model", "settings", "members")}
    found[CONDITION] = first["condition"] or NONE
    found["device"] = first["device"] if first["device"] and not combined else NONE
    return found | _published_cells(first)


def scored_of(one: pd.Series) -> str:
    """Say how many rows of the split were scored, "" for all."""
    if one["kind"] != "ours":
        return ""
    split_rows = one["split_rows"]
    return wording.rows_scored(int(one["rows"]), None if pd.isna(split_rows) else int(split_rows))


def number_text(one: pd.Series) -> str:
    """Print a number in the way of its quantity."""
    value, error, unit = one["value"], one["error"], one["unit"]
    if one["kind"] == "use":
        return wording.measured(value, error, SIGNS[one["relation"]])
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


def _published_cells(first: pd.Series) -> Texts:
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


def published(frame: pd.DataFrame) -> list[Texts]:
    """Return the texts of each published result that none of ours is matched with."""
    column = f"published ({UNITS[numbers.main_unit(frame)]})"
    return [
        {
            "model": one["experiment"],
            column: published_text(one),
            "status": one["status"],
            "source": one["source"],
        }
        for _, one in frame[frame["kind"] == "published"].iterrows()
    ]


def legend(report: Report, columns: Sequence[str]) -> str:
    """Say how a table of results is read."""
    text = templates.render(
        templates.LEGEND,
        unit=UNITS[report.unit],
        columns=columns,
        folds=any(row.result.num_folds > 1 for row in report.rows),
        relations={row.relation_in(report.unit) for row in report.rows},
        context_frames=report.rows[0].result.context_frames,
        gray=is_gray(report.event),
        real=is_real(report.event) or is_table(report.event),
        sounds=report.event.is_open and report.unit == "bits_per_dim",
        steps=report.event.is_open and report.unit == "nats_per_frame",
        kinds={codec.kind for codec in report.codecs},
        text=any(text_samples.are_in(row.evaluated.folder) for row in report.rows),
    )
    return " ".join(text.split())


def markdown(report: Report, frame: pd.DataFrame) -> str:
    """Render a report and its numbers as Markdown."""
    shown, context = results(frame), published(frame)
    return templates.render(
        templates.MARKDOWN,
        dataset=report.dataset,
        legend=legend(report, list(shown[0])),
        results=markdown_table(*columns_and_rows(shown)),
        published=markdown_table(*columns_and_rows(context)) if context else "",
    )


def columns_and_rows(rows: Sequence[Texts]) -> tuple[list[str], list[list[str]]]:
    """Return the columns that rows of one table have, and their texts."""
    return list(rows[0]), [list(row.values()) for row in rows]


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Render a Markdown table without padding, whose changes are small."""
    lines = [header, ["---"] * len(header), *rows]
    texts = (" | ".join(map(templates.markdown_text, line)) for line in lines)
    return "\n".join(re.sub(r" +", " ", f"| {text} |") for text in texts)


def plain_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Render an indented table of aligned columns, for a terminal or a block of text."""
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    padded = (map(str.ljust, line, widths) for line in (header, *rows))
    texts = ["  " + "  ".join(cells).rstrip() for cells in padded]
    texts.insert(1, "  " + "-" * (max(map(len, texts)) - 2))
    return "\n".join(texts)
