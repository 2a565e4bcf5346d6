"""What goes wrong in mid-run: killed or stopped processes, a NaN loss, MLflow outages, a full disk,
damage.

An undisturbed training is made once; disturbed ones must end with the same bytes.
"""

import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pipeline.tracking import mlflow_store
from tests.places import ROOT
from tests.support.projects import ONE_CPU, WIDE, kill_stage, result, workers_of

EPOCHS = WIDE["trainer"]["max_epochs"]
ON_RAY = "cluster.num_workers=1"
# The weights grow by a factor of -4 a step: finite for two epochs of 13 steps, not for three.
EXPLODING = {
    "dataset": "digits_binary",
    "model": "made",
    "model_overrides": {"hidden": [20]},
    "trainer": {
        "optimizer": {"name": "sgd", "learning_rate": 1.0, "weight_decay": 5.0},
        "schedule": {"name": "constant"},
    },
}


@pytest.fixture(scope="module")
def undisturbed(make_project):
    """A project with `wide` trained while MLflow's server could not be reached."""
    project = make_project({"wide": WIDE})
    done = project.stage("train", "wide", ONE_CPU, MLFLOW_TRACKING_URI="http://127.0.0.1:9")
    assert done.returncode == 0, done.stderr
    (project.folder / "stage.log").write_text(project.own(done.stderr))
    return project


def training(project, epoch: int = 3, *arguments: str, **extra: str):
    return project.running(epoch, "train", "wide", ONE_CPU, *arguments, **extra)


def require_one_run(project, epochs: int = EPOCHS) -> None:
    assert steps_of_one_run(project) == list(range(1, epochs + 1))


def steps_of_one_run(project) -> list[int]:
    (run,) = project.runs()
    assert run.info.status == "FINISHED"
    assert run.data.metrics["curves/train_nats"] > 0
    assert project.json("models/wide/training.json")["run_id"] == run.info.run_id
    store = mlflow_store.client(f"sqlite:///{project.folder}/mlflow.db")
    history = store.get_metric_history(run.info.run_id, "curves/valid_nats")
    return [metric.step for metric in history]


def require_nothing_left(project) -> None:
    assert [path.name for path in (project.folder / "models").iterdir()] == ["wide"]
    assert list((project.folder / ".arcore/train").glob("[!.]*")) == []


def test_training_goes_on_without_mlflow(undisturbed) -> None:
    log = undisturbed.log()
    assert log.count("http://127.0.0.1:9 is unreachable, going on without it") == 1
    assert "Traceback" not in log
    assert undisturbed.json("models/wide/training.json")["run_id"] is None
    require_nothing_left(undisturbed)


@pytest.fixture
def ports_taken() -> Iterator[None]:
    """Whatever listens where a cluster's head and dashboard would."""
    with contextlib.ExitStack() as stack:
        for port in (6379, 8265):
            with contextlib.suppress(OSError):  # by another
                stack.enter_context(socket.create_server(("", port)))
        yield


def test_a_killed_worker_changes_nothing(undisturbed, make_project, ports_taken: None) -> None:
    project = make_project({"wide": WIDE})
    with training(project, 3, ON_RAY) as process:
        (worker,) = workers_of(process, "RayTrainWorker")
        worker.kill()
        assert process.wait(timeout=400) == 0, project.log()
    assert "resumes after epoch" in project.log()
    assert "Traceback" not in project.own(project.log())
    assert result(project) == result(undisturbed)
    require_one_run(project)
    require_nothing_left(project)


@pytest.mark.parametrize(
    "before",
    [[], pytest.param([ON_RAY], marks=pytest.mark.slow)],
    ids=["by itself", "with Ray"],
)
def test_a_killed_run_goes_on_where_it_was(undisturbed, make_project, before: list[str]) -> None:
    project = make_project({"wide": WIDE})
    with training(project, 3, *before) as process:
        kill_stage(process)
    assert not list((project.folder / "models").glob("[!.]*"))
    said = require_it_goes_on(project, undisturbed)
    assert "resumes after epoch" in said


JUMPING_CLOCK = """
import itertools, time
days, now = itertools.cycle([0, 1, -3]), time.time
time.time = lambda: now() + 86400 * next(days)
"""


@pytest.mark.slow
def test_a_clock_that_jumps_changes_nothing(undisturbed, make_project, tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(JUMPING_CLOCK)
    project = make_project({"wide": WIDE}, warmed=False)
    path = os.pathsep.join([str(tmp_path), str(ROOT)])
    done = project.stage("train", "wide", ONE_CPU, PYTHONPATH=path)
    assert done.returncode == 0, done.stderr
    assert result(project) == result(undisturbed)
    assert sorted(steps_of_one_run(project)) == list(range(1, EPOCHS + 1))  # MLflow's are by time
    seconds = project.json("models/wide/training.json")["epoch_seconds"]
    assert 0 < sum(seconds) < 3600 and min(seconds) >= 0


@pytest.fixture(scope="module")
def stopped(make_project):
    """A project whose training got a SIGTERM in its mid, and left with status 1."""
    project = make_project({"wide": WIDE})
    with training(project, 2) as process:
        process.terminate()
        assert process.wait(timeout=400) == 1, project.log()
    return project


@pytest.fixture
def stopped_copy(stopped, tmp_path: Path):
    return stopped.copied_to(tmp_path / "project")


def newest_checkpoint(project) -> Path:
    return max((project.folder / ".arcore/train").glob("wide-*/checkpoint_*"))


def progress_of(project) -> dict[str, Any]:
    return project.json(str(newest_checkpoint(project) / "state.json"))["progress"]


def require_it_goes_on(project, undisturbed) -> str:
    """Train the rest by itself, which must end as if nothing had happened; return what it says."""
    done = project.stage("train", "wide", ONE_CPU)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in project.own(done.stderr)
    assert result(project) == result(undisturbed)
    require_one_run(project)
    require_nothing_left(project)
    return done.stdout + done.stderr


def test_a_training_that_gets_a_sigterm_says_where_it_stopped(stopped) -> None:
    last = stopped.own(stopped.log()).splitlines()[-1]
    why = "asked to stop; the checkpoint is kept, rerun to go on"
    found = re.fullmatch(rf"error: wide: {why}: step (\d+) \(epoch (\d+)\)", last)
    assert found is not None, last
    progress = progress_of(stopped)
    assert (progress["step"], progress["epoch"] + 1) == (int(found[1]), int(found[2]))
    assert not (stopped.folder / "models").exists()
    (run,) = stopped.runs()
    assert run.info.status == "KILLED"


def test_a_training_that_got_a_sigterm_goes_on_inside_the_epoch(stopped_copy, undisturbed) -> None:
    progress = progress_of(stopped_copy)
    said = require_it_goes_on(stopped_copy, undisturbed)
    steps = f" and {progress['steps_in_epoch']} steps" if progress["steps_in_epoch"] else ""
    assert f"resumes after epoch {progress['epoch']}{steps}\n" in said


@pytest.mark.slow
@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_signals_on_ray_keep_a_checkpoint_too(make_project, undisturbed, name: str) -> None:
    """Ray's own handler of Ctrl-C would leave without one, and with status 0."""
    project = make_project({"wide": WIDE})
    with training(project, 2, ON_RAY) as process:
        if name == "SIGINT":
            os.killpg(process.pid, signal.SIGINT)  # as a terminal does, to workers as well
        else:
            process.terminate()
        assert process.wait(timeout=400) == 1, project.log()
    assert f"{name}: saving a checkpoint and leaving" in project.log()
    require_it_goes_on(project, undisturbed)


def test_a_training_goes_on_from_the_checkpoint_before_a_damaged_one(
    stopped_copy, undisturbed
) -> None:
    progress = progress_of(stopped_copy)
    before = progress["epoch"] - (progress["steps_in_epoch"] == 0)
    os.truncate(newest_checkpoint(stopped_copy) / "optimizer.safetensors", 1000)
    said = require_it_goes_on(stopped_copy, undisturbed)
    assert said.count("trying the checkpoint before it") == 1
    assert f"resumes after epoch {before}\n" in said, "the one before was made after an epoch"


def test_a_nan_loss_stops_and_keeps_the_last_good_checkpoint(make_project) -> None:
    project = make_project({"exploding": EXPLODING})
    done = project.stage("train", "exploding", ONE_CPU)
    assert done.returncode == 1
    line = project.own(done.stderr)
    assert line.startswith("error: exploding: the training loss is not finite at step ")
    assert line.count("\n") == 1
    assert not (project.folder / "models").exists()
    (run,) = project.runs()
    assert run.info.status == "FAILED"
    kept = list((project.folder / ".arcore/train").glob("exploding-*/checkpoint_*/state.json"))
    epochs = [project.json(str(path))["progress"]["epoch"] for path in kept]
    assert max(epochs) == int(run.data.metrics["curves/step"]) // 13 >= 1


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(folder)], capture_output=True
    )
    if mounted.returncode != 0:
        pytest.skip("mounting a tmpfs needs root")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.mark.slow
def test_a_full_disk_is_one_line(tiny_disk: Path, digits: Path, make_project) -> None:
    project = make_project({"wide": WIDE})
    shutil.copytree(digits / "data", tiny_disk / "data")
    done = project.stage("train", "wide", ONE_CPU, ARCORE_HOME=str(tiny_disk))
    assert done.returncode == 1
    last = project.own(done.stderr).splitlines()[-1]
    assert last.startswith("error: wide: ") and "No space left on device" in last
    assert "Traceback" not in project.own(done.stderr)
    assert not (tiny_disk / "models").exists()
