"""What goes wrong in mid-run: killed processes, a NaN loss, an MLflow outage, a full disk, damage.

An undisturbed training is made once; disturbed ones must end with the same bytes.
"""

from __future__ import annotations

import contextlib
import csv
import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from safetensors.torch import load_file, save_file

from pipeline import tracking

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
def training(project) -> Iterator[subprocess.Popen[bytes]]:
    """Start training and yield in its mid; its processes, and no others, end with the block."""
    process = project.start("train", "wide", ONE_CPU)
    try:
        project.wait_until(
            lambda: process.poll() is not None or "epoch 3/" in project.log(), "epoch 3 is done"
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
