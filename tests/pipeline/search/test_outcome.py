"""What a search leaves: the table, the best overrides, importances and curves."""

import csv
import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipeline import stage
from pipeline.search import outcome, spec
from pipeline.search.trials import TrialRecord, front
from pipeline.training.training_records import EpochRecord
from tests.support.refusals import refused

ENTRY = {
    "dataset": "digits_binary",
    "model": "made",
    "model_overrides": {"dropout": 0.1},
    "space": {
        "model.hidden": {"choice": [[8], [8, 8]]},
        "model.ordering": {"choice": ["raster", "random"]},
        "trainer.batch_size": {"randint": [10, 200]},
        "trainer.optimizer.learning_rate": {"loguniform": [0.0001, 0.1]},
    },
}


@pytest.fixture
def search(load) -> spec.Search:
    return load()


def trial(number: int, value: float, rate: float = 0.01, **changes: Any) -> TrialRecord:
    values = {
        "model.hidden": [8] if number % 2 else [8, 8],
        "model.ordering": "raster" if number % 3 else "random",
        "trainer.batch_size": 10 + number,
        "trainer.optimizer.learning_rate": rate,
    }
    epochs = changes.pop("epochs", 5)
    row = {"step": 1, "learning_rate": rate, "train_nats": value, "seconds": 1.5}
    history = (
        EpochRecord(epoch=1, best_valid_nats=value + (epochs > 1), **row),
        EpochRecord(epoch=epochs, best_valid_nats=value, **row),
    )
    fields = {"status": "finished", "history": history[epochs == 1 :]} | changes
    return TrialRecord(number=number, values=values, **fields)


ALIKE = trial(1, 0.0).values
RATE = "trainer.optimizer.learning_rate"


def summarize(search: spec.Search, table: list[TrialRecord]) -> dict[str, Any]:
    where = {"run_id": "run", "mlflow_experiment": "arcore-toy", "commit": "abc"}
    where["command"] = "python -m stages.tune toy"
    return outcome.summarize(search, table, seconds=2.0, device="cpu (a, 1 thread)", **where)


def written(search: spec.Search, table: list[TrialRecord], record: dict[str, Any]) -> Path:
    folder = Path("written")
    folder.mkdir(exist_ok=True)
    outcome.write(search, table, record, folder)
    stage.write_metrics(outcome.summary(record))
    return folder


def rows_of(path: Path) -> list[dict[str, str]]:
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def varied() -> list[TrialRecord]:
    """The objective depends on the learning rate alone."""
    rates = [10 ** (-4 + 3 * (i * 7 % 24) / 24) for i in range(24)]
    return [trial(i + 1, 20 + 5 * math.log10(rate) ** 2, rate) for i, rate in enumerate(rates)]


def test_everything_is_written(search: spec.Search) -> None:
    table = [
        *varied(),
        trial(25, 1e9, status="stopped", epochs=1),
        trial(26, math.inf, status="failed", problem="the loss is not finite"),
    ]
    out = written(search, table, summarize(search, table))
    rows = rows_of(out / "trials.csv")
    assert len(rows) == 26 and rows[1]["model.hidden"] == "[8, 8]"
    assert rows[25]["best_valid_nats"] == "" and rows[25]["problem"] == "the loss is not finite"
    record = json.loads((out / "search.json").read_text())
    assert (record["finished"], record["stopped"], record["failed"]) == (24, 1, 1)
    assert record["epochs"] == 24 * 5 + 1 and record["run_id"] == "run"
    assert record["default_trial"] is None, "no trial has the entry's own values"
    winner = min(table, key=lambda row: row.value)
    assert record["best_trial"] == winner.number
    found = yaml.safe_load((out / "best.yaml").read_text())
    assert found["model"]["dropout"] == 0.1 and found["model"]["hidden"] == [8, 8]
    assert found["trainer"]["optimizer"] == {
        "learning_rate": winner.values["trainer.optimizer.learning_rate"]
    }
    curves = (out / "curves.csv").read_text().splitlines()
    assert len(curves) == 1 + 24 * 2 + 1 and curves[2] == f"1,5,{rows[0]['best_valid_nats']}"
    assert len(list(out.iterdir())) == 5


def test_two_objectives_have_a_front_and_importances_each(load) -> None:
    """Nats depend on the learning rate, seconds on the batch size."""
    search = load(objectives=["valid_nats", "sampling_seconds"], scheduler={"name": "none"})
    table = [replace(row, sampling_seconds=25.0 - row.number) for row in varied()]
    table.append(trial(25, math.inf, status="failed", problem="the loss is not finite"))
    record = summarize(search, table)
    places = {row.number: (row.value, row.sampling_seconds) for row in table[:24]}
    unbeaten = [
        number
        for number, place in places.items()
        if not any(a < place[0] and b < place[1] for a, b in places.values())
    ]
    assert sorted(record["front"]) == unbeaten and record["front"][0] == record["best_trial"]
    quick = replace(table[-1], sampling_seconds=0.1)
    assert front([*table[:-1], quick]) == record["front"], "a failed trial is on none"
    out = written(search, table, record)
    rows = rows_of(out / "trials.csv")
    assert [row["trial"] for row in rows if row["front"] == "yes"] == list(map(str, unbeaten))
    assert float(rows[0]["sampling_seconds"]) == 24.0 and rows[24]["sampling_seconds"] == ""
    shares = {row["parameter"]: row for row in rows_of(out / "importance.csv")}
    assert float(shares["trainer.optimizer.learning_rate"]["valid_nats"]) > 0.7
    assert float(shares["trainer.batch_size"]["sampling_seconds"]) > 0.7


def test_an_entry_that_failed_has_no_value(load) -> None:
    """Infinity is no JSON."""
    search = load(space={"model.ordering": {"choice": ["raster", "random"]}})
    failed = {"status": "failed", "epochs": 0, "problem": "the loss is not finite"}
    table = [
        replace(trial(1, math.inf, **failed), values={"model.ordering": "raster"}),
        replace(trial(2, 9.0), values={"model.ordering": "random"}),
    ]
    out = written(search, table, summarize(search, table))

    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    record = json.loads((out / "search.json").read_text(), parse_constant=refuse)
    assert (record["default_trial"], record["default_valid_nats"]) == (1, None)
    summary = json.loads(Path("metrics/searches/toy.json").read_text(), parse_constant=refuse)
    assert summary == {"value": 9.0, "unit": "valid_nats"}


def test_what_two_parameters_do_together_is_neithers_share(search: spec.Search) -> None:
    """Of an exclusive or, neither has any of the variance by itself."""
    table = []
    for number in range(1, 33):
        row = trial(number, 0.0)
        wide, random = number % 2 == 0, number // 2 % 2 == 0
        values = dict(row.values, **{"trainer.batch_size": 50})
        values["model.hidden"] = [8, 8] if wide else [8]
        values["model.ordering"] = "random" if random else "raster"
        table.append(replace(trial(row.number, 20.0 + (wide != random)), values=values))
    shares = outcome.importances(outcome.study_of(search, table))
    assert set(shares) == {"model.hidden", "model.ordering"} and sum(shares.values()) < 0.3


@pytest.mark.parametrize(
    "table",
    [
        [],
        varied()[:3],
        [trial(number, 3.0) for number in range(1, 9)],
        [replace(trial(n, 3.0 + n % 2), values=ALIKE | {RATE: 0.01 * n}) for n in range(1, 9)],
    ],
    ids=["none", "few", "equal", "one parameter"],
)
def test_importance_of_nothing_is_empty(search: spec.Search, table: list[TrialRecord]) -> None:
    assert outcome.importances(outcome.study_of(search, table)) == {}


@pytest.mark.parametrize("table", [[], [trial(1, math.inf, status="failed", problem="it is NaN")]])
def test_without_a_value_there_is_no_best(search: spec.Search, table: list[TrialRecord]) -> None:
    with refused(r"none of \d trials gave a finite validation value: (they were|it is NaN)"):
        summarize(search, table)
    assert not Path("searches/toy").exists()
