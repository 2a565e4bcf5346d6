"""The real dvc.yaml with the embedded data in a Git and DVC repository of its own."""

from __future__ import annotations

import csv
import json
import math
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from pipeline import shards, tracking

PARAMS = {
    "datasets": ["digits_binary"],
    "experiments": {
        "tiny-made": {
            "dataset": "digits_binary",
            "model": "made",
            "model_overrides": {"hidden": [32], "num_masks": 2},
            "trainer": {"max_epochs": 3},
            "evaluation": {"num_members": 2, "num_samples": 9},
        },
        "tiny-nade": {
            "dataset": "digits_binary",
            "model": "nade",
            "model_overrides": {"hidden": 16},
            "trainer": {"max_epochs": 3},
            "evaluation": {"num_samples": 9},
        },
    },
}
UNIFORM = 64 * math.log(2)


def dvc(project, *arguments: str) -> str:
    """Run DVC and return its stdout; it must succeed."""
    done = project.run(sys.executable, "-m", "dvc", *arguments, timeout=500)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def ran(output: str) -> set[str]:
    """The stages that a `dvc repro` or `dvc exp run` has run."""
    lines = [line for line in output.splitlines() if line.startswith("Running stage '")]
    return {line.split("'")[1] for line in lines}


@pytest.fixture(scope="module")
def repository(tmp_path_factory, make_project, migrated):
    """A clone's tracked files with another params.yaml, after `dvc repro`."""
    project = make_project({})
    folder = project.folder
    root = Path(__file__).parents[2]
    for package in ("arcore", "pipeline", "stages"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(root / package, folder / package, ignore=ignored)
    for name in ("dvc.yaml", ".gitignore", ".dvcignore"):
        if (root / name).exists():
            shutil.copy(root / name, folder)
    (folder / "params.yaml").write_text(yaml.safe_dump(PARAMS, sort_keys=False))
    project.code = folder
    git(project, "init", "--quiet")
    dvc(project, "init", "--quiet")
    dvc(project, "config", "core.analytics", "false")
    git(project, "add", ".")
    git(project, "commit", "--quiet", "-m", "Start")
    shutil.rmtree(folder / "data")
    project.first = ran(dvc(project, "repro"))
    git(project, "add", ".")
    git(project, "commit", "--quiet", "-m", "Reproduce")
    return project


def git(project, *arguments: str) -> None:
    identity = ("-c", "user.name=Test", "-c", "user.email=test@localhost")
    done = project.run("git", *identity, *arguments)
    assert done.returncode == 0, done.stderr


def test_every_stage_ran_once(repository) -> None:
    assert repository.first == {
        "fetch@digits_binary", "preprocess@digits_binary",
        "train@tiny-made", "train@tiny-nade", "evaluate@tiny-made", "evaluate@tiny-nade",
        "report@digits_binary", "register@digits_binary",
    }  # fmt: skip
    assert "dvc.lock" in {path.name for path in repository.folder.iterdir()}
    assert not list((repository.folder / ".arcore/train").iterdir())


@pytest.mark.parametrize(("name", "members"), [("tiny-made", 2), ("tiny-nade", 1)])
def test_metrics(repository, name: str, members: int) -> None:
    metrics = repository.json(f"evaluation/digits_binary/{name}/metrics.json")
    assert 0 < metrics["nats"] < UNIFORM
    assert metrics["bits_per_dim"] == pytest.approx(metrics["nats"] / UNIFORM)
    assert 0 < metrics["nats_stderr"] < 2
    assert metrics["num_members"] == members and metrics["num_rows"] == 360
    rows = (repository.folder / f"evaluation/digits_binary/{name}/scores.csv").read_text().split()
    nats = [float(row.split(",")[1]) for row in rows[1:]]
    assert sum(nats) / len(nats) == pytest.approx(metrics["nats"], abs=1e-5)


def test_report(repository) -> None:
    folder = repository.folder / "reports/digits_binary"
    table = (folder / "table.md").read_text()
    assert "tiny-nade" in table and "tiny-made" in table and "ensemble of 2" in table
    page = (folder / "report.html").read_text()
    assert "ensemble of 2" in page and "data:image/" in page and "http://" not in page


def test_mlflow_holds_everything(repository) -> None:
    store = tracking.client(f"sqlite:///{repository.folder}/mlflow.db")
    runs = {run.info.run_name: run for run in repository.runs()}
    assert set(runs) == {"tiny-made", "tiny-nade"} and len(repository.runs()) == 2
    for name, run in runs.items():
        metrics = repository.json(f"evaluation/digits_binary/{name}/metrics.json")
        assert run.info.status == "FINISHED"
        assert run.data.params["trainer.max_epochs"] == "3"
        assert run.data.metrics["test_nats"] == pytest.approx(metrics["nats"])
        curve = store.get_metric_history(run.info.run_id, "valid_nats")
        assert [point.step for point in curve] == [1, 2, 3]
        files = {file.path for file in store.list_artifacts(run.info.run_id)}
        assert {"samples.png", "learning_curve.png", "metrics.json"} <= files
    (report,) = repository.runs("arcore-reports")
    files = {file.path for file in store.list_artifacts(report.info.run_id)}
    assert {"table.json", "report.html"} <= files


CLEAN = """
import json, sys
import mlflow, numpy
model = mlflow.pyfunc.load_model("models:/arcore-digits-binary@champion")
scores = model.predict(numpy.array(json.load(sys.stdin)))
print(json.dumps([float(scores[unit].mean()) for unit in ("nats", "bits_per_dim")]))
"""


def test_the_champion_scores_in_a_clean_process(repository, tmp_path_factory) -> None:
    registered = repository.json("registry/digits_binary.json")
    assert set(registered["experiments"]) == {"tiny-made", "tiny-nade"}
    champion = registered["champion"]["experiment"]
    metrics = repository.json(f"evaluation/digits_binary/{champion}/metrics.json")
    test = shards.read_split(repository.folder / "data/shards/digits_binary", "test").x
    environment = repository.environment(
        MLFLOW_TRACKING_URI=f"sqlite:///{repository.folder}/mlflow.db"
    )
    del environment["PYTHONPATH"]
    done = subprocess.run(
        [sys.executable, "-c", CLEAN],
        input=json.dumps(test.tolist()),
        cwd=tmp_path_factory.mktemp("elsewhere"),
        env=environment,
        capture_output=True,
        text=True,
        timeout=400,
    )
    assert done.returncode == 0, done.stderr
    nats, bits_per_dim = json.loads(done.stdout)
    assert nats == pytest.approx(metrics["nats"], rel=1e-5)
    assert bits_per_dim == pytest.approx(metrics["bits_per_dim"], rel=1e-5)


def test_dvc_shows_metrics_and_plots(repository) -> None:
    shown = json.loads(dvc(repository, "metrics", "show", "--json"))
    files = shown[""]["data"]
    assert set(files) == {
        f"evaluation/digits_binary/{name}/metrics.json" for name in ("tiny-made", "tiny-nade")
    }
    dvc(repository, "plots", "show", "--out", "plots")
    page = (repository.folder / "plots/index.html").read_text()
    assert "valid_nats" in page and "samples.png" in page
    shutil.rmtree(repository.folder / "plots")


def test_only_what_has_changed_runs(repository) -> None:
    """In order: nothing; another evaluation; another training, as a DVC experiment."""
    assert ran(dvc(repository, "repro")) == set()
    after = {"evaluate@tiny-made", "report@digits_binary", "register@digits_binary"}

    def one_member(params) -> None:
        params["experiments"]["tiny-made"]["evaluation"]["num_members"] = 1

    repository.edit_params(one_member)
    assert ran(dvc(repository, "repro")) == after
    git(repository, "commit", "--quiet", "-am", "Evaluate one member")
    change = "experiments.tiny-made.trainer.max_epochs=4"
    output = dvc(repository, "exp", "run", "--name", "longer", "-S", change)
    assert ran(output) == {"train@tiny-made"} | after
    assert repository.json("models/tiny-made/training.json")["epochs"] == 4
    shown = csv.DictReader(dvc(repository, "exp", "show", "--csv").splitlines())
    (row,) = [row for row in shown if row["Experiment"] == "longer"]
    assert row["experiments.tiny-made.trainer.max_epochs"] == "4"
    assert row["evaluation/digits_binary/tiny-made/metrics.json:num_members"] == "1"
    assert len(repository.runs()) == 3, "the longer training is a run of its own"
