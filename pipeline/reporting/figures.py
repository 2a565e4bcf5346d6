"""Charts of a report for Plotly: learning curves, and results with codecs and published ones."""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

import arcore
from arcore.units import nats_to
from pipeline.core import paths
from pipeline.evaluation.reading import ModelConfig
from pipeline.reporting import wording
from pipeline.reporting.comparison import Report, Row
from pipeline.reporting.wording import UNITS
from pipeline.training.training_records import TrainingRecord, read_history

MAX_CHART_ROWS = 24
MAX_CODEC_RATIO = 2.0
Chart = dict[str, Any]  # data and layout, as Plotly takes them
Dot = tuple[float, str, float | None, str]  # value, label, error, marker
# Plotly's symbols; given: conditional ones of ours
OURS, GIVEN, CODEC, PUBLISHED = "circle", "triangle-up", "square", "diamond"
_COLORS = {OURS: "#d9622b", GIVEN: "#d9622b", CODEC: "#199a8f", PUBLISHED: "#7f8c9b"}
DASHED = {
    "type": "line", "yref": "paper", "y0": 0, "y1": 1,
    "line": {"color": _COLORS[PUBLISHED], "dash": "dash", "width": 1},
}  # fmt: skip
# of middle lightness, legible on white and on black
PALETTE = (
    "#d9622b", "#2f86d6", "#199a8f", "#b5549f", "#a8871a", "#7b6fd0", "#5a9a3c", "#cf5068",
    "#7f8c9b",
)  # fmt: skip
_DASHES = ("solid", "dash", "dot")


@dataclass(frozen=True)
class Curve:
    """An experiment's validation values over processor seconds."""

    label: str
    seconds: np.ndarray
    values: np.ndarray


def curves_of(report: Report) -> list[Curve]:
    """Read the histories of a dataset's trainings, best value first.

    A training whose times are not recorded, since DVC restored it from its cache, has no curve.
    """
    curves = {}
    for row in report.rows:
        name = row.evaluated.folder.name
        path = paths.model(name) / "history.csv"
        if name in curves or not path.is_file():
            continue
        points = [line for line in read_history(path) if line.get("valid_nats")]
        record = row.evaluated.training
        ends = record.epoch_seconds if record is not None else []
        if not points or len(ends) < max(int(point["epoch"]) for point in points):
            continue
        values = in_unit(points, report.unit, row.evaluated.config)
        processors = _processors(record)
        seconds = [processors * ends[int(point["epoch"]) - 1] for point in points]
        label = wording.short_name(name, report.dataset)
        curves[name] = Curve(label, np.asarray(seconds), np.asarray(values))
    return sorted(curves.values(), key=lambda curve: float(curve.values.min()))


def _processors(training: TrainingRecord | None) -> int:
    """Return how many processors a training had: threads of a CPU, or accelerators."""
    if training is None:
        return 1
    threads = re.search(r"(\d+) threads?\)", training.device)
    return training.num_workers * (int(threads.group(1)) if threads else 1)


def in_unit(rows: Sequence[Mapping[str, str]], unit: str, config: ModelConfig) -> list[float]:
    """Convert the validation nats of a history, of what the model's own loss counts."""
    nats = [float(row["valid_nats"]) for row in rows]
    if unit == "nats":
        return nats
    is_ratio = unit == "bits_per_dim" or config.event.is_open
    if is_ratio and all(row.get("valid_bits_per_dim") for row in rows):
        bits = [float(row["valid_bits_per_dim"]) for row in rows]
        if unit == "bits_per_dim":
            return bits
        return [nats_to(unit, one * math.log(2), config.event, size=1.0) for one in bits]
    hyperparameters = {key: value for key, value in config.model.items() if key != "name"}
    with torch.device("meta"):  # it may count more frames of a clip than the protocol
        model = arcore.create_model(config.model_name, config.event, **hyperparameters)
    return [nats_to(unit, value, model.scored_event) for value in nats]


def limits(curves: Sequence[Curve]) -> tuple[float, float]:
    """Return the range of values to show: where curves end, and most of the way to there.

    Neither the first epochs, nor a curve that ends far above the others, flatten the rest.
    """
    lowest = min(float(curve.values.min()) for curve in curves)
    highest = highest_usual([float(curve.values[-1]) for curve in curves])
    most = [float(np.quantile(curve.values, 0.8)) for curve in curves]
    above = max(0.5 * (highest - lowest), float(np.median(most)) - highest)
    highest += max(above, 1e-3 * abs(highest), 1e-9)
    return lowest - 0.05 * (highest - lowest), highest


def highest_usual(values: Sequence[float]) -> float:
    """Return the highest value that is not far above the others."""
    first, last = np.quantile(values, [0.25, 0.75])
    return max(value for value in values if value <= last + 3 * (last - first))


def learning_curves(curves: Sequence[Curve], unit: str) -> Chart:
    """Return validation curves over processor seconds, with a legend of the best epochs."""
    low, high = limits(curves)
    data = [
        {
            "x": curve.seconds.tolist(),
            "y": curve.values.tolist(),
            "name": f"{curve.label} {curve.values.min():.4g}"
            + " ↑" * bool(curve.values[-1] > high),
            "mode": "lines" if len(curve.values) > 1 else "markers",
            "line": {
                "color": PALETTE[index % len(PALETTE)],
                "dash": _DASHES[index // len(PALETTE) % len(_DASHES)],
                "width": 1.6,
            },
            "hovertemplate": "%{y:.5g} after %{x:.4g} s",
        }
        for index, curve in enumerate(curves)
    ]
    begins = min(float(curve.seconds[0]) for curve in curves)
    ends = max(float(curve.seconds[-1]) for curve in curves)
    layout = {
        "height": max(360, 90 + 19 * len(curves)),
        "showlegend": True,
        "xaxis": {
            "title": {"text": "seconds × processors"},
            "type": "log" if 0 < 20 * begins < ends else "linear",
        },
        "yaxis": {"title": {"text": f"validation {UNITS[unit]}"}, "range": [low, high]},
    }
    return {"data": data, "layout": layout}


@dataclass(frozen=True)
class Dots:
    """The test values of a report in one chart."""

    dots: list[Dot]  # the best last
    omitted: list[str]  # what is not drawn, in words
    unit: str
    entropy: float | None

    @property
    def markers(self) -> set[str]:
        """The kinds of values."""
        return {marker for *_, marker in self.dots}


def dots_of(report: Report) -> Dots:
    """Return our test values, the codecs' and the valid published ones nearest to ours.

    Codecs far above ours are omitted: on tiny images their headers would flatten all the rest.
    """
    best, omitted = report.best.value, []
    codecs: list[Dot] = []
    for codec in report.codecs:
        value, error = codec.score.in_unit(report.unit, report.event)
        if codec.kind != "codec" or value <= MAX_CODEC_RATIO * best:
            codecs.append((value, codec.label, error, CODEC))
    if len(codecs) < len(report.codecs):
        omitted.append("codecs above twice our best value are not drawn")
    published: list[Dot] = [
        (value, f"{row.label} {row.sign}".strip() + row.doubt, None, PUBLISHED)
        for row, value in report.published
    ]
    published.sort(key=lambda dot: abs(dot[0] - best))
    if len(published) > MAX_CHART_ROWS:
        omitted.append(f"published values are the {MAX_CHART_ROWS} nearest to our best")
    dots = [_dot(row, report) for row in report.rows] + codecs + published[:MAX_CHART_ROWS]
    dots.sort(key=lambda dot: dot[:2], reverse=True)
    return Dots(dots, omitted, report.unit, report.rows[0].entropy)


def _dot(row: Row, report: Report) -> Dot:
    members, given = wording.members(row.result, row.num_averaged), row.condition
    sign = wording.SIGNS[row.relation_in(report.unit)]
    known = ["" if members == "one" else members, sign, f"given {given}" if given else ""]
    label = ", ".join(filter(None, known))
    name = row.short_name + (f" ({label})" if label else "")
    marker = GIVEN if given else OURS
    value, error = row.result.score.in_unit(report.unit, report.event)
    return value, name, error, marker


def comparison(shown: Dots) -> Chart:
    """Return test values, the best on top."""
    data = [
        {
            "x": [value for value, *_ in dots],
            "y": [place for *_, place in dots],
            "error_x": {
                "array": [error or 0.0 for _, _, error, _ in dots],
                "thickness": 1.2,
                "width": 2,
            },
            "text": [label for _, label, *_ in dots],
            "mode": "markers",
            "marker": {"color": _COLORS[kind], "symbol": kind, "size": 7},
            "hovertemplate": "%{text}: %{x:.5g}<extra></extra>",
        }
        for kind in _COLORS
        if (
            dots := [
                (value, label, error, place)
                for place, (value, label, error, marker) in enumerate(shown.dots)
                if marker == kind
            ]
        )
    ]
    labels = [label for _, label, *_ in shown.dots]
    rows = list(range(len(labels)))
    layout = {
        "height": 70 + 22 * len(labels),
        "showlegend": False,
        "xaxis": {"title": {"text": f"test {UNITS[shown.unit]} (lower is better)"}},
        "yaxis": {"tickvals": rows, "ticktext": labels, "range": [-0.7, len(labels) - 0.3]},
        "shapes": [] if (x := shown.entropy) is None else [DASHED | {"x0": x, "x1": x}],
    }
    return {"data": data, "layout": layout, "rows": labels}
