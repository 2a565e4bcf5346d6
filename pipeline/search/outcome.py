"""What a search leaves: the trial table, the best overrides, importances and plots."""

from __future__ import annotations

import csv
import dataclasses
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from pipeline.core import paths
from pipeline.core.atomic import replacing
from pipeline.core.errors import UserError
from pipeline.search.space import LISTS, Parameter
from pipeline.search.spec import Search

STATUSES = ("finished", "stopped", "failed", "unfinished")
COLORS = {"finished": "tab:blue", "stopped": "tab:orange"}


@dataclasses.dataclass(frozen=True)
class Trial:
    """A trial of a search.

    Attributes:
        number: from 1, in the order of their making.
        status: finished (all its epochs), stopped (early, by the scheduler or the time budget),
            failed (see problem), or unfinished (the search was interrupted).
        epochs: that it trained.
        value: lowest validation nats, inf if it has none.
        seconds: that it trained.
        values: by parameter name.
        curve: (epoch, lowest validation nats so far).
        problem: why it failed, in one line.
    """

    number: int
    status: str
    epochs: int
    value: float
    seconds: float
    values: dict[str, Any]
    curve: list[tuple[int, float]] = dataclasses.field(default_factory=list, repr=False)
    problem: str = ""


def read(search: Search, results: Any) -> list[Trial]:
    """Read the trials of a search from Ray Tune's result grid, in the order of their making."""
    from pipeline.search.callback import number, values_of

    table = []
    for trial, result in zip(results._experiment_analysis.trials, results, strict=True):
        last = trial.last_result or {}
        value = float(last.get("best_valid_nats", math.inf))
        problem = str(last.get("problem", ""))
        status = "finished" if last.get("finished") else "stopped"
        if trial.status == "ERROR":
            problem = (str(result.error).strip().splitlines() or ["error"])[-1]
        if problem:
            status, value = "failed", math.inf
        elif trial.status != "TERMINATED" or getattr(trial, "interrupted", False):
            status = "unfinished"
        curve = []
        frame = result.metrics_dataframe
        if frame is not None and "best_valid_nats" in frame:
            pairs = zip(frame["epoch"], frame["best_valid_nats"], strict=True)
            curve = [(int(epoch), float(nats)) for epoch, nats in pairs]
        table.append(
            Trial(
                number(trial),
                status,
                int(last.get("epoch", 0)) if not problem else 0,
                value,
                round(float(last.get("seconds", 0.0)), 1),
                values_of(search, trial),
                curve,
                problem,
            )
        )
    return sorted(table, key=lambda row: row.number)


def best(table: Sequence[Trial]) -> Trial:
    """Return the trial of the lowest validation nats.

    Raises:
        UserError: if no trial has a finite value.
    """
    found = min(table, key=lambda row: row.value, default=None)
    if found is None or not math.isfinite(found.value):
        problems = sorted({row.problem for row in table if row.problem})
        why = "; ".join(problems) or "they were stopped before"
        raise UserError(f"none of {len(table)} trials gave a finite validation value: {why}")
    return found


def importances(search: Search, table: Sequence[Trial]) -> dict[str, float]:
    """Return each parameter's share in the variance of the objective (fANOVA; Hutter et al. 2014).

    By Optuna, over all trials with a value, those that were stopped early with the value that they
    had then. Empty with fewer than four trials or where the values do not differ.
    """
    import optuna

    rows = [row for row in table if math.isfinite(row.value)]
    parameters = [p for p in search.space if len({json.dumps(r.values[p.name]) for r in rows}) > 1]
    if len(rows) < 4 or not parameters or len({row.value for row in rows}) < 2:
        return {}
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study()
    for row in rows:
        study.add_trial(
            optuna.trial.create_trial(
                params={p.name: p.encode(row.values[p.name]) for p in parameters},
                distributions={p.name: _distribution(p) for p in parameters},
                value=row.value,
            )
        )
    evaluator = optuna.importance.FanovaImportanceEvaluator(seed=0)
    found = optuna.importance.get_param_importances(study, evaluator=evaluator)
    return {name: float(share) for name, share in found.items()}


def _distribution(parameter: Parameter) -> Any:
    from optuna.distributions import (
        CategoricalDistribution,
        FloatDistribution,
        IntDistribution,
    )

    if parameter.kind in LISTS:
        return CategoricalDistribution([parameter.encode(value) for value in parameter.values])
    low, high = parameter.values
    if parameter.kind in ("randint", "lograndint"):
        return IntDistribution(low, high - 1, log=parameter.log)
    return FloatDistribution(low, high, log=parameter.log)


def write(search: Search, table: Sequence[Trial], record: dict[str, Any]) -> Path:
    """Write searches/<name>/: trials.csv, best.yaml, importance.csv, search.json and plots.

    Arguments:
        search: the search.
        table: its trials.
        record: what search.json holds beside the outcome.

    Raises:
        UserError: if no trial has a finite value.
    """
    winner = best(table)
    shares = importances(search, table)
    counts = {status: sum(row.status == status for row in table) for status in STATUSES[:3]}
    defaults = search.defaults()
    default = [row for row in table if row.values == defaults]
    summary = {
        "search": search.name,
        "dataset": search.base.dataset["name"],
        "model": search.base.model["name"],
        "trials": len(table),
        **counts,
        "epochs": sum(row.epochs for row in table),
        "best_trial": winner.number,
        "best_valid_nats": winner.value,
        "default_trial": default[0].number if default else None,
        "default_valid_nats": default[0].value if default else None,
        **record,
    }
    out = paths.search(search.name)
    with replacing(out) as temporary:
        (temporary / "search.json").write_text(json.dumps(summary, indent=2) + "\n")
        with open(temporary / "trials.csv", "w", newline="") as file:
            csv.writer(file, lineterminator="\n").writerows(_rows(search, table))
        with open(temporary / "importance.csv", "w", newline="") as file:
            rows = [["parameter", "importance"], *([n, f"{s:.4f}"] for n, s in shares.items())]
            csv.writer(file, lineterminator="\n").writerows(rows)
        heading = (
            f"# What search {search.name} found: trial {winner.number} of {len(table)}, "
            f"{winner.value:.3f} validation nats.\n"
        )
        overlay = yaml.safe_dump(search.overlay(winner.values), sort_keys=False)
        (temporary / "best.yaml").write_text(heading + overlay)
        objective_figure(search, table).savefig(temporary / "objective.png", dpi=100)
        curves_figure(table).savefig(temporary / "curves.png", dpi=100)
    return out


def _rows(search: Search, table: Sequence[Trial]) -> list[list[Any]]:
    names = [parameter.name for parameter in search.space]
    rows: list[list[Any]] = [
        ["trial", "status", "epochs", "best_valid_nats", "seconds", *names, "problem"]
    ]
    for row in table:
        values = [row.values[name] for name in names]
        plain = [v if isinstance(v, str | int | float) else json.dumps(v) for v in values]
        value = f"{row.value:.6f}" if math.isfinite(row.value) else ""
        rows.append([row.number, row.status, row.epochs, value, row.seconds, *plain, row.problem])
    return rows


def objective_figure(search: Search, table: Sequence[Trial]) -> Figure:
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


def _panel(axis: Axes, parameter: Parameter, shown: Sequence[Trial]) -> None:
    labels = [str(parameter.encode(value)).strip('"') for value in parameter.values]
    for status, color in COLORS.items():
        rows = [row for row in shown if row.status == status]
        places = [row.values[parameter.name] for row in rows]
        if parameter.kind in LISTS:
            options = [json.dumps(value) for value in parameter.values]
            places = [options.index(json.dumps(place)) for place in places]
        axis.scatter(places, [row.value for row in rows], color=color, s=16, label=status)
    if parameter.kind in LISTS:
        axis.set_xticks(range(len(labels)), labels, rotation=30, ha="right", fontsize="small")
    elif parameter.log:
        axis.set_xscale("log")
    axis.set_xlabel(parameter.name)
    axis.set_ylabel("validation nats")


def curves_figure(table: Sequence[Trial]) -> Figure:
    """Plot each trial's lowest validation nats so far over its epochs."""
    figure = Figure(figsize=(6, 4), layout="constrained")
    axis = figure.subplots()
    for row in table:
        points = [(epoch, nats) for epoch, nats in row.curve if math.isfinite(nats)]
        if points and row.status in COLORS:
            axis.plot(*zip(*points, strict=True), color=COLORS[row.status], alpha=0.7, lw=1)
    axis.set_xlabel("epoch")
    axis.set_ylabel("lowest validation nats")
    return figure
