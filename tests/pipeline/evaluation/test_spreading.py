"""Scoring on workers of Ray: the digits of one process."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from arcore.events import Binary, Gray, Levels
from pipeline.core.atomic import sha256_of
from pipeline.core.errors import UserError
from pipeline.data import shard_reader
from pipeline.datasets.base import SplitData
from pipeline.evaluation import experiment_evaluation, scoring, spreading
from pipeline.evaluation.scoring import ChosenRows
from pipeline.experiments import compose

ON_WORKERS = ("cluster.num_workers=2", "cluster.cpus_per_worker=1")
PLAN = ("evaluation.num_members=3", "evaluation.batch_size=5", "evaluation.num_samples=4")


def files(*overrides: str) -> dict[str, object]:
    out = experiment_evaluation.evaluate(compose.load("toy", [*PLAN, *overrides]))
    metrics = json.loads((out / "metrics.json").read_text())
    return {"metrics": metrics, "scores": (out / "scores.csv").read_text()}


@pytest.mark.own_process
@pytest.mark.timeout(180)
def test_workers_give_the_digits_of_one_process(own_ray, project, tmp_path: Path) -> None:
    assert files(*ON_WORKERS, f"cluster.storage={tmp_path}/storage") == files()
    assert list(tmp_path.glob("storage/shards/digits_binary-*/manifest.json"))


def test_a_batch_alone_gives_the_digits_that_it_gives_among_others(project) -> None:
    test = shard_reader.read_split("data/shards/digits_binary", "test")
    rows = ChosenRows(test, np.arange(1, 24, 2), 5)
    whole = scoring.member_scores(project.ensemble(3), rows)
    folder = Path("models/toy")
    files = spreading._read_files(folder, sha256_of(folder / "model.safetensors"))
    work = spreading.ScoringWork("data/shards/digits_binary", 3, 0, False, "made", None, files)
    work.prepare(1)
    places = rows.batch_places(project.event)
    assert [len(place) for place in places] == [5, 5, 2]
    parts = [torch.from_numpy(*work.do(("test", [rows.numbers[place]]))) for place in places[::-1]]
    assert torch.equal(scoring.in_order(parts, places[::-1]), whole)


def test_a_worker_of_other_code_than_the_drivers_is_refused() -> None:
    work = spreading.ScoringWork("data/shards/digits_binary", 1, 0, False, "made", "b" * 64, {})
    with pytest.raises(UserError, match="expected the code of the driver .bbbbbbbbbbbb., got oth"):
        work.prepare(1)


def test_large_events_are_scored_in_batches_that_memory_holds() -> None:
    split = SplitData(np.zeros((100, 1), np.uint8))
    for event, batch, sizes in (
        (Binary((1, 28, 28)), 60, [60, 40]),
        (Levels(256, (3, 64, 64)), 500, [42, 42, 16]),
        (Gray((20, 1, 64, 64)), 20, [20] * 5),
    ):
        places = ChosenRows.of(split, batch).batch_places(event)
        assert [len(place) for place in places] == sizes
        assert np.concatenate(places).tolist() == list(range(100))
