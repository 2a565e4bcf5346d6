"""What goes wrong in mid-run: killed or stopped processes, a NaN loss, MLflow outages, a full disk,
damage.

An undisturbed training is made once; disturbed ones must end with the same bytes.
"""

from __future__ import annotations

import contextlib
import csv
import os
import re
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from safetensors.torch import load_file, save_file

from pipeline import tracking
from pipeline.training import SNAPSHOT

WIDE = {
    "dataset": "digits_binary",
    "model": "made",
    "model_overrides": {"hidden": [2000], "num_masks": 4},
    "trainer": {
        "max_epochs": 30,
        "batch_size": 10,
        "ema_decay": 0.9,
        "schedule": {"warmup_steps": 9},
    },
}
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
ONE_CPU = "cluster.cpus_per_worker=1"


@pytest.fixture(scope="module")
def undisturbed(make_project):
    """A project with `wide` trained while MLflow's server could not be reached."""
    project = make_project({"wide": WIDE})
    done = project.stage("train", "wide", ONE_CPU, MLFLOW_TRACKING_URI="http://127.0.0.1:9")
    assert done.returncode == 0, done.stderr
    (project.folder / "stage.log").write_text(own(done.stderr))
    return project


def own(stderr: str) -> str:
    """Without the lines of Ray's processes, which complain where the machine is busy."""
    return "".join(line for line in stderr.splitlines(True) if not line.startswith("\x1b[36m("))


def result(project) -> tuple[bytes, bytes, list[dict[str, str]]]:
    """Best and last weights, and the curves without the time that they took."""
    model = project.folder / "models" / "wide"
    with open(model / "history.csv", newline="") as file:
        rows = [{k: v for k, v in row.items() if k != "seconds"} for row in csv.DictReader(file)]
    return (
        (model / "model.safetensors").read_bytes(),
        (model / "last.safetensors").read_bytes(),
        rows,
    )


@contextlib.contextmanager
def training(project, epoch: int = 3, **extra: str) -> Iterator[subprocess.Popen[bytes]]:
    """Start training and yield in its mid; its processes, and no others, end with the block."""
    process = project.start("train", "wide", ONE_CPU, **extra)
    try:
        project.wait_until(
            lambda: process.poll() is not None or f"epoch {epoch}/" in project.log(),
            f"epoch {epoch} is done",
        )
        assert process.poll() is None, project.log()
        yield process
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def require_one_run(project, epochs: int = 30) -> None:
    (run,) = project.runs()
    assert run.info.status == "FINISHED"
    assert run.data.metrics["train_nats"] > 0
    assert project.json("models/wide/training.json")["run_id"] == run.info.run_id
    store = tracking.client(f"sqlite:///{project.folder}/mlflow.db")
    history = store.get_metric_history(run.info.run_id, "valid_nats")
    assert [metric.step for metric in history] == list(range(1, epochs + 1))


def require_nothing_left(project) -> None:
    assert [path.name for path in (project.folder / "models").iterdir()] == ["wide"]
    assert list((project.folder / ".arcore/train").iterdir()) == []


def test_training_goes_on_without_mlflow(undisturbed) -> None:
    log = undisturbed.log()
    assert log.count("http://127.0.0.1:9 is unreachable, going on without it") == 1
    assert "Traceback" not in log
    assert undisturbed.json("models/wide/training.json")["run_id"] is None
    require_nothing_left(undisturbed)


def test_a_killed_worker_changes_nothing(undisturbed, make_project) -> None:
    project = make_project({"wide": WIDE})
    with training(project) as process:
        (worker,) = [
            child
            for child in psutil.Process(process.pid).children(recursive=True)
            if "RayTrainWorker" in child.name() + " ".join(child.cmdline())
        ]
        worker.kill()
        assert process.wait(timeout=400) == 0, project.log()
    assert "resumes after epoch" in project.log()
    assert result(project) == result(undisturbed)
    require_one_run(project)
    require_nothing_left(project)


def test_a_killed_run_goes_on_where_it_was(undisturbed, make_project) -> None:
    project = make_project({"wide": WIDE})
    with training(project) as process:
        children = psutil.Process(process.pid).children(recursive=True)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    assert not (project.folder / "models").exists()
    _, strays = psutil.wait_procs(children, timeout=60)
    assert not strays, "Ray's processes outlive the stage"
    done = project.stage("train", "wide", ONE_CPU)
    assert done.returncode == 0, done.stderr
    assert "resumes after epoch" in done.stdout + done.stderr
    assert result(project) == result(undisturbed)
    require_one_run(project)
    require_nothing_left(project)


@pytest.fixture(scope="module")
def stopped(make_project):
    """A project whose training got a SIGTERM in its mid, and left with status 1."""
    project = make_project({"wide": WIDE})
    with training(project, epoch=9) as process:
        process.terminate()
        assert process.wait(timeout=400) == 1, project.log()
    return project


@pytest.fixture
def stopped_copy(stopped, tmp_path: Path):
    """A project of its own in the state of `stopped`."""
    return type(stopped)(shutil.copytree(stopped.folder, tmp_path / "project"))


def folder_of_checkpoints(project) -> Path:
    (folder,) = (project.folder / ".arcore/train").glob("wide-*")
    return folder


def newest_checkpoint(project) -> Path:
    return max(folder_of_checkpoints(project).glob("checkpoint_2*"))


def require_it_goes_on(project, undisturbed) -> str:
    """Train the rest, which must end as if nothing had happened; return what it says."""
    done = project.stage("train", "wide", ONE_CPU)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in own(done.stderr)
    assert result(project) == result(undisturbed)
    require_one_run(project)
    require_nothing_left(project)
    return done.stdout + done.stderr


def test_a_training_that_gets_a_sigterm_says_where_it_stopped(stopped) -> None:
    last = own(stopped.log()).splitlines()[-1]
    why = "asked to stop; the checkpoint is kept, rerun to go on"
    found = re.fullmatch(rf"error: wide: {why}: step (\d+) \(epoch (\d+)\)", last)
    assert found is not None, last
    progress = stopped.json(str(newest_checkpoint(stopped) / "state.json"))["progress"]
    assert (progress["step"], progress["epoch"] + 1) == (int(found[1]), int(found[2]))
    assert progress["steps_in_epoch"] > 0
    assert not (stopped.folder / "models").exists()
    (run,) = stopped.runs()
    assert run.info.status == "KILLED"


def test_a_training_that_got_a_sigterm_goes_on_inside_the_epoch(stopped_copy, undisturbed) -> None:
    progress = stopped_copy.json(str(newest_checkpoint(stopped_copy) / "state.json"))["progress"]
    said = require_it_goes_on(stopped_copy, undisturbed)
    where = f"resumes after epoch {progress['epoch']} and {progress['steps_in_epoch']} steps"
    assert where in said


def shorten_optimizer(project) -> None:
    truncate(newest_checkpoint(project) / "optimizer.pt")


def empty_optimizer(project) -> None:
    (newest_checkpoint(project) / "optimizer.pt").write_bytes(b"")


def remove_weights(project) -> None:
    (newest_checkpoint(project) / "last.safetensors").unlink()


@pytest.mark.parametrize(
    "damage",
    [
        shorten_optimizer,
        pytest.param(empty_optimizer, marks=pytest.mark.slow),
        pytest.param(remove_weights, marks=pytest.mark.slow),
    ],
)
def test_a_damaged_checkpoint_is_passed_over(stopped_copy, undisturbed, damage) -> None:
    damage(stopped_copy)
    newest = newest_checkpoint(stopped_copy)
    progress = stopped_copy.json(str(newest / "state.json"))["progress"]
    said = require_it_goes_on(stopped_copy, undisturbed)
    assert said.count("trying the checkpoint before it") == 1
    assert f"{newest}: damaged checkpoint: " in said
    assert f"resumes after epoch {progress['epoch']}\n" in said


def shorten_list(project) -> None:
    path = folder_of_checkpoints(project) / SNAPSHOT
    path.write_bytes(path.read_bytes()[:200])


def remove_newest(project) -> None:
    shutil.rmtree(newest_checkpoint(project))


@pytest.mark.parametrize(
    ("damage", "left"),
    [
        pytest.param(shorten_list, " and ", id="half a list"),
        pytest.param(remove_newest, "\n", id="a checkpoint gone"),
    ],
)
def test_a_damaged_list_of_checkpoints_is_mended(
    stopped_copy, undisturbed, damage: Callable[..., None], left: str
) -> None:
    progress = stopped_copy.json(str(newest_checkpoint(stopped_copy) / "state.json"))["progress"]
    damage(stopped_copy)
    said = require_it_goes_on(stopped_copy, undisturbed)
    assert said.count("damaged list of checkpoints") == 1
    assert f"resumes after epoch {progress['epoch']}{left}" in said


def test_a_nan_loss_stops_and_keeps_the_last_good_checkpoint(
    make_project,
) -> None:
    project = make_project({"exploding": EXPLODING})
    done = project.stage("train", "exploding", ONE_CPU)
    assert done.returncode == 1
    line = own(done.stderr)
    assert line.startswith("error: exploding: the training loss is not finite at step ")
    assert line.count("\n") == 1
    assert not (project.folder / "models").exists()
    (run,) = project.runs()
    assert run.info.status == "FAILED"
    kept = list((project.folder / ".arcore/train").glob("exploding-*/checkpoint_*/state.json"))
    epochs = [project.json(str(path))["progress"]["epoch"] for path in kept]
    assert max(epochs) == int(run.data.metrics["step"]) // 13 >= 1


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 2 MiB."""
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
    last = own(done.stderr).splitlines()[-1]
    assert last.startswith("error: wide: ") and "No space left on device" in last
    assert "Traceback" not in own(done.stderr)
    assert not (tiny_disk / "models").exists()


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:1000])


def swap(path: Path) -> None:
    weights = load_file(path)
    name = min(weights)
    save_file({**weights, name: weights[name][:1].clone()}, path)


@pytest.mark.parametrize(
    ("damage", "message"),
    [(truncate, "not a readable safetensors file"), (swap, "weights of another architecture: ")],
    ids=["truncated", "another architecture"],
)
def test_a_damaged_model_is_one_line(
    undisturbed,
    make_project,
    command,
    damage: Callable[[Path], None],
    message: str,
) -> None:
    project = make_project({"wide": WIDE})
    shutil.copytree(undisturbed.folder / "models", project.folder / "models")
    damage(project.folder / "models/wide/model.safetensors")
    line = command(project.folder, "evaluate", "wide")
    assert f"{project.folder}/models/wide/model.safetensors: {message}" in line
    assert not (project.folder / "evaluation").exists()


def test_other_shards_than_trained_on_are_refused(undisturbed, make_project, command) -> None:
    project = make_project({"wide": WIDE})
    shutil.copytree(undisturbed.folder / "models", project.folder / "models")

    config = project.folder / "models/wide/config.yaml"
    config.write_text(config.read_text().replace("dataset_sha256: ", "dataset_sha256: 0"))
    line = command(project.folder, "evaluate", "wide")
    assert "wide: expected shards that it was trained on (0" in line
    assert "train it again" in line
