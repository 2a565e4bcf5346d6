"""Figures of a search: the objective against each parameter, and over epochs."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from pipeline.search.space import LISTS, Parameter
from pipeline.search.spec import Search
from pipeline.search.trials import TrialRecord

COLORS = {"finished": "tab:blue", "stopped": "tab:orange"}


def objective_figure(search: Search, table: Sequence[TrialRecord]) -> Figure:
    """Plot the objective against each parameter, a panel each."""
    shown = [row for row in table if math.isfinite(row.value)]
    columns = min(3, len(search.space))
    lines = -(-len(search.space) // columns)
    figure = Figure(figsize=(4 * columns, 3.2 * lines), layout="constrained")
    axes = figure.subplots(lines, columns, squeeze=False)
    for index, axis in enumerate(axes.flat):
        if index < len(search.space):
            _panel(axis, search.space[index], shown)
        else:
            axis.axis("off")
    axes[0, 0].legend(fontsize="small")
    return figure


def _panel(axis: Axes, parameter: Parameter, shown: Sequence[TrialRecord]) -> None:
    labels = [str(parameter.encode(value)).strip('"') for value in parameter.values]
    for status, color in COLORS.items():
        rows = [row for row in shown if row.status == status]
        if not rows:
            continue
        drawn = [row.values[parameter.name] for row in rows]
        if parameter.kind in LISTS:
            options = [json.dumps(value) for value in parameter.values]
            places = [float(options.index(json.dumps(value))) for value in drawn]
        else:
            places = [value for value in drawn if isinstance(value, int | float)]
        axis.scatter(places, [row.value for row in rows], color=color, s=16, label=status)
    if parameter.kind in LISTS:
        axis.set_xticks(range(len(labels)), labels, rotation=30, ha="right", fontsize="small")
    elif parameter.log:
        axis.set_xscale("log")
    axis.set_xlabel(parameter.name)
    axis.set_ylabel("validation nats")


def curves_figure(table: Sequence[TrialRecord]) -> Figure:
    """Plot each trial's lowest validation nats so far over its epochs."""
    figure = Figure(figsize=(6, 4), layout="constrained")
    axis = figure.subplots()
    for trial in table:
        epochs = [row for row in trial.history if math.isfinite(row.best_valid_nats)]
        if epochs and trial.value < math.inf:
            places = [row.epoch for row in epochs], [row.best_valid_nats for row in epochs]
            axis.plot(*places, color=COLORS[trial.status], alpha=0.7, lw=1)
    axis.set_xlabel("epoch")
    axis.set_ylabel("lowest validation nats")
    return figure


def front_figure(table: Sequence[TrialRecord], front: Sequence[int]) -> Figure:
    """Plot validation nats against seconds of sampling, and the trials that none beats in both."""
    figure = Figure(figsize=(6, 4), layout="constrained")
    axis = figure.subplots()
    timed = [row for row in table if row.sampling_seconds is not None]
    places = {row.number: (row.sampling_seconds, row.value) for row in timed}
    seconds, nats = zip(*places.values(), strict=True)
    axis.scatter(seconds, nats, color="tab:blue", s=16)
    axis.plot(*zip(*(places[number] for number in front), strict=True), color="tab:orange")
    for number in front:
        axis.annotate(f" {number}", places[number], fontsize="small")
    axis.set_xscale("log")
    axis.set_xlabel("seconds of 16 samples")
    axis.set_ylabel("validation nats")
    return figure
