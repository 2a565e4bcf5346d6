"""The page of a search: its tables, and charts by Plotly, whose script all pages share."""

import logging
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from pipeline.core import atomic, paths
from pipeline.core.errors import UserError, explained
from pipeline.reporting import searches, templates, wording
from pipeline.reporting.figures import PALETTE, Chart, Curve, highest_usual, limits
from pipeline.reporting.searches import NATS, SECONDS, SEED, SearchFacts, setting, settings, title
from pipeline.reporting.templates import Cell, Terms

log = logging.getLogger(__name__)

TRIALS = "Trials, best first; mean ± standard error where trials differ in their seed alone"
UNBEATEN = "Trials that no other trial beats in both objectives, lowest nats first"
ORANGE, BLUE, TEAL, *_, GREY = PALETTE
BEST, KIND, PLACE = "best", "kind", "place"
COLORS = {BEST: TEAL, "finished": BLUE, "stopped": ORANGE}
TALL = {"height": 340}
SHARES = "Share of each parameter by itself in the variance of the trials"


def write_all() -> list[Path]:
    """Write the page of each search in `searches/`; one that cannot be read is left out."""
    written = []
    for path in sorted((paths.root() / "searches").glob(f"[!.]*/{searches.RECORD}")):
        try:
            written.append(write(path.parent))
        except UserError as error:
            log.warning("warning: %s; left out", error)
    return written


def write(folder: Path) -> Path:
    """Write the page of a search's folder, and Plotly's script next to the folder."""
    from plotly.offline import get_plotlyjs

    record = searches.read_record(folder)
    parts = searches.shares(folder, record.best_trial)
    header, groups = searches.trials(folder / "trials.csv", best_first=True)
    default, is_timed = record.default_valid_nats, searches.TIMED in header
    values = header.index("validation nats")  # it and what follows come first, in sight
    lines = [[*line[values:], *line[:values]] for line in (header, *groups)]
    text = templates.render(
        templates.SEARCH,
        record=record,
        best=wording.rounded(record.best_valid_nats, 2),
        entry="" if default is None else wording.rounded(default, 2),
        shares=templates.text_table(SHARES, *parts),
        trials=templates.text_table(UNBEATEN if is_timed else TRIALS, lines[0], lines[1:]),
        origin=_origin(record),
        **_charts(folder, record.best_trial),
    )
    atomic.write_text(folder.with_name("plotly.min.js"), get_plotlyjs())
    atomic.write_text(folder / "index.html", text)
    return folder / "index.html"


def _charts(folder: Path, best: int) -> dict[str, object]:
    """Return nats over each parameter, over epochs and over seconds, of the lowest nats first."""
    path, trials = folder / "curves.csv", searches.valued(folder / "trials.csv")
    kinds = trials["status"].where(trials["trial"] != str(best), BEST)
    trials = trials.assign(**{KIND: kinds}).sort_values(NATS, kind="stable")
    with explained(f"{folder}: expected numbers of trials, got", KeyError, ValueError):
        is_timed = "front" in trials and (trials["front"] == "yes").any()
        front = _over_seconds(trials) if is_timed else None
        columns = ("trial", "epoch", NATS)  # records in results/ may have no curves
        read = searches.read_table(path, *columns) if path.is_file() else None
        curves = None if read is None else _over_epochs(read, trials)
    names = [name for name in trials.columns if "." in name and name != SEED]
    parameters = [_scatter(trials, name, title(name)) for name in names]
    return {"parameters": parameters, "front": front, "curves": curves}


def _over_seconds(trials: pd.DataFrame) -> Chart:
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


def _over_epochs(curves: pd.DataFrame, trials: pd.DataFrame) -> Chart:
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
    is_log = 0 < 20 * min(numbers) < max(numbers)
    return numbers, {"type": "log", "dtick": 1} if is_log else {"type": "linear"}


def _layout(across: str, values: Sequence[float]) -> Chart:
    return {
        "height": 260,
        "showlegend": True,
        "legend": {"orientation": "h", "x": 0, "y": 1, "yanchor": "bottom"},
        "xaxis": {"title": {"text": across}},
        "yaxis": {"title": {"text": "validation nats"}, "range": list(values)},
    }


def _origin(record: SearchFacts) -> Terms:
    command = searches.command_of(vars(record), record.search)
    files = {"trials": "trials.csv", "best settings": "best.yaml", "record": searches.RECORD}
    return [
        *([("command", command)] if command else []),
        ("commit", record.commit),
        ("device", record.device or "not recorded"),
        ("time", wording.duration(record.seconds)),
        ("files", [Cell(what, link=file) for what, file in files.items()]),
    ]
