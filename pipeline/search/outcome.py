"""What a search leaves: its trials and their curves, the best overrides, importances, a record."""

import json
import math
from collections.abc import Sequence
from pathlib import Path

import optuna
import pandas as pd
import yaml

from pipeline.core.records import write_object
from pipeline.search.spec import NATS, SECONDS, Search
from pipeline.search.trials import STATUSES, TrialRecord, best, front

SCALARS = (str, int, float)
Table = Sequence[TrialRecord]


def summarize(search: Search, table: Table, **origin: object) -> dict[str, object]:
    """Return search.json: what a search tried and found; DVC ignores it (`.dvcignore`).

    `default_trial` has the base experiment's own values. `front` has the trials that none beats in
    both objectives, by rising nats; it is empty for one objective.

    Its origin: run_id and mlflow_experiment of MLflow; `writing` adds seconds, command, commit and
    device. A `UserError` if no trial has a finite value.
    """
    winner, defaults = best(table), search.defaults()
    default = next((row for row in table if row.values == defaults), None)
    counts = {status: sum(row.status == status for row in table) for status in STATUSES[:3]}
    return {
        "search": search.name,
        "dataset": search.base.dataset["name"],
        "model": search.base.model["name"],
        "trials": len(table),
        **counts,
        "epochs": sum(row.epochs for row in table),
        "best_trial": winner.number,
        "best_valid_nats": winner.value,
        "default_trial": default and default.number,
        "default_valid_nats": default.value if default and math.isfinite(default.value) else None,
        **origin,
        "trial_seconds": [row.seconds for row in table],
        "front": front(table),
    }


def study_of(search: Search, table: Table, objective: str = NATS) -> optuna.Study:
    """Return the trials that have a value of an objective, as Optuna draws and judges them."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study()
    for row in table:
        value = row.value if objective == NATS else row.sampling_seconds
        if value is not None and math.isfinite(value):
            trial = optuna.trial.create_trial(
                params={p.name: p.encode(row.values[p.name]) for p in search.space},
                distributions={p.name: p.distribution() for p in search.space},
                value=value,
            )
            study.add_trial(trial)
    return study


def importances(study: optuna.Study) -> dict[str, float]:
    """Return the share in the objective's variance that each parameter has by itself (fANOVA).

    What the shares lack to 1 is of parameters together, or chance. By Optuna's forest, over all
    trials with a value; a trial that was stopped early has its last one. Empty with
    fewer than four trials or two parameters that vary, or where the values do not differ.

    Reference:
        Hutter, Hoos and Leyton-Brown, "An Efficient Approach for Assessing Hyperparameter
        Importance", ICML 2014.
    """
    drawn = pd.DataFrame([trial.params | {"value": trial.value} for trial in study.trials])
    varied = [name for name in drawn.columns if drawn[name].nunique() > 1]
    if len(drawn) < 4 or len(varied) < 3 or "value" not in varied:
        return {}
    # `get_param_importances` scales the shares to a sum of 1, as if nothing came of two together
    evaluator = optuna.importance.FanovaImportanceEvaluator(seed=0)
    shares = evaluator.evaluate(study, [name for name in varied if name != "value"])
    return {name: float(share) for name, share in shares.items()}


def write(search: Search, table: Table, record: dict[str, object], folder: Path) -> None:
    """Write trials.csv, curves.csv, best.yaml, importance.csv and search.json into a folder.

    The best is of the lowest nats, whatever its samples cost.
    """
    winner = best(table)
    write_object(folder / "search.json", record)
    tables = {"trials": _trial_rows, "importance": _importance_rows, "curves": _curve_rows}
    for name, rows in tables.items():
        frame = rows(search, table)
        frame.to_csv(folder / f"{name}.csv", index=False, lineterminator="\n", encoding="utf-8")
    heading = (
        f"# What search {search.name} found: trial {winner.number} of {len(table)}, "
        f"{winner.value:.3f} validation nats.\n"
    )
    overlay = yaml.safe_dump(search.overlay(winner.values), sort_keys=False)
    (folder / "best.yaml").write_text(heading + overlay, encoding="utf-8")


def summary(record: dict[str, object]) -> dict[str, dict[str, object]]:
    """Return what DVC compares of a search, the best trial's nats, as an evaluation's value is."""
    said = {"value": record["best_valid_nats"], "unit": "valid_nats"}
    return {f"searches/{record['search']}": said}


def _importance_rows(search: Search, table: Table) -> pd.DataFrame:
    """Return importance.csv: a column for each objective, by falling share in the nats."""
    names = search.plan.objectives
    shares = [importances(study_of(search, table, name)) for name in names]
    columns = ["parameter", *(["importance"] if len(names) == 1 else names)]
    found = list(shares[0]) or list(shares[-1])
    rows = [[name, *(f"{share.get(name, 0):.4f}" for share in shares)] for name in found]
    return pd.DataFrame(rows, columns=columns, dtype=object)


def _curve_rows(_: Search, table: Table) -> pd.DataFrame:
    rows = [
        (row.number, epoch.epoch, f"{epoch.best_valid_nats:.6f}")
        for row in table
        for epoch in row.history
        if math.isfinite(epoch.best_valid_nats)
    ]
    return pd.DataFrame(rows, columns=["trial", "epoch", "best_valid_nats"], dtype=object)


def _trial_rows(search: Search, table: Table) -> pd.DataFrame:
    names = [parameter.name for parameter in search.space]
    timed = [SECONDS, "front"] if len(search.plan.objectives) > 1 else []
    unbeaten = front(table)
    rows = []
    for row in table:
        seconds = "" if row.sampling_seconds is None else f"{row.sampling_seconds:.4g}"
        values = {name: row.values[name] for name in names}
        rows.append(
            {
                "trial": row.number,
                "status": row.status,
                "epochs": row.epochs,
                "best_valid_nats": f"{row.value:.6f}" if math.isfinite(row.value) else "",
                SECONDS: seconds,
                "front": "yes" if row.number in unbeaten else "no",
                **{n: v if isinstance(v, SCALARS) else json.dumps(v) for n, v in values.items()},
                "problem": row.problem,
            }
        )
    columns = ["trial", "status", "epochs", "best_valid_nats", *timed, *names, "problem"]
    return pd.DataFrame(rows, columns=columns, dtype=object)
