"""The report's HTML page: one file, figures inside, nothing fetched from elsewhere."""

from __future__ import annotations

import base64
import csv
import html
import io
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

import arcore
from arcore.events import Event
from arcore.units import nats_to
from pipeline.core import paths
from pipeline.evaluation import audio_figures
from pipeline.evaluation.reading import ModelConfig
from pipeline.reporting import wording
from pipeline.reporting.comparison import Report, Row
from pipeline.reporting.tables import context_table, introduction, nothing_published, our_table
from pipeline.reporting.wording import UNITS

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
Dot = tuple[float, str, float | None, str]  # value, label, error, marker
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
        known = _valid_values(points, report.unit, row.evaluated.config)
        if known:
            axes.plot(*zip(*known, strict=True), label=row.result.experiment)
    if not axes.lines:
        return None
    axes.set(xlabel="epoch", ylabel=f"validation {UNITS[report.unit]}")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    return figure


def _valid_values(
    points: Sequence[Mapping[str, str]], unit: str, config: ModelConfig
) -> list[tuple[float, float]]:
    """Return epochs and validation values in a unit, converted where that is not in the history.

    Bits of events of open length are known in the history alone.
    """
    column = f"valid_{unit}"
    if all(column in point for point in points):
        return [(float(point["epoch"]), float(point[column])) for point in points]
    event = _trained_event(config)
    return [
        (float(point["epoch"]), nats_to(unit, float(point["valid_nats"]), event))
        for point in points
    ]


def _trained_event(config: ModelConfig) -> Event:
    """Return what a model's own loss counts, maybe more frames of a clip than the protocol's."""
    hyperparameters = {key: value for key, value in config.model.items() if key != "name"}
    with torch.device("meta"):
        model = arcore.create_model(config.model_name, config.event, **hyperparameters)
    return model.scored_event


def comparison(report: Report) -> Figure:
    """Draw our test values beside codecs and the valid published ones nearest to ours, best on top.

    Codecs far above ours are left out: on tiny images their headers would flatten all the rest.
    """
    best = report.rows[0].value
    dots = [_dot(row, report) for row in report.rows]
    for codec in report.codecs:
        value = report.codec_value(codec)
        if value <= MAX_CODEC_RATIO * best:
            spread = codec.score.stderr_in(report.unit, report.event)
            dots.append((value, codec.label, spread, "s"))
    others = {row.published: row.published_value for row in report.rows if row.published}
    published: list[Dot] = [
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
    bound = wording.entropy_in(report.rows[0].evaluated)
    if bound is not None:
        axes.axvline(bound, linestyle="--", color=_COLORS["D"])
    axes.set_yticks(range(len(dots)), [label for _, label, *_ in dots], fontsize=8)
    axes.set_xlabel(f"test {UNITS[report.unit]} (lower is better)")
    axes.grid(axis="x", alpha=0.3)
    return figure


def _dot(row: Row, report: Report) -> Dot:
    sign = row.sign_in(report.unit)
    members = wording.members(row.result, row.num_averaged)
    label = f"{row.result.experiment} (ours, {members}{sign and ', ' + sign})"
    error = row.result.score.stderr_in(report.unit, row.evaluated.event)
    return row.value, label, error, "o"


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
        if row.num_averaged == 1
        and not row.approximate
        and (path := row.evaluated.folder / "samples.png").is_file()
    ]
    if grids:
        parts += ["<h2>Samples</h2>", *grids]
    parts += [
        line
        for row in report.rows
        for line in _players(row.evaluated.folder, row.result.experiment)
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
