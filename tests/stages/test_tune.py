"""Searches as commands: a grid, and trials of several workers. More in test_end_to_end.py."""

import pytest

TOY = {
    "dataset": "digits_binary",
    "model": "made",
    "model_overrides": {"hidden": [32]},
    "trainer": {"max_epochs": 3},
    "space": {"model.ordering": {"grid": ["raster", "snake", "random"]}},
    "num_trials": 1,
    "searcher": "random",
    "scheduler": {"name": "none"},
}


def search(make_project, entry, *overrides: str):
    project = make_project({})
    project.edit_params(lambda params: params.update(searches={"toy": entry}))
    done = project.stage("tune", "toy", *overrides)
    assert done.returncode == 0, done.stderr
    return project, project.rows("searches/toy/trials.csv"), done.stderr


@pytest.mark.slow
def test_seconds_of_sampling_are_a_second_objective(make_project) -> None:
    entry = TOY | {"objectives": ["valid_nats", "sampling_seconds"]}
    project, rows, _ = search(make_project, entry)
    places = [(float(row["best_valid_nats"]), float(row["sampling_seconds"])) for row in rows]
    assert all(seconds > 0 for _, seconds in places) and {row["epochs"] for row in rows} == {"3"}
    record = project.json("searches/toy/search.json")
    assert record["command"].startswith("python -m stages.tune toy")
    front = record["front"]
    assert front[0] == 1 + places.index(min(places))
    assert [row["trial"] for row in rows if row["front"] == "yes"] == [
        str(n) for n in sorted(front)
    ]


@pytest.mark.slow
def test_trials_of_two_workers_find_the_same(make_project) -> None:
    """The values differ by rounding alone."""
    entry = TOY | {
        "space": {"trainer.optimizer.learning_rate": {"loguniform": [0.001, 0.01]}},
        "num_trials": 3,
        "searcher": "optuna",
    }
    one = "cluster.max_concurrent_trials=1"
    _, alone, _ = search(make_project, entry, one)
    _, together, log = search(make_project, entry, one, "cluster.num_workers=2")
    assert log.count("ends: valid") == 3
    rate = "trainer.optimizer.learning_rate"
    for first, second in zip(alone, together, strict=True):
        assert first["epochs"] == second["epochs"] == "3"
        assert float(second[rate]) == pytest.approx(float(first[rate]))
        nats = float(first["best_valid_nats"])
        assert float(second["best_valid_nats"]) == pytest.approx(nats, rel=1e-5)


@pytest.mark.slow
def test_trials_of_two_workers_that_are_stopped_leave_room_for_the_next(make_project) -> None:
    """What a stopped trial reserved is given back at once."""
    rates = [0.003, 3e-7, 2e-7, 1e-7]  # the later, the worse
    entry = TOY | {
        "model_overrides": {"hidden": [500]},
        "trainer": {"max_epochs": 3, "batch_size": 4},  # of some seconds an epoch
        "space": {"trainer.optimizer.learning_rate": {"grid": rates}},
        "scheduler": {"name": "asha", "grace_epochs": 1, "reduction_factor": 2},
    }
    one = "cluster.max_concurrent_trials=1"
    project, rows, log = search(make_project, entry, one, "cluster.num_workers=2")
    assert [row["status"] for row in rows] == ["finished", *["stopped"] * 3]
    told = project.own(log)  # Ray's processes complain where they are ended
    assert told.count("stopped at epoch 1") == 3 and "Traceback" not in told, log


@pytest.mark.slow
def test_a_time_budget_ends_a_search_well(make_project) -> None:
    """Running trials are stopped and count; the search is not an interrupted one."""
    entry = TOY | {"trainer": {"max_epochs": 100_000}, "time_budget_minutes": 0.6}
    project, rows, log = search(make_project, entry)
    assert rows and {row["status"] for row in rows} == {"stopped"}
    ran = [row for row in rows if row["epochs"] != "0"]  # another may have waited for a CPU
    assert ran and all(float(row["best_valid_nats"]) > 0 for row in ran)
    assert project.json("searches/toy/search.json")["stopped"] == len(rows)
