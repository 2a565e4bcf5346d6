"""What a search leaves: the trial table, the best overrides, importances, and its record."""

from __future__ import annotations

import csv
import dataclasses
import json
import math
from collections.abc import Sequence
from pathlib import Path

import yaml

from pipeline.core import paths
from pipeline.core.records import Record, write_object
from pipeline.search import objectives, search_figures
from pipeline.search.spec import Search
from pipeline.search.trials import STATUSES, TrialRecord, best


@dataclasses.dataclass(frozen=True, kw_only=True)
class SearchRecord(Record):
    """search.json: what a search tried and found.

    It differs from run to run, so that DVC ignores it (`.dvcignore`).

    Attributes:
        search: its name.
        dataset: on which it trained.
        model: that it trained.
        trials: number of them.
        finished: trials that trained all their epochs.
        stopped: trials that were stopped early.
        failed: trials that could not be, or whose loss was not finite.
        epochs: trained by all of them.
        best_trial: number of the best.
        best_valid_nats: its lowest validation nats.
        default_trial: number of the trial with the base experiment's own values; None without.
        default_valid_nats: its lowest validation nats; None where it has none.
        run_id: of MLflow; None where the store could not be reached.
        mlflow_experiment: that the run is in.
        seconds: of the search, since it was last started.
        trial_seconds: that each trial trained, in the order of trials.csv.
        front: trials that none beats in both objectives, by rising nats; empty for one objective.
        command, commit: what made it. Older records have no command.
        device: of the process that led it, an accelerator or a processor with its threads; those
            of a trial are `cluster.cpus_per_worker`. Older records have none.
    """

    search: str
    dataset: str
    model: str
    trials: int
    finished: int
    stopped: int
    failed: int
    epochs: int
    best_trial: int
    best_valid_nats: float
    default_trial: int | None
    default_valid_nats: float | None
    run_id: str | None
    mlflow_experiment: str
    seconds: float
    commit: str
    trial_seconds: tuple[float, ...] = ()
    front: tuple[int, ...] = ()
    device: str = ""
    command: str = ""


def summarize(
    search: Search,
    table: Sequence[TrialRecord],
    *,
    run_id: str | None,
    mlflow_experiment: str,
    seconds: float,
    command: str,
    commit: str,
    device: str,
) -> SearchRecord:
    """Return the record of a search from its trials, and of where and when it ran.

    Raises:
        UserError: if no trial has a finite value.
    """
    winner = best(table)
    defaults = search.defaults()
    default = next((row for row in table if row.values == defaults), None)
    counts = {status: sum(row.status == status for row in table) for status in STATUSES}
    return SearchRecord(
        search=search.name,
        dataset=search.base.dataset["name"],
        model=search.base.model["name"],
        trials=len(table),
        finished=counts["finished"],
        stopped=counts["stopped"],
        failed=counts["failed"],
        epochs=sum(row.epochs for row in table),
        best_trial=winner.number,
        best_valid_nats=winner.value,
        default_trial=None if default is None else default.number,
        default_valid_nats=default.value if default and math.isfinite(default.value) else None,
        run_id=run_id,
        mlflow_experiment=mlflow_experiment,
        seconds=seconds,
        command=command,
        commit=commit,
        device=device,
        trial_seconds=tuple(row.seconds for row in table),
        front=objectives.front(table),
    )


def importances(
    search: Search, table: Sequence[TrialRecord], objective: str = objectives.NATS
) -> dict[str, float]:
    """Return the share in the objective's variance that each parameter has by itself (fANOVA).

    What the shares lack to 1 is of parameters together, or chance. By Optuna's forest, over all
    trials with a value, those that were stopped early with the value that they had then. Empty with
    fewer than four trials or two parameters that vary, or where the values do not differ.

    Reference:
        Hutter, Hoos and Leyton-Brown, "An Efficient Approach for Assessing Hyperparameter
        Importance", ICML 2014.
    """
    import optuna

    found = [(row, _value(row, objective)) for row in table]
    rows = [row for row, value in found if math.isfinite(value)]
    values = [value for _, value in found if math.isfinite(value)]
    parameters = [p for p in search.space if len({json.dumps(r.values[p.name]) for r in rows}) > 1]
    if len(rows) < 4 or len(parameters) < 2 or len(set(values)) < 2:
        return {}
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study()
    for row, value in zip(rows, values, strict=True):
        study.add_trial(
            optuna.trial.create_trial(
                params={p.name: p.encode(row.values[p.name]) for p in parameters},
                distributions={p.name: p.distribution() for p in parameters},
                value=value,
            )
        )
    # `get_param_importances` scales the shares to a sum of 1, as if nothing came of two together
    shares = optuna.importance.FanovaImportanceEvaluator(seed=0).evaluate(study)
    return {name: float(share) for name, share in shares.items()}


def _value(row: TrialRecord, objective: str) -> float:
    if objective == objectives.NATS:
        return row.value
    return math.inf if row.sampling_seconds is None else row.sampling_seconds


def _importance_rows(search: Search, table: Sequence[TrialRecord]) -> list[list[str]]:
    """Return importance.csv: a column for each objective, by falling share in the nats."""
    names = search.plan.objectives
    shares = [importances(search, table, name) for name in names]
    header = ["parameter", "importance"] if len(names) == 1 else ["parameter", *names]
    found = list(shares[0]) or list(shares[-1])
    return [header, *([n, *(f"{s.get(n, 0):.4f}" for s in shares)] for n in found)]


def write(search: Search, table: Sequence[TrialRecord], record: SearchRecord, folder: Path) -> None:
    """Write trials.csv, best.yaml, importance.csv, search.json and plots into a folder.

    The best is of the lowest nats, whatever its samples cost.

    Arguments:
        search: the search.
        table: its trials, of which one has a finite value.
        record: what search.json says.
        folder: that becomes searches/<name>/.
    """
    winner = best(table)
    write_object(folder / "search.json", record.to_dict())
    _write_csv(folder / "trials.csv", _rows(search, table))
    _write_csv(folder / "importance.csv", _importance_rows(search, table))
    heading = (
        f"# What search {search.name} found: trial {winner.number} of {len(table)}, "
        f"{winner.value:.3f} validation nats.\n"
    )
    overlay = yaml.safe_dump(search.overlay(winner.values), sort_keys=False)
    (folder / "best.yaml").write_text(heading + overlay, encoding="utf-8")
    search_figures.objective_figure(search, table).savefig(folder / "objective.png", dpi=100)
    search_figures.curves_figure(table).savefig(folder / "curves.png", dpi=100)
    if record.front:  # none of one objective, or where the time ended before a trial was timed
        search_figures.front_figure(table, record.front).savefig(folder / "front.png", dpi=100)


def _write_csv(path: Path, rows: Sequence[Sequence[object]]) -> None:
    with open(path, "w", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows(rows)


def write_summary(record: SearchRecord) -> None:
    """Write what DVC compares of a search: the best trial's and the base experiment's own nats."""
    path = paths.metrics(f"searches/{record.search}")
    path.parent.mkdir(parents=True, exist_ok=True)
    found = {"valid_nats": record.best_valid_nats, "default_nats": record.default_valid_nats}
    write_object(path, {key: value for key, value in found.items() if value is not None})


def _rows(search: Search, table: Sequence[TrialRecord]) -> list[list[object]]:
    names = [parameter.name for parameter in search.space]
    timed = len(search.plan.objectives) > 1
    more = [objectives.SECONDS, "front"] if timed else []
    header = ["trial", "status", "epochs", "best_valid_nats", *more, *names, "problem"]
    rows: list[list[object]] = [list(header)]
    unbeaten = objectives.front(table)
    for row in table:
        values = [row.values[name] for name in names]
        plain = [v if isinstance(v, str | int | float) else json.dumps(v) for v in values]
        value = f"{row.value:.6f}" if math.isfinite(row.value) else ""
        known = row.sampling_seconds is not None
        seconds = f"{row.sampling_seconds:.4g}" if known else ""
        extra = [seconds, "yes" if row.number in unbeaten else "no"] if timed else []
        rows.append([row.number, row.status, row.epochs, value, *extra, *plain, row.problem])
    return rows
