"""The report's HTML page: one file, figures inside, nothing fetched from elsewhere."""

from __future__ import annotations

import base64
import csv
import html
import io
from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from arcore.events import Event, after_frames, from_dict
from arcore.units import nats_to
from pipeline.core import paths
from pipeline.evaluation import audio_figures
from pipeline.evaluation.results import UNITS, Result
from pipeline.reporting.comparison import Report
from pipeline.reporting.tables import context_table, introduction, nothing_published, our_table

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 75rem; padding: 0 1rem;
  color: #1c2733; background: #fff; }
h1 { margin-bottom: 0; } h2 { margin-top: 2.5rem; } p { color: #4a5866; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .35rem .7rem; border-bottom: 1px solid #dde3ea; text-align: left; }
th { background: #f3f6f9; }
figure { display: inline-block; margin: 1rem 1rem 0 0; vertical-align: top; }
figcaption { color: #4a5866; font-size: 13px; }
img { max-width: 100%; } audio { height: 32px; vertical-align: middle; }
"""
MAX_CHART_ROWS = 24
MAX_CODEC_RATIO = 2.0
_COLORS = {"o": "#c2410c", "s": "#0f766e", "D": "#64748b"}


def learning_curves(report: Report) -> Figure | None:
    """Draw the validation curves of a dataset's experiments over epochs, in the dataset's unit.

    Returns:
        None if no experiment has a history.
    """
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    for row in report.rows:
        path = paths.model(row.result.experiment) / "history.csv"
        if not path.is_file():
            continue
        with open(path, newline="") as lines:
            points = [line for line in csv.DictReader(lines) if line.get("valid_nats")]
        column = f"valid_{report.unit}"  # bits of events of open length are known there alone
        event = _trained_event(row.result)
        known = [
            (
                float(point["epoch"]),
                float(point[column])
                if column in point
                else nats_to(report.unit, float(point["valid_nats"]), event),
            )
            for point in points
        ]
        if known:
            axes.plot(*zip(*known, strict=True), label=row.result.experiment)
    if not axes.lines:
        return None
    axes.set(xlabel="epoch", ylabel=f"validation {UNITS[report.unit]}")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    return figure


def _trained_event(result: Result) -> Event:
    """What a model's own loss counts, which may be more frames of a clip than the protocol's."""
    given = int(result.config["model"].get("context_frames") or 0)
    return after_frames(from_dict(result.config["event"]), given)


def comparison(report: Report) -> Figure:
    """Draw our test values beside codecs and the valid published ones nearest to ours, best on top.

    Codecs far above ours are left out: on tiny images their headers would flatten all the rest.
    """
    error: float | None
    best = report.rows[0].result.value
    dots: list[tuple[float, str, float | None, str]] = []
    for row in report.rows:
        result = row.result
        error = result.stderr_in(report.unit)
        sign = result.sign_in(report.unit)
        label = f"{result.experiment} (ours, {result.members}{sign and ', ' + sign})"
        dots.append((result.value, label, error, "o"))
    for codec in report.codecs:
        if codec.value <= MAX_CODEC_RATIO * best:
            error = codec.nats_stderr if report.unit == "nats" else codec.bits_per_dim_stderr
            dots.append((codec.value, codec.label, error, "s"))
    others = {row.published: row.published_value for row in report.rows if row.published}
    published = [
        (value, f"{row.label} {row.sign}", None, "D")
        for row, value in [*others.items(), *report.context]
        if value is not None and row.comparable
    ]
    published.sort(key=lambda dot: abs(dot[0] - best))
    dots = sorted([*dots, *published[:MAX_CHART_ROWS]], key=lambda dot: dot[:2], reverse=True)
    figure = Figure(figsize=(7, 1 + 0.24 * len(dots)), layout="constrained")
    axes = figure.subplots()
    for height, (value, _, error, marker) in enumerate(dots):
        axes.errorbar(value, height, xerr=error, fmt=marker, color=_COLORS[marker], capsize=3)
    bound = report.rows[0].result.entropy
    if bound is not None:
        axes.axvline(bound, linestyle="--", color=_COLORS["D"])
    axes.set_yticks(range(len(dots)), [label for _, label, *_ in dots], fontsize=8)
    axes.set_xlabel(f"test {UNITS[report.unit]} (lower is better)")
    axes.grid(axis="x", alpha=0.3)
    return figure


def html_page(report: Report) -> str:
    """Render a report as one self-contained HTML page: tables, curves, samples, comparison."""
    name = html.escape(report.dataset)
    unit = UNITS[report.unit]
    parts = [
        f"<h1>{name}</h1>",
        f"<p>{html.escape(introduction(report))}</p>",
        _table(*our_table(report)),
        "<h2>Beside published values</h2>",
        _picture(_png(comparison(report)), "ours (dots), codecs (squares), published (diamonds)"),
    ]
    curves = learning_curves(report)
    if curves is not None:
        parts += ["<h2>Learning curves</h2>", _picture(_png(curves), f"validation {unit}")]
    grids = [
        _picture(path.read_bytes(), row.result.experiment)
        for row in report.rows
        if row.result.num_averaged == 1
        and not row.result.approximate
        and (path := row.result.folder / "samples.png").is_file()
    ]
    if grids:
        parts += ["<h2>Samples</h2>", *grids]
    parts += [
        line for row in report.rows for line in _players(row.result.folder, row.result.experiment)
    ]
    parts.append("<h2>Published results of models that are not matched above</h2>")
    if report.context:
        parts.append(_table(*context_table(report)))
    else:
        parts.append(f"<p>{html.escape(nothing_published(report))}</p>")
    body = "\n".join(parts)
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{name} - arcore</title>\n<style>{_STYLE}</style></head>\n"
        f"<body>\n{body}\n</body></html>\n"
    )


def _table(header: Sequence[str], cells: Sequence[Sequence[str]]) -> str:
    head = "".join(f"<th>{html.escape(cell)}</th>" for cell in header)
    rows = "\n".join(
        "<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>" for row in cells
    )
    return f'<div class="scroll"><table><tr>{head}</tr>\n{rows}\n</table></div>'


def _picture(png: bytes, caption: str) -> str:
    text = html.escape(caption)
    data = base64.b64encode(png).decode()
    return (
        f'<figure><img alt="{text}" src="data:image/png;base64,{data}">'
        f"<figcaption>{text}</figcaption></figure>"
    )


def _players(folder: Path, experiment: str) -> list[str]:
    """Return players of the sounds in `media/`, generated beside real, of one experiment."""
    rows = []
    for title in sorted((folder / "media").glob("*.txt")):
        cells = [f"<td>{html.escape(title.read_text(encoding='utf-8').strip())}</td>"]
        for kind in audio_figures.KINDS:
            data = base64.b64encode((title.parent / f"{title.stem}-{kind}.wav").read_bytes())
            source = f"data:audio/wav;base64,{data.decode()}"
            cells.append(f'<td><audio controls preload="none" src="{source}"></audio></td>')
        rows.append(f"<tr>{''.join(cells)}</tr>")
    if not rows:
        return []
    head = "<tr><th>speaker, text</th><th>generated</th><th>real</th></tr>"
    table = "\n".join([head, *rows])
    return [
        f"<h3>Sounds of {html.escape(experiment)}</h3>",
        f'<div class="scroll"><table>{table}</table></div>',
    ]


def _png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110, metadata={"Software": None})
    return buffer.getvalue()
