"""What goes wrong in a search: it is killed or stopped, a trial's process dies, a loss is NaN."""

import json
import os
import pickle
import re
import shutil
import signal
import subprocess
from pathlib import Path

import psutil
import pytest
import yaml

from pipeline.tracking import mlflow_store
from tests.support.projects import kill_stage, workers_of

ENTRY = {
    "dataset": "digits_binary",
    "model": "made",
    "model_overrides": {"hidden": [2000], "num_masks": 4},
    "trainer": {"max_epochs": 6, "batch_size": 20},
}
RATE = "trainer.optimizer.learning_rate"
HALVED = ENTRY | {
    "space": {RATE: {"loguniform": [0.0003, 0.01]}},
    "num_trials": 3,
    "searcher": "optuna",
    "scheduler": {"name": "asha", "grace_epochs": 2, "reduction_factor": 2},
}
# At the third rate Adam's first step makes every weight so large that the loss overflows.
PARTLY_EXPLODING = ENTRY | {
    "space": {RATE: {"grid": [0.001, 0.003, 1e38]}},
    "num_trials": 1,
    "searcher": "random",
    "scheduler": {"name": "none"},
}
EXPLODING = PARTLY_EXPLODING | {"space": {RATE: {"grid": [1e37, 1e38]}}}
TWO_AT_A_TIME = "cluster.max_concurrent_trials=2"


@pytest.fixture(scope="module")
def make_search(make_project):
    def make(entry):
        project = make_project({})
        project.edit_params(lambda params: params.update(searches={"rates": entry}))
        return project

    return make


def trials(project) -> dict[int, dict[str, str]]:
    rows = project.rows("searches/rates/trials.csv")
    assert len({row["trial"] for row in rows}) == len(rows)
    return {int(row["trial"]): row for row in rows}


def ended(log: str) -> dict[int, str]:
    """The trials that a log says ended with a value, and that value."""
    found = re.findall(r"trial (\d)/3 ends: valid ([\d.]+) nats", log)
    return {int(number): value for number, value in found}


def started(log: str) -> set[int]:
    return {int(number) for number in re.findall(r"trial (\d)/3 starts", log)}


def require_runs(project, children: list[str]) -> None:
    """One MLflow run for the search, finished, and one under it for each trial."""
    runs = project.runs()
    (parent,) = [run for run in runs if "mlflow.parentRunId" not in run.data.tags]
    assert parent.info.status == "FINISHED"
    nested = [run for run in runs if run is not parent]
    assert {run.data.tags["mlflow.parentRunId"] for run in nested} == {parent.info.run_id}
    by_number = sorted(nested, key=lambda run: int(run.data.tags["trial"]))
    assert [run.info.status for run in by_number] == children
    table = trials(project)
    store = mlflow_store.client(f"sqlite:///{project.folder}/mlflow.db")
    for run in by_number:
        history = store.get_metric_history(run.info.run_id, "curves/valid_nats")
        epochs = int(table[int(run.data.tags["trial"])]["epochs"])
        assert [metric.step for metric in history] == list(range(1, epochs + 1))


def go_on(project) -> subprocess.CompletedProcess[str]:
    """Run the rest of an interrupted search, which must complete it."""
    before, kept = ended(project.log()), saved(project)
    done = project.stage("tune", "rates", TWO_AT_A_TIME)
    assert done.returncode == 0, done.stderr
    assert "rates: goes on with an interrupted search" in done.stderr
    assert "Traceback" not in project.own(done.stderr)
    table = trials(project)
    assert sorted(table) == [1, 2, 3]
    assert {row["status"] for row in table.values()} <= {"finished", "stopped"}
    for number, value in before.items():
        assert f"{float(table[number]['best_valid_nats']):.3f}" == value
    assert before.keys() <= kept, "a trial is kept before the log says so"
    assert not started(done.stderr) & kept
    assert started(done.stderr) | kept == {1, 2, 3}
    assert (project.folder / "searches/rates/best.yaml").exists()
    assert list((project.folder / ".arcore/tune").glob("[!.]*")) == []
    require_runs(project, ["FINISHED"] * 3)
    return done


def saved(project) -> set[int]:
    paths = (project.folder / ".arcore/tune").glob("rates-*/trials/*.json")
    records = {int(path.stem): json.loads(path.read_text()) for path in paths}
    return {number for number, record in records.items() if record["status"] != "unfinished"}


class Planted:
    """What makes a folder called `ran` in the working directory when it is unpickled."""

    def __reduce__(self) -> tuple[object, ...]:
        return os.makedirs, ("ran",)


def plant(folder: Path) -> None:
    """Put code where Ray Tune keeps or looks for pickles in the folder of a search."""
    code = pickle.dumps(Planted())
    hexed = {"_type": "CLOUDPICKLE_FALLBACK", "value": code.hex()}
    state = {"trial_data": [[json.dumps({"x": hexed}), json.dumps({})]], "runner_data": hexed}
    names = ("tuner.pkl", "trainable.pkl", "searcher-state-1.pkl", "callback-states-1.pkl")
    there = [path for path in folder.rglob("*") if path.suffix == ".pkl"]
    for place in [folder, *folder.glob("attempt-*")]:
        there += [place / name for name in names]
        (place / "experiment_state-2999-01-01_00-00-00.json").write_text(json.dumps(state))
        (place / "search_gen_state-1.json").write_text(json.dumps({"searcher": hexed}))
    for path in there:
        path.write_bytes(code)


def forget_that_runs_finished(project) -> None:
    """Leave MLflow as if the search had been killed before it said how its trials ended."""
    store = mlflow_store.client(f"sqlite:///{project.folder}/mlflow.db")
    for run in project.runs():
        store.update_run(run.info.run_id, status="RUNNING")


def test_a_killed_search_keeps_the_trials_that_ended(make_search) -> None:
    project = make_search(HALVED)
    with project.running(r"trial \d/3 ends", "tune", "rates", TWO_AT_A_TIME) as process:
        project.wait_until(lambda: saved(project), "the end of a trial is saved")
        kill_stage(process)
    assert 1 <= len(ended(project.log())) < 3
    assert not list((project.folder / "searches").glob("[!.]*"))
    forget_that_runs_finished(project)
    (folder,) = (project.folder / ".arcore/tune").glob("rates-*")
    plant(folder)
    go_on(project)
    assert not (project.folder / "ran").exists(), "a planted pickle ran"


@pytest.mark.slow
def test_a_killed_search_ends_as_an_undisturbed_one(make_search) -> None:
    """One trial at a time; the order in which several end decides what is drawn next."""
    alone, tables = "cluster.max_concurrent_trials=1", []
    for kill in (False, True):
        project = make_search(HALVED | {"model_overrides": {"hidden": [300]}})
        if kill:
            with project.running("trial 2/3 ends", "tune", "rates", alone) as process:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        done = project.stage("tune", "rates", alone)
        assert done.returncode == 0, done.stderr
        assert ("goes on with an interrupted search" in done.stderr) == kill
        tables.append(trials(project))
    assert tables[0] == tables[1]


@pytest.mark.slow
def test_a_search_that_gets_a_sigterm_says_what_it_keeps(make_search) -> None:
    project = make_search(HALVED)
    with project.running(r"trial \d/3 ends", "tune", "rates", TWO_AT_A_TIME) as process:
        process.terminate()
        assert process.wait(timeout=400) == 1, project.log()
    log = project.own(project.log())
    number = len(ended(log))
    assert log.splitlines()[-1] == (
        f"error: rates: interrupted with {number} of 3 trials ended, which are kept; rerun to go on"
    )
    assert "Traceback" not in log
    assert not (project.folder / "searches").exists()
    assert {run.info.status for run in project.runs()} == {"KILLED", "FINISHED"}
    # As if the search had been killed between the end of a trial and its own next save.
    shutil.rmtree(next((project.folder / ".arcore/tune").glob("rates-*/train-*")))
    go_on(project)


def with_checkpoints(project) -> set[Path]:
    second = ".arcore/tune/*/train-*/checkpoint_00000[2-9]"
    return {path.parent for path in project.folder.glob(second)}


@pytest.fixture(scope="module")
def disturbed(make_search):
    """A search of which one trial has a loss that is not finite, and another's process died."""
    # of so many epochs that no trial ends between its second checkpoint and its kill
    trainer = PARTLY_EXPLODING["trainer"] | {"max_epochs": 24}
    project, seen = make_search(PARTLY_EXPLODING | {"trainer": trainer}), set()

    def two_were_seen() -> bool:  # not at once: a trial that ends has its checkpoints removed
        seen.update(with_checkpoints(project))
        return len(seen) >= 2

    with project.running("trial 2/3 starts", "tune", "rates", TWO_AT_A_TIME) as process:
        project.wait_until(two_were_seen, "two trials have had checkpoints")
        actors = workers_of(process, "Trainable.train")
        min(actors, key=psutil.Process.create_time).kill()  # a later one may have no checkpoint yet
        assert process.wait(timeout=400) == 0, project.log()
    return project


@pytest.mark.slow
def test_a_grid_runs_each_option_once(disturbed) -> None:
    table, log = trials(disturbed), disturbed.log()
    rates = PARTLY_EXPLODING["space"][RATE]["grid"]
    assert {number: float(row[RATE]) for number, row in table.items()} == dict(enumerate(rates, 1))
    for number in table:
        assert f"trial {number}/3 starts" in log and f"trial {number}/3 ends: " in log
    best = min(table.values(), key=lambda row: float(row["best_valid_nats"] or "inf"))
    found = yaml.safe_load((disturbed.folder / "searches/rates/best.yaml").read_text())
    assert found["trainer"]["optimizer"]["learning_rate"] == float(best[RATE])
    assert not list((disturbed.folder / ".arcore/tune").glob("[!.]*"))


@pytest.mark.slow
def test_a_trial_whose_process_dies_goes_on_from_its_checkpoint(disturbed) -> None:
    assert disturbed.log().count("resumes after epoch") == 1
    table = trials(disturbed)
    assert [table[number]["epochs"] for number in (1, 2)] == ["24"] * 2
    require_runs(disturbed, ["FINISHED", "FINISHED", "FAILED"])


@pytest.mark.slow
def test_a_trial_whose_loss_is_not_finite_fails_alone(disturbed) -> None:
    table = trials(disturbed)
    statuses = [table[number]["status"] for number in (1, 2, 3)]
    assert statuses == ["finished", "finished", "failed"]
    assert table[3]["problem"].startswith("the training loss is not finite at step ")
    assert table[3]["best_valid_nats"] == ""
    assert "trial 3/3 ends: fails: the training loss is not finite at step " in disturbed.log()
    summary = disturbed.json("searches/rates/search.json")
    assert (summary["finished"], summary["failed"]) == (2, 1)


@pytest.mark.slow
def test_a_search_of_which_all_trials_fail_is_one_line(make_search) -> None:
    project = make_search(EXPLODING)
    done = project.stage("tune", "rates", TWO_AT_A_TIME)
    assert done.returncode == 1
    last = project.own(done.stderr).splitlines()[-1]
    assert last.startswith("error: none of 2 trials gave a finite validation value: the ")
    assert "Traceback" not in project.own(done.stderr)
    assert not (project.folder / "searches").exists()
    assert {run.info.status for run in project.runs()} == {"FAILED"}
