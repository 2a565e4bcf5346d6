"""Searches as they are given: what is drawn, what is composed, and one line for each flaw."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
import yaml

from pipeline.data.manifest import Manifest, read_manifest
from pipeline.datasets import catalog
from pipeline.experiments import compose, params_file
from pipeline.experiments.schema import ClusterConfig
from pipeline.search import spec, trial_run, tuning
from pipeline.search.space import KINDS, Parameter, parse_space
from tests.places import ROOT
from tests.support.refusals import refused

EXAMPLES: dict[str, list[Any]] = {
    "choice": [[500], [500, 500], None, "raster", 0.5, True],
    "grid": ["raster", "snake"],
    "uniform": [0.0, 0.5],
    "loguniform": [0.0001, 0.1],
    "randint": [1, 4],
    "lograndint": [1, 1000],
}


def drawn(parameter: Parameter, count: int = 300) -> list[Any]:
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    asked = (study.ask({"x": parameter.distribution()}) for _ in range(count))
    return [parameter.decode(trial.params["x"]) for trial in asked]


@pytest.mark.parametrize("kind", KINDS)
def test_draws_are_plain_and_inside(kind: str) -> None:
    (parameter,) = parse_space({"model.x": {kind: EXAMPLES[kind]}}, "space")
    values = drawn(parameter)
    assert all(parameter.contains(value) for value in values)
    assert all(parameter.contains(parameter.decode(parameter.encode(value))) for value in values)
    if kind in ("choice", "grid"):
        assert all(option in values for option in EXAMPLES[kind])
    elif "int" in kind:
        low, high = EXAMPLES[kind]
        assert {type(value) for value in values} == {int}
        assert low <= min(values) and max(values) < high
        assert parameter.examples() == [low, high - 1]
    else:
        assert {type(value) for value in values} == {float}
        assert len(set(values)) == len(values)


def test_a_logarithmic_scale_draws_by_magnitude() -> None:
    (parameter,) = parse_space({"model.x": {"loguniform": [1e-4, 1.0]}}, "space")
    assert np.mean([value < 1e-2 for value in drawn(parameter)]) == pytest.approx(0.5, abs=0.1)


def test_nought_is_nought_however_it_is_written_and_one_is_not_true() -> None:
    (parameter,) = parse_space({"model.dropout": {"choice": [0, 0.1]}}, "space")
    assert parameter.contains(0.0) and not parameter.contains(False)
    assert parameter.decode(parameter.encode(0.0)) == 0
    assert parameter.encode(0.0) in parameter.distribution().choices
    (parameter,) = parse_space({"model.x": {"choice": [1, 2]}}, "space")
    assert parameter.contains(1) and not parameter.contains(True)


@pytest.mark.parametrize(
    ("space", "message"),
    [
        (None, "space: expected a mapping of parameters, got None"),
        ({}, "space: expected a mapping of parameters, got {}"),
        ({"ordering": {"choice": [1]}}, "space.ordering: expected a name below 'model.' or"),
        ({"cluster.num_workers": {"choice": [1]}}, "expected a name below 'model.' or 'trainer.'"),
        ({"model.x": [1, 2]}, "space.model.x: expected one of choice, grid, uniform"),
        ({"model.x": {"choice": [1], "grid": [2]}}, "space.model.x: expected one of choice"),
        ({"model.x": {"choise": [1]}}, "kind of space.model.x 'choise'; did you mean 'choice'?"),
        ({"model.x": {"choice": []}}, "space.model.x.choice: expected a list, got []"),
        ({"model.x": {"choice": [[1], [1]]}}, "expected distinct options, got [[1], [1]]"),
        ({"model.x": {"uniform": [1.0]}}, "expected two numbers [low, high], low < high"),
        ({"model.x": {"uniform": [2.0, 1.0]}}, "space.model.x.uniform: expected two numbers"),
        ({"model.x": {"uniform": [0.0, float("inf")]}}, "expected two numbers [low, high]"),
        ({"model.x": {"uniform": ["a", "b"]}}, "expected two numbers [low, high]"),
        ({"model.x": {"randint": [0.5, 3]}}, "expected two integers [low, high]"),
        ({"model.x": {"randint": [False, 3]}}, "expected two integers [low, high]"),
        ({"model.x": {"loguniform": [0.0, 1.0]}}, "space.model.x.loguniform: expected low > 0"),
    ],
)
def test_bad_spaces_are_one_line(space: Any, message: str) -> None:
    with refused(re.escape(message)):
        parse_space(space, "space")


PARAMS = params_file.read_params(ROOT / "params.yaml")
ENTRY: dict[str, Any] = {
    "dataset": "digits_binary",
    "model": "made",
    "model_overrides": {"hidden": [32], "num_masks": 2},
    "trainer": {"max_epochs": 3},
    "space": {
        "model.ordering": {"choice": ["raster", "random"]},
        "model.hidden": {"choice": [[32], [16, 16]]},
        "trainer.optimizer.learning_rate": {"loguniform": [0.0005, 0.01]},
    },
    "num_trials": 4,
}


@pytest.fixture(scope="session")
def manifest(few_digits: Path) -> Manifest:
    return read_manifest(few_digits)


@pytest.mark.parametrize("name", sorted(PARAMS["searches"]))
def test_every_shipped_search_can_be(name: str, monkeypatch, manifest: Manifest) -> None:
    """All options build a model for the dataset's event, and the first trial is the entry's own."""
    monkeypatch.chdir(ROOT)
    monkeypatch.delenv("ARCORE_CLUSTER", raising=False)
    search = spec.load_search(name)
    dataset = catalog.get_dataset(search.base.dataset)
    for field in ("event", "sound", "num_classes"):
        value = property(lambda _, field=field: getattr(dataset, field))
        monkeypatch.setattr(type(manifest), field, value, raising=False)
    search.check(manifest)
    assert search.total >= 4
    assert search.defaults() is not None
    assert set(PARAMS["searches"][name]) >= {"dataset", "model", "space"}, "for dvc.yaml"
    if search.plan.scheduler.name == "asha":
        assert search.plan.scheduler.grace_epochs < search.base.trainer.max_epochs


def test_a_trial_needs_no_file_of_its_host(load, monkeypatch: pytest.MonkeyPatch) -> None:
    search = load("cluster=gpu")
    Path("params.yaml").unlink()
    for name in ("load_settings", "get_dataset"):
        monkeypatch.delattr(catalog, name)
    trial = search.experiment({"model.hidden": [16]})
    assert trial.model["hidden"] == [16] and trial.cluster.use_gpu
    assert trial.dataset == search.base.dataset


def test_an_experiment_on_the_overlay_trains_as_the_trial(load) -> None:
    search = load()
    values = {"model.ordering": "random", "model.hidden": [16, 16],
              "trainer.optimizer.learning_rate": 0.00123456789}  # fmt: skip
    Path("searches").mkdir()
    Path("searches/best.yaml").write_text(yaml.safe_dump(search.overlay(values)))
    entry = {"dataset": "digits_binary", "model": "made", "base": "searches/best.yaml"}
    Path("params.yaml").write_text(yaml.safe_dump({"experiments": {"toy": entry}}))
    trial = search.experiment(values)
    assert compose.load("toy").to_dict() == trial.to_dict()
    assert trial.model["ordering"] == "random" and trial.model["hidden"] == [16, 16]
    assert trial.model["num_masks"] == 2 and trial.trainer.max_epochs == 3
    assert trial.trainer.optimizer.learning_rate == 0.00123456789
    assert trial.trainer.optimizer.name == search.base.trainer.optimizer.name


def test_a_base_that_changes_meanwhile_is_that_of_the_beginning(load) -> None:
    Path("base.yaml").write_text("trainer: {batch_size: 7}")
    search = load(base="base.yaml")
    Path("base.yaml").write_text("trainer: {batch_size: 9}")
    require_batch_size(search, 7)


def require_batch_size(search: spec.Search, rows: int) -> None:
    values = search.defaults()
    assert values is not None
    assert search.experiment(values).trainer.batch_size == rows
    assert search.overlay(values)["trainer"]["batch_size"] == rows


@pytest.mark.parametrize(
    "overrides",
    [
        ["num_trials=9", "scheduler.name=none", "trainer.batch_size=7", "cluster=gpu"],
        ["trainer={batch_size: 7}"],
        ["trainer.batch_size=7", "model=made", "cluster=gpu"],
    ],
)
def test_overrides_reach_the_plan_the_trials_and_the_overlay(load, overrides: list[str]) -> None:
    search = load(*overrides)
    require_batch_size(search, 7)
    overlay = search.overlay(search.defaults() or {})
    assert set(overlay) == {"model", "trainer"} and overlay["model"]["num_masks"] == 2
    assert overlay["trainer"]["max_epochs"] == 3
    assert search.base.cluster.use_gpu == ("cluster=gpu" in overrides)
    assert search.plan.num_trials == (9 if "num_trials=9" in overrides else 4)


def test_an_entry_may_say_how_many_trials_run_at_once(load) -> None:
    search = load(cluster={"max_concurrent_trials": 1})
    assert search.base.cluster.max_concurrent_trials == 1 and search.name == "toy"
    again = load("cluster.max_concurrent_trials=3", cluster={"max_concurrent_trials": 1})
    assert again.base.cluster.max_concurrent_trials == 3
    with refused("toy.cluster: expected a mapping, got 3"):
        load(cluster=3)


def test_what_decides_a_search_is_its_config_hash(load) -> None:
    same = load().config_hash("data")
    assert same == load("cluster.max_concurrent_trials=1").config_hash("data")
    changed = [
        load("num_trials=5"),
        load("objectives=[valid_nats,sampling_seconds]", "scheduler.name=none"),
        load(seed=1),
        load("trainer.max_epochs=4"),
        load(space={"model.ordering": {"choice": ["raster", "snake"]}}),
    ]
    hashes = {search.config_hash("data") for search in changed} | {load().config_hash("other")}
    assert len(hashes) == 6 and same not in hashes


def test_defaults_outside_of_the_space_are_not_a_trial(load) -> None:
    assert load().defaults() == {
        "model.ordering": "raster",
        "model.hidden": [32],
        "trainer.optimizer.learning_rate": 0.001,
    }
    assert load(model_overrides={"hidden": [33]}).defaults() is None


def test_a_grid_multiplies(load) -> None:
    space = {"model.ordering": {"grid": ["raster", "snake", "spiral"]},
             "model.hidden": {"grid": [[8], [9]]}}  # fmt: skip
    assert load(space=space, searcher="random", num_trials=2).total == 12


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"spaces": {}}, "unknown key of searches.toy 'spaces'; did you mean 'space'?"),
        ({"num_trials": 0}, "num_trials: expected >= 1, got 0"),
        ({"searcher": "grid"}, "searcher: expected 'optuna' or 'random', got 'grid'"),
        ({"scheduler": {"name": "pbt"}}, "scheduler.name: expected 'asha' or 'none', got"),
        ({"scheduler": {"grace": 3}}, "unknown parameter of searches.toy.scheduler 'grace'"),
        ({"scheduler": {"reduction_factor": 1}}, "scheduler.reduction_factor: expected > 1"),
        ({"time_budget_minutes": 0}, "time_budget_minutes: expected > 0, got 0"),
        ({"space": {"model.ordering": {"grid": ["raster"]}}}, "searches.toy.searcher: expected"),
        ({"objectives": ["sampling_seconds"]}, "objectives: expected ['valid_nats'] or"),
        (
            {"objectives": ["valid_nats", "sampling_seconds"]},
            "scheduler.name: expected none with two objectives, got 'asha'",
        ),
        (
            {
                "objectives": ["valid_nats", "sampling_seconds"],
                "scheduler": {"name": "none"},
                "space": {"trainer.seed": {"choice": [0, 1]}},
            },
            "searches.toy.space: trainer.seed: expected one seed with two objectives",
        ),
        ({"model": "maed"}, "unknown model 'maed'; did you mean 'made'"),
        ({"base": "searches/other/best.yaml"}, "searches.toy.base: searches/other/best.yaml: exp"),
    ],
)
def test_bad_searches_are_one_line(load, entry: dict[str, Any], message: str) -> None:
    with refused(re.escape(message)):
        load(**entry)


@pytest.mark.parametrize(
    ("space", "message"),
    [
        (
            {"model.ordering": {"choice": ["raster", "zigzag"]}},
            'searches.toy.space.model.ordering: "zigzag": model: ordering: ',
        ),
        ({"model.hiden": {"choice": [[3]]}}, "searches.toy.space.model.hiden: [3]: model: "),
        (
            {"trainer.optimizer.learning_rate": {"uniform": [-0.1, 0.1]}},
            "learning_rate: -0.1: trainer.optimizer.learning_rate: expected > 0",
        ),
        ({"model.num_masks": {"uniform": [2, 9]}}, "searches.toy.space.model.num_masks: 2.0: mod"),
        ({"trainer.batch_size": {"uniform": [2, 9]}}, "space.trainer.batch_size: 2.0: trainer.ba"),
        ({"model.dropout": {"uniform": [0.0, 2.0]}}, "searches.toy.space.model.dropout: 2.0: "),
        ({"trainer.batch": {"randint": [1, 9]}}, "unknown parameter of trainer 'batch'"),
        ({"trainer.seed.a": {"choice": [3]}}, "trainer.seed: expected an integer, got {"),
        ({"model.name": {"choice": ["nade"]}}, "model.name: expected 'made', "),
    ],
)
def test_values_that_cannot_be_are_found_before_anything_starts(
    load, manifest: Manifest, space: dict[str, Any], message: str
) -> None:
    with refused(re.escape(message)):
        load(space=space).check(manifest)


@pytest.mark.parametrize(
    ("trainer", "overrides", "drawn", "validated"),
    [
        ({}, [], {}, [1, 8]),
        ({"validate_members": 1}, [], {}, [1, 1]),
        ({"validate_members": None}, [], {}, [None, None]),
        ({}, ["trainer.validate_members=1"], {}, [1, 1]),
        ({}, [], {"trainer.validate_members": 2}, [2, 2]),
    ],
)
def test_a_trial_validates_its_own_masks(
    load, trainer: dict[str, Any], overrides: list[str], drawn: dict[str, int], validated
) -> None:
    space = {"model.num_masks": {"choice": [1, 8]}} | {
        n: {"choice": [1, v]} for n, v in drawn.items()
    }
    search = load(*overrides, model_overrides={}, trainer=trainer, space=space)
    trials = [search.experiment({"model.num_masks": masks, **drawn}) for masks in (1, 8)]
    assert [trial.trainer.validate_members for trial in trials] == validated


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ({}, [{"CPU": 1.0}]),
        ({"num_workers": 2, "cpus_per_worker": 3}, [{"CPU": 3.0}] * 2),
        ({"num_workers": 4, "use_gpu": True}, [{"CPU": 1.0, "GPU": 1.0}] * 4),
    ],
)
def test_all_workers_of_a_trial_are_reserved_at_once(asked, expected) -> None:
    """So that no trial waits with a part of its workers for those of another one."""
    assert trial_run.bundles(tuning.trial_cluster(ClusterConfig(**asked))) == expected


def test_a_search_changed_by_hand_has_a_name_of_its_own(load) -> None:
    assert load().name == load("cluster.max_concurrent_trials=1").name == "toy"
    assert load("num_trials=2").name == "toy--num_trials-2"
    assert load("trainer.max_epochs=2", "seed=3").name == "toy--seed-3-trainer.max_epochs-2"
    assert load("num_trials=2").base.name == "toy", "its trials are those of the entry"
