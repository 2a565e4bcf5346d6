import dataclasses
import logging
import os
import shutil
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import pytest

from pipeline import stage
from pipeline.artifacts.artifact import STUDY, Artifact
from pipeline.artifacts.writer import Work
from pipeline.core.errors import AskedToStop, UserError
from pipeline.evaluation.result_records import ImportanceEstimate, Result, Score
from pipeline.stage import Made
from pipeline.tracking import mlflow_store, tracked_run
from pipeline.tracking.tracked_run import TrackedRun
from pipeline.training.training_records import EpochRecord
from tests.places import ROOT
from tests.support.refusals import raising

DEAD = "http://127.0.0.1:9"


def start(params=None, key="same"):
    return mlflow_store.start_run("arcore-toy", "toy", key, params or {"a": 1}, {"commit": "abc"})


def history(run_id, key):
    found = mlflow_store.client().get_metric_history(run_id, key)
    return [(metric.step, metric.value) for metric in found]


def test_uris_are_absolute(workdir, monkeypatch):
    assert mlflow_store.tracking_uri() == f"sqlite:///{workdir}/mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///other.db")
    assert mlflow_store.tracking_uri() == f"sqlite:///{workdir}/other.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", DEAD)
    assert mlflow_store.tracking_uri() == DEAD


def test_telemetry_is_off_in_every_process_and_mlflow_is_imported_late():
    code = (
        "import os, sys, pipeline.tracking.mlflow_store; assert 'mlflow' not in sys.modules;"
        "from mlflow.telemetry.utils import is_telemetry_disabled as off;"
        "print(off(), flush=True); os._exit(0)"  # before anything is sent, were it on
    )
    # MLflow takes many a variable for a sign of tests, PYTEST_CURRENT_TEST and CI among them.
    env = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    ran = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=env, capture_output=True)
    assert ran.stdout.strip() == b"True", ran.stderr


def test_an_unfinished_run_is_resumed_with_a_clean_history(home):
    run_id = start()
    run = TrackedRun(run_id)
    for step in range(3):
        run.update({step: {"train_nats": 3.0 - step}})
    # No end: the process was killed.
    assert start({"a": 2, "b": 3}) == run_id
    run = TrackedRun(run_id)
    run.update({step: {"train_nats": 3.0 - step} for step in range(1, 4)})
    run.update(values={"test_nats": 1.5})
    run.update(values={"test_nats": 1.5})
    assert history(run_id, "curves/train_nats") == [(0, 3.0), (1, 2.0), (2, 1.0), (3, 0.0)]
    assert history(run_id, "test_nats") == [(0, 1.5)]
    run.update(status="FINISHED")
    store = mlflow_store.client()
    run = store.get_run(run_id)
    assert run.data.params == {"a": "1", "b": "3"} and run.data.tags["commit"] == "abc"
    assert len(store.search_runs([run.info.experiment_id])) == 1
    assert start() != run_id, "a finished run is not resumed"


def test_a_fresh_start_is_another_run(home, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["stages/train.py", "toy", "cluster.storage=s3://a:b@c/d"])
    old = start()
    TrackedRun(old).update({1: {"train_nats": 9.0}})
    new = mlflow_store.start_run("arcore-toy", "toy", "same", {}, {}, fresh=True)
    TrackedRun(new).update({1: {"train_nats": 5.0}})
    assert new != old and history(new, "curves/train_nats") == [(1, 5.0)]
    store = mlflow_store.client()
    assert store.get_run(old).info.status == "KILLED"
    source = store.get_run(new).data.tags["mlflow.source.name"]
    assert source == "python -m stages.train toy cluster.storage=s3://c/d"
    assert start() == new


def test_columns_of_any_name_are_parameters(home):
    names = ["weight (kg)", "size %", "name, full", "a/../b", "grö\u00dfe", "x" * 300, "#"]
    params = dict.fromkeys(names, 3)
    run = start(params, "key")
    kept = mlflow_store.client().get_run(run).data.params
    assert len(kept) == len(names) and set(kept.values()) == {"3"}
    assert start(params, "key") == run


def test_failed_runs_are_resumed_and_identities_kept_apart(home):
    run_id = start()
    TrackedRun(run_id).update(status="FAILED")
    assert start(key="other") != run_id
    assert start() == run_id
    assert mlflow_store.client().get_run(run_id).info.status == "RUNNING"


def test_artifacts_lie_under_the_working_directory(home):
    run_id = start()
    (home / "grid.png").write_bytes(b"png")
    TrackedRun(run_id).update(files=[home / "grid.png", home / "none.png"])
    stored = {str(p.relative_to(p.parents[1])) for p in (home / "mlartifacts").rglob("*.*")}
    assert "artifacts/grid.png" in stored


def test_an_unreachable_server_costs_seconds_and_a_warning(home, monkeypatch, caplog):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", DEAD)
    began = time.monotonic()
    with caplog.at_level(logging.WARNING, logger="pipeline"):
        assert start() is None
        run = TrackedRun("0" * 32)
        for step in range(100):
            if run.is_due:
                run.update({step: {"train_nats": 1.0}})
        run.update(status="FINISHED")
    assert time.monotonic() - began < 15
    lines = [r.message for r in caplog.records if r.name.startswith("pipeline.")]
    assert len(lines) == 2 and all(line.startswith("warning: ") for line in lines)
    with pytest.raises(UserError, match="unreachable"):
        mlflow_store.require_store()
    assert not TrackedRun(None).is_due
    TrackedRun(None).update({0: {"train_nats": 1.0}})


def test_epochs_of_an_outage_are_logged_when_it_ends(home, monkeypatch, caplog):
    """At the times at which they ended, also of an outage that begins in mid-update."""
    run_id, store = start(), mlflow_store.client()
    run, away = TrackedRun(run_id), raising(OSError("gone"))
    curves = {step: {"train_nats": 3.0 - step, "seconds": 60.0 * step} for step in range(1, 4)}
    with monkeypatch.context() as outage, caplog.at_level(logging.WARNING):
        outage.setattr(mlflow_store, "client", away)
        run.update({1: curves[1]})
        outage.setattr(mlflow_store, "client", lambda: store)
        outage.setattr(store, "log_batch", away)
        run.update(curves, status="FINISHED")
    assert store.get_run(run_id).info.status == "RUNNING", "which lacks the curves"
    run.update(curves, status="FINISHED")
    assert store.get_run(run_id).info.status == "FINISHED"
    assert history(run_id, "curves/train_nats") == [(1, 2.0), (2, 1.0), (3, 0.0)]
    found = store.get_metric_history(run_id, "curves/train_nats")
    assert [after.timestamp - before.timestamp for before, after in pairwise(found)] == [60_000] * 2
    assert len([r for r in caplog.records if "going on without" in r.message]) == 1


def test_a_slow_store_takes_little_of_the_time(home, monkeypatch):
    run, clock = TrackedRun(start()), iter([0.0, 0.0, 3.0, 152.9, 153.0])
    monkeypatch.setattr(tracked_run, "project", lambda *_: None)
    monkeypatch.setattr(tracked_run.time, "monotonic", lambda: next(clock))
    run.update({1: {"train_nats": 1.0}})
    assert [run.is_due, run.is_due] == [False, True]


@pytest.mark.parametrize(
    ("error", "status"),
    [(OSError("a"), "FAILED"), (KeyboardInterrupt(), "KILLED"), (AskedToStop("a"), "KILLED")],
)
def test_whatever_ends_the_work_ends_its_run(home, error, status):
    run_id = start()
    output = Artifact(STUDY, "a", Path("a").absolute(), "make a")

    def fails(work: Work) -> Made[None]:
        work.run_id = run_id
        raise error

    with pytest.raises(type(error)):
        stage.run(output, fails)
    assert mlflow_store.client().get_run(run_id).info.status == status


@pytest.mark.parametrize("options", ["", "?timeout=60"])
def test_a_fresh_store_is_built_whole_or_not_at_all(workdir, monkeypatch, migrated, options):
    (workdir / "mlflow.db.partial").write_bytes(b"left by a kill")
    uri = f"sqlite:///{workdir}/mlflow.db{options}"
    from mlflow.store.tracking import sqlalchemy_store

    built = []

    class Store:
        def __init__(self, where, artifacts):
            built.append(where)
            assert not (workdir / "mlflow.db").exists()
            file = where.removeprefix("sqlite:///").removesuffix(options)
            Path(file).write_bytes(migrated.read_bytes())

        engine = SimpleNamespace(dispose=lambda: None)

    monkeypatch.setattr(sqlalchemy_store, "SqlAlchemyStore", Store)
    assert mlflow_store.init_store(uri) == mlflow_store.init_store(uri) == uri
    assert len(built) == 1 and built[0].endswith(options) and (workdir / "mlflow.db").exists()
    assert not (workdir / "mlflow.db.partial").exists()


def test_experiments_open_on_runs_and_runs_say_where_they_come_from(home):
    store = mlflow_store.client()
    run = store.get_run(start())
    assert run.data.tags["mlflow.source.git.commit"] == "abc"
    experiment = run.info.experiment_id
    listed = mlflow_store.overview(store, "http://127.0.0.1:5001")
    assert f"http://127.0.0.1:5001/#/experiments/{experiment}/runs?" in listed
    assert "&orderByKey=metrics.%60test_nats%60&orderByAsc=true" in listed
    store.delete_experiment_tag(experiment, "mlflow.note.content")  # as in older stores
    assert mlflow_store.experiment_id(store, "arcore-toy") == experiment
    tags = store.get_experiment(experiment).tags
    assert tags["mlflow.experimentKind"] == "custom_model_development"
    assert tags["mlflow.note.content"].startswith("Density models of one dataset")


def test_titles_of_charts_differ_in_the_ten_letters_that_are_shown(home):
    run_id = start()
    run = TrackedRun(run_id)
    epoch = {field.name: 1.0 for field in dataclasses.fields(EpochRecord)}
    run.update({1: EpochRecord(**epoch).metrics("epoch")})
    error = ImportanceEstimate(
        nats_importance_weighted=1.0, nats_importance_weighted_stderr=1.0,
        importance_samples=2, importance_rows=2,
    )  # fmt: skip
    result = Result(
        experiment="toy", dataset="toy", model="pixelvae", num_members=1, unit="nats", num_rows=2,
        score=Score(nats=1.0, nats_stderr=1.0, bits_per_dim=1.0, bits_per_dim_stderr=1.0),
        importance=error, valid_nats=1.0, num_parameters=1, train_seconds=1.0, sample_seconds=1.0,
    )  # fmt: skip
    run.update(values=result.tracked())
    names = mlflow_store.client().get_run(run_id).data.metrics
    assert len({name[:10] for name in names}) == len(names) == len(epoch) - 1 + 9


def test_a_store_that_was_copied_does_not_write_into_the_project_it_comes_from(
    home, tmp_path_factory, monkeypatch, caplog
):
    start()
    new = tmp_path_factory.mktemp("elsewhere") / "mlartifacts" / "project"
    shutil.copytree(home, new)
    monkeypatch.chdir(new)
    assert start() is None and "register --all" in caplog.text
    assert not (home / "mlartifacts").exists() and not (new / "mlartifacts").exists()


@pytest.mark.parametrize("name", ["../../../escaped", "/tmp/x", "a/b", "", "..", "a\nb"])
def test_an_experiment_whose_name_leaves_the_folder_is_refused(home, name: str) -> None:
    store = mlflow_store.client()
    with pytest.raises(UserError, match="MLflow experiment: expected a name of letters"):
        mlflow_store.experiment_id(store, name)
    assert store.get_experiment_by_name(name or "x") is None
