"""A report as CSV: raw numbers, ours, of codecs and published."""

from __future__ import annotations

import csv
import io

from arcore.events import Event
from pipeline.evaluation.results import CodecResult
from pipeline.reporting import origins, wording
from pipeline.reporting.comparison import Report, Row
from pipeline.reporting.published import PublishedResult


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
