"""An interrupted search goes on from its records as if nothing had been: draws, rungs, refusals."""

import dataclasses
import json
import math
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pipeline.core.errors import UserError
from pipeline.search import spec
from pipeline.search.algorithms import TrialSource, scheduler_of
from pipeline.search.trials import TrialRecord, TrialRecords
from pipeline.training.training_records import BEST, TIME, EpochRecord
from tests.support.refusals import refused

RATE = "trainer.optimizer.learning_rate"
ENTRY: dict[str, Any] = {
    "dataset": "digits_binary",
    "model": "made",
    "space": {
        "model.ordering": {"choice": ["raster", "random"]},
        "trainer.batch_size": {"randint": [10, 200]},
        RATE: {"loguniform": [0.0001, 0.1]},
    },
    "num_trials": 24,
}
GRID = {"space": {"model.ordering": {"grid": ["raster", "snake"]}, RATE: {"uniform": [0.1, 1]}}}


FAILURE = [{TIME: 1, BEST: math.inf, "problem": "NaN"}]


def value_of(drawn: dict[str, Any]) -> float:
    return 50.0 + abs(float(drawn[RATE]) - 0.02) * 100


def epochs(*nats: float) -> list[EpochRecord]:
    row = {"seconds": 1.0, "learning_rate": 0.1}
    return [
        EpochRecord(epoch=i, step=i, train_nats=n, best_valid_nats=n, **row)
        for i, n in enumerate(nats, 1)
    ]


def ended(record: TrialRecord, status: str = "stopped", **changes: Any) -> TrialRecord:
    return dataclasses.replace(record, status=status, **changes)


def record_of(search: spec.Search, number: int, drawn: dict[str, Any], *nats: float) -> TrialRecord:
    values = {p.name: p.decode(drawn[p.name]) for p in search.space}
    record = TrialRecord(number=number, status="unfinished", values=values)
    for epoch in epochs(*nats):
        record = record.reported(epoch)
    return record


def draws(search: spec.Search, number: int, before: Sequence[TrialRecord] = ()) -> list[Any]:
    """Draw trials one after the other, each ended before the next, after those there were."""
    source, drawn = source_of(search, before), []
    for _ in range(number):
        drawn.append(source.suggest("id"))
        source.on_trial_complete("id", reported(search, drawn[-1]))
    return drawn


def reported(search: spec.Search, drawn: dict[str, Any]) -> dict[str, float]:
    return dict.fromkeys(search.plan.objectives, 1.0) | {BEST: value_of(drawn)}


def source_of(search: spec.Search, before: Sequence[TrialRecord]) -> TrialSource:
    return TrialSource(search, before, scheduler_of(search.plan.scheduler, []))


@pytest.mark.parametrize("changes", [{}, {"searcher": "random"}, GRID | {"searcher": "random"}])
def test_draws_after_an_interruption_are_those_without(load, changes: dict[str, Any]) -> None:
    """Also where TPE has begun to model (from its eleventh trial on)."""
    search = load(**changes)
    trials = draws(search, search.total)
    before = [ended(record_of(search, n, trials[n - 1], value_of(trials[n - 1])))
              for n in range(1, 15)]  # fmt: skip
    assert draws(search, search.total - 14, before) == trials[14:]
    assert len({str(trial) for trial in trials}) == len(trials) == search.total
    assert all(p.contains(p.decode(t[p.name])) for t in trials for p in search.space)


def test_two_objectives_both_enter_the_draws(load) -> None:
    """Once TPE models them; a trial without one of them counts as failed."""
    search = load(objectives=["valid_nats", "sampling_seconds"], scheduler={"name": "none"})
    trials = draws(search, 14)
    both = [ended(record_of(search, n, trial, value_of(trial)), sampling_seconds=1.0)
            for n, trial in enumerate(trials, 1)]  # fmt: skip
    lacking = [ended(record, sampling_seconds=None) for record in both]
    assert draws(search, 4, both) == draws(search, 4, both) != draws(search, 4, lacking)


def test_every_point_of_a_grid_is_drawn_as_often(load) -> None:
    search = load(**GRID, searcher="random", num_trials=3)
    assert [one["model.ordering"] for one in draws(search, 6)] == ['"raster"', '"snake"'] * 3


def test_interrupted_trials_come_first_and_ended_ones_not_again(load) -> None:
    search = load(num_trials=6)
    drawn = dict(enumerate(draws(search, 5), 1))
    records = {n: record_of(search, n, drawn[n], 60.0, 50.0) for n in (1, 2, 3, 5)}
    records[1] = ended(records[1])
    records[3] = dataclasses.replace(records[3], history=())
    source = source_of(search, list(records.values()))
    assert source.left == 5
    given: list[Any] = [source.suggest(f"id-{k}") for k in range(5)]
    assert [one["number"] for one in given] == [2, 3, 5, 4, 6]
    assert [one["known"] for one in given] == [2, 0, 2, 0, 0]
    assert given[0] == drawn[2] | {"number": 2, "known": 2}
    assert source.suggest("id-5") == "FINISHED"


def test_the_scheduler_compares_with_trials_that_ended_before(load) -> None:
    search = load(scheduler={"name": "asha", "grace_epochs": 2, "reduction_factor": 2})
    (drawn,) = draws(search, 1)
    before = [ended(record_of(search, n, drawn, 9.0, n)) for n in (1, 2, 3)]
    source = TrialSource(search, before, scheduler := scheduler_of(search.plan.scheduler, before))
    assert source.left == search.total - 3

    new = SimpleNamespace(trial_id="new")
    scheduler.on_trial_add(None, new)
    assert scheduler.on_trial_result(None, new, {TIME: 2, BEST: 8.0}) == "STOP"


def test_the_scheduler_knows_of_failed_trials_what_it_was_told(load) -> None:
    """What a trial reported before it failed stays in the rungs, and so does its failure."""
    search = load(scheduler={"name": "asha", "grace_epochs": 1, "reduction_factor": 2})
    (drawn,) = draws(search, 1)
    told, before = scheduler_of(search.plan.scheduler, []), []
    for number, (nats, problem) in enumerate([([9.0], ""), ([5.0], "NaN"), ([], "NaN")], 1):
        trial = SimpleNamespace(trial_id=f"{number}")
        told.on_trial_add(None, trial)
        for report in [row.to_dict() for row in epochs(*nats)] + FAILURE * bool(problem):
            told.on_trial_result(None, trial, report)
        record = record_of(search, number, drawn, *nats)
        before.append(ended(record, "failed" if problem else "stopped", problem=problem))
    replayed = scheduler_of(search.plan.scheduler, before)
    rungs = [one._brackets[0]._rungs[-1] for one in (told, replayed)]
    assert [sorted(rung[1].values()) for rung in rungs] == [[-math.inf, -9.0, -5.0]] * 2


def test_records_are_read_as_they_were_kept(load, tmp_path: Path) -> None:
    search = load()
    kept = TrialRecords(search, str(tmp_path))
    (drawn,) = draws(search, 1)
    record = record_of(search, 7, drawn, 60.0, 50.0)
    kept.keep(record)
    kept.keep(record.reported(epochs(60.0, 50.0)[1]))  # an epoch that is reported again
    lost = record_of(search, 8, drawn)
    kept.keep(ended(lost, "failed", lost=True))
    found = TrialRecords(search, str(tmp_path))
    found.read()
    assert found.all() == [record, lost]
    assert found[7].epochs == 2 and found[7].value == 50.0
    assert [path.name for path in (tmp_path / "trials").iterdir() if path.name[0] == "."] == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"number": 25}, "number: expected an integer in 1..24, got 25"),
        ({"status": "done"}, "status: expected one of"),
        ({"values": {}}, "values.model.ordering: expected a value of choice"),
        ({"values": {"model.ordering": "raster", "trainer.batch_size": True, RATE: 0.01}},
         "values.trainer.batch_size: expected a value of randint"),
        ({"values": {"model.ordering": "raster", "trainer.batch_size": 20, RATE: 9.0}},
         f"values.{RATE}: expected a value of loguniform"),
        ({"values": {"model.ordering": "raster", "trainer.batch_size": 20, RATE: 0.1, "x": 1}},
         "values: expected those of the space, got ['x']"),
    ],
)  # fmt: skip
def test_other_records_are_one_line(load, tmp_path: Path, change, message: str) -> None:
    search = load()
    plain = record_of(search, 1, *draws(search, 1), 60.0).to_dict() | change
    (tmp_path / "trials").mkdir()
    (tmp_path / "trials/000001.json").write_text(json.dumps(plain))
    with pytest.raises(UserError) as caught:
        TrialRecords(search, str(tmp_path)).read()
    assert "000001.json: " in str(caught.value) and message in str(caught.value)


def test_trials_of_other_code_are_refused(load, tmp_path: Path) -> None:
    search = load()
    begun = TrialRecords(search, str(tmp_path))
    begun.begin(1, record_of(search, 1, *draws(search, 1)).values)
    again = TrialRecords(search, str(tmp_path))
    again.read()
    assert again[1].code_sha256 == begun.code_sha256 is not None
    again.code_sha256 = "b" * 64
    with refused(r"000001\.json: expected a trial of this code \(bbbbbbbb\)"):
        again.read()
    again.code_sha256 = None  # an installation without its sources
    again.read()
