"""Charts of a search for Plotly: nats over each parameter, over epochs, and over seconds."""

import math
from collections.abc import Mapping, Sequence

import pandas as pd

from pipeline.reporting.figures import PALETTE, Chart, Curve, highest_usual, limits
from pipeline.reporting.searches import NATS, SECONDS, SEED, setting, settings, title

ORANGE, BLUE, TEAL, *_, GREY = PALETTE
BEST, KIND, PLACE = "best", "kind", "place"
COLORS = {BEST: TEAL, "finished": BLUE, "stopped": ORANGE}
LOG_RATIO = 20
TALL = {"height": 340}


def with_kinds(trials: pd.DataFrame, best: int) -> pd.DataFrame:
    """Add a column: how each trial ended, or that it is the best; the lowest nats come first."""
    kinds = trials["status"].where(trials["trial"] != str(best), BEST)
    return trials.assign(**{KIND: kinds}).sort_values(NATS, kind="stable")


def over_parameters(trials: pd.DataFrame) -> list[Chart]:
    """Return a chart for each parameter; words are in the order of their best trials."""
    names = [name for name in trials.columns if "." in name and name != SEED]
    return [_scatter(trials, name, title(name)) for name in names]


def over_seconds(trials: pd.DataFrame) -> Chart:
    """Return the chart of two objectives, with a line through the trials that none beats."""
    chart = _scatter(trials[trials[SECONDS] != ""], SECONDS, "seconds of 16 samples")
    front = trials[trials["front"] == "yes"]
    line = {
        "x": front[SECONDS].map(float).tolist(),
        "y": front[NATS].tolist(),
        "name": "unbeaten",
        "mode": "lines",
        "line": {"color": GREY, "width": 1.2, "dash": "dot"},
        "hoverinfo": "skip",
    }
    return {"data": [line, *chart["data"]], "layout": chart["layout"] | TALL}


def over_epochs(curves: pd.DataFrame, trials: pd.DataFrame) -> Chart:
    """Return the lowest nats of each trial that has a value, over its epochs, the best last."""
    data: list[Chart] = []
    drawn = []
    for number, kind in reversed([*zip(trials["trial"], trials[KIND], strict=True)]):
        rows = curves[curves["trial"] == number]
        curve = Curve(number, rows["epoch"].map(int).to_numpy(), rows[NATS].map(float).to_numpy())
        if not len(rows):
            continue
        data.append(
            {
                "x": curve.seconds.tolist(),
                "y": curve.values.tolist(),
                "name": kind,
                "legendgroup": kind,
                "showlegend": kind not in {trace["name"] for trace in data},
                "mode": "lines" if len(rows) > 1 else "markers",
                "line": {"color": COLORS.get(kind, GREY), "width": 3 if kind == BEST else 1.2},
                "hovertemplate": f"trial {number}: %{{y:.5g}} after epoch %{{x}}<extra></extra>",
            }
        )
        drawn.append(curve)
    layout = _layout("epoch", limits(drawn)) | TALL
    layout["xaxis"]["dtick"] = math.ceil(max(curve.seconds[-1] for curve in drawn) / 10)
    return {"data": data, "layout": layout}


def _scatter(trials: pd.DataFrame, column: str, across: str) -> Chart:
    """Return a point for each trial; those far above the others are at the upper end."""
    values, finished = trials[NATS], trials[trials["status"] == "finished"]
    low, high = values.min(), max(highest_usual([*finished[NATS], values.min()]), values.median())
    space = 0.06 * (high - low) or 1e-3 * abs(high) or 1.0
    places, kind_of_axis = _places(trials[column].tolist())
    data = []
    for kind, rows in reversed([*trials.assign(**{PLACE: places}).groupby(KIND)]):
        above = [value > high for value in rows[NATS]]
        usual = "star" if kind == BEST else "circle"
        data.append(
            {
                "x": rows[PLACE].tolist(),
                "y": rows[NATS].clip(upper=high).tolist(),
                "name": kind,
                "mode": "markers",
                "marker": {
                    "color": COLORS.get(str(kind), GREY),
                    "symbol": ["triangle-up" if is_above else usual for is_above in above],
                    "size": 13 if kind == BEST else 8,
                },
                "text": [_described(row) for row in rows.to_dict("records")],
                "hovertemplate": "%{text}<extra></extra>",
            }
        )
    layout = _layout(across, (low - space, high + space))
    layout["xaxis"] |= kind_of_axis
    return {"data": data, "layout": layout}


def _described(row: Mapping[str, str]) -> str:
    values = "<br>".join(f"{name}: {value}" for name, value in settings(row))
    return f"trial {row['trial']}: {row[NATS]:.5g} nats<br>{values}"


def _places(texts: Sequence[str]) -> tuple[Sequence[str | float], Chart]:
    """Return where trials are on an axis, and what the axis is."""
    try:
        numbers = [float(text) for text in texts]
    except ValueError:
        words = [setting(text) for text in texts]
        return words, {"type": "category", "categoryarray": list(dict.fromkeys(words))}
    is_log = 0 < LOG_RATIO * min(numbers) < max(numbers)
    return numbers, {"type": "log", "dtick": 1} if is_log else {"type": "linear"}


def _layout(across: str, values: Sequence[float]) -> Chart:
    return {
        "height": 260,
        "showlegend": True,
        "legend": {"orientation": "h", "x": 0, "y": 1, "yanchor": "bottom"},
        "xaxis": {"title": {"text": across}},
        "yaxis": {"title": {"text": "validation nats"}, "range": list(values)},
    }
