"""What a training is refused for before it touches anything, and how its MLflow run ends."""

import os
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pipeline.artifacts import locks, writer
from pipeline.core import paths
from pipeline.core.errors import UserError
from pipeline.data import preprocessing
from pipeline.data.manifest import read_manifest
from pipeline.datasets import catalog
from pipeline.experiments import compose
from pipeline.tracking import mlflow_store
from pipeline.tracking.tracked_run import TrackedRun
from pipeline.training import driver
from pipeline.training.resolved import resolve
from pipeline.training.training_records import Failed, Stopped
from tests.support import refusing_cluster
from tests.support.other_shards import write_black
from tests.support.refusals import killed_in_removing, raising

ENTRIES = {
    "toy": {"dataset": "digits_binary", "model": "made", "trainer": {"max_epochs": 1}},
    "pca": {"dataset": "digits_pca", "model": "made"},
}


@pytest.fixture
def project(workdir: Path, write_project, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(mlflow_store, "start_run", lambda *_, **__: "run")
    write_project(**ENTRIES)
    return workdir


@pytest.fixture
def ended(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    ends: list[str] = []
    monkeypatch.setattr(TrackedRun, "update", lambda self, *_, status: ends.append(status))
    return ends


@pytest.mark.parametrize(
    ("outcome", "end"),
    [(RuntimeError("a"), "FAILED"), (Failed("a"), "FAILED"), (Stopped(3, 1), "KILLED")],
)
def test_whatever_ends_a_training_ends_its_run(
    project: Path, ended: list[str], monkeypatch: pytest.MonkeyPatch, outcome, end: str
) -> None:
    def run_job(*_: object) -> object:
        if isinstance(outcome, RuntimeError):
            raise outcome
        return outcome

    monkeypatch.setattr(driver, "run_job", run_job)
    with pytest.raises(UserError):
        driver.train(compose.load("toy"))
    assert ended == [end]


@pytest.mark.parametrize("failing", refusing_cluster.FAILING)
def test_a_cluster_that_will_not_do_leaves_all_as_it_was(
    project: Path, ended: list[str], monkeypatch: pytest.MonkeyPatch, failing: str
) -> None:
    refusing_cluster.refuse(monkeypatch, failing)
    config = compose.load("toy", ["cluster.num_workers=2"])
    resolved = resolve(config, read_manifest(paths.shards("digits_binary")))
    kept = project / ".arcore/train" / f"toy-{resolved.config_hash[:12]}" / "checkpoint"
    kept.mkdir(parents=True)
    with pytest.raises(UserError, match=refusing_cluster.MESSAGE):
        driver.train(config, fresh=True)
    assert kept.is_dir() and ended == []


def test_a_second_training_touches_nothing_of_the_first(project: Path, monkeypatch) -> None:
    refusing_cluster.forbid_runs(monkeypatch)
    config = compose.load("toy")
    name = f"toy-{resolve(config, read_manifest('data/shards/digits_binary')).config_hash[:12]}"
    with locks.held(locks.path_beside(str(project / ".arcore/train"), name), "training toy"):
        with pytest.raises(UserError, match="^training toy: expected to be alone"):
            driver.train(config, fresh=True)


def runs() -> dict[str, str]:
    store = mlflow_store.client()
    where = store.get_experiment_by_name("arcore-digits_binary").experiment_id
    return {run.info.run_id: run.info.status for run in store.search_runs([where])}


def test_a_training_is_one_run_and_kept_until_it_is_published(
    home: Path, write_project, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    write_project(**ENTRIES)

    with monkeypatch.context() as failing, pytest.raises(UserError, match="s3://b: cannot write"):
        failing.setattr(writer, "publish", raising(UserError("s3://b: cannot write")))
        driver.train(compose.load("toy"))
    (run_id,) = before = runs()
    assert before[run_id] == "FAILED"
    with monkeypatch.context() as midway, pytest.raises(SystemExit):
        midway.setattr(os, "replace", killed_in_removing)
        driver.train(compose.load("toy"))
    assert runs() == {run_id: "FINISHED"}
    assert not list(Path(".arcore/train").glob("toy-*")), "half of the checkpoints are left"
    numbers = r"validation [\d.]+ nats \([\d.]+ bits/dim\), [\d.]+ s"
    assert re.search(rf"toy: best epoch 1 of 1, {numbers}; wrote .*models/toy$", caplog.text, re.M)

    assert "finished before" not in caplog.text, "unfinished work goes on without a word of that"
    with monkeypatch.context() as failing, pytest.raises(UserError):
        failing.setattr(driver, "run_job", raising(RuntimeError("a")))
        driver.train(compose.load("toy"))
    assert "models/toy: finished before; training again from scratch" in caplog.text
    assert Path("models/toy/model.safetensors").is_file()


def test_shards_made_anew_under_a_training_are_refused(
    project: Path, ended: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    shards = paths.shards("digits_binary")
    run_job, began_with = driver.run_job, read_manifest(shards).sha256

    def remade_meanwhile(*given: Any) -> object:
        write_black(shards)
        return run_job(*given)

    monkeypatch.setattr(driver, "run_job", remade_meanwhile)
    with pytest.raises(UserError) as caught:
        driver.train(compose.load("toy"))
    assert str(caught.value) == (
        f"toy: {shards}: expected the shards that this training is of ({began_with[:12]}), got "
        f"{read_manifest(shards).sha256[:12]}, made since; begin it again"
    )
    assert ended == ["FAILED"] and not paths.model("toy").exists()


def test_shards_of_other_options_are_not_trained_on(project: Path) -> None:
    dataset = catalog.get_dataset({"name": "digits_pca", "components": 3})
    preprocessing.write(dataset, dataset.decode(Path()), paths.shards("digits_pca"))
    with pytest.raises(UserError) as caught:
        driver.train(compose.load("pca"))
    assert str(caught.value) == (
        "dataset.components: expected shards made with 8, got those made with 3; "
        "run python -m stages.preprocess digits_pca"
    )
    same = ["dataset.components=3", "dataset.rows_per_shard=9", "model.condition_size=3"]
    manifest = read_manifest(paths.shards("digits_pca"))
    config = compose.load("pca", same)
    assert resolve(config, manifest).experiment == config, "how shards are cut decides no row"
    older = replace(manifest, options={})
    assert resolve(compose.load("pca", ["model.condition_size=3"]), older)


def test_the_same_training_on_two_machines_is_two_runs(home, write_project, monkeypatch) -> None:
    """In a store of both; each goes on with its own."""
    write_project(**ENTRIES)

    monkeypatch.setattr(writer, "publish", raising(UserError("s3://b: cannot write")))
    for _ in range(2):
        for place in ("one", "other"):
            config = compose.load("toy", [f"cluster.storage={home / place}"])
            with pytest.raises(UserError, match="s3://b: cannot write"):
                driver.train(config)
    assert list(runs().values()) == ["FAILED", "FAILED"]
