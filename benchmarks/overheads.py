"""What the pipeline costs: the start of a training, its loop, Ray Train, and a second worker.

The data are made up in the shape of binarised MNIST. Every worker computes in one thread.

*Start*: seconds from the command (`python -m stages.train`, MLflow in SQLite, whose schema exists)
to the end of the first optimiser step, in the command's own process and with one worker under an
embedded Ray. The training has one step, so this is the time that MLflow gives for its only metrics
(they follow a validation of ten rows). When the worker starts is seen in the list of processes.

*Loop and loader*: processor time per step of the worker's own loop against a bare one (data in one
tensor, index, forward, backward, optimiser), epoch by epoch in turn in one process, with the
allocator setting of the workers for both. The overhead is the median over pairs of epochs.

*Ray Train*: the time between the epochs of a real run, from MLflow's times less `training.json`'s
seconds: validation of ten rows, report, checkpoint, MLflow. It comes once per epoch, so the share
is that of an epoch of binarised MNIST (50 000 rows). "In all" adds both shares.

*Two workers*: seconds per epoch of `stages.train` with one worker and with two, same global batch;
medians of `training.json` without each run's first epoch.

    python benchmarks/overheads.py [--only start loop workers] [--quick]
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import measuring
import psutil
import torch
import yaml
from loading import bits

import arcore
from arcore.process_tuning import ALLOCATOR_VARIABLES
from pipeline.data import preprocessing
from pipeline.data.manifest import read_manifest
from pipeline.datasets import catalog
from pipeline.datasets.base import SplitData
from pipeline.experiments.schema import TrainerConfig, build
from pipeline.tracking import mlflow_store
from pipeline.training import optimization
from pipeline.training import worker as product
from pipeline.training.training_records import EpochRecord, Session, TrainingJob

ROOT = Path(__file__).parents[1]
DATASET = "binarized_mnist"
MNIST_ROWS = 50_000
PARTS = ("start", "loop", "workers")


@dataclass(frozen=True)
class Case:
    """A model, how it is trained, the steps of an epoch, and the epochs of each loop."""

    title: str
    model: dict[str, Any]
    trainer: dict[str, Any]
    steps: int
    pairs: int = 12
    rows: int = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "rows", self.steps * self.trainer["batch_size"])


CASES = (
    Case("MADE 500, batch 100", {"name": "made", "hidden": [500]}, {"batch_size": 100}, 60),
    Case("NADE 500, batch 100", {"name": "nade", "hidden": 500}, {"batch_size": 100}, 25),
    Case(
        "MADE 8000, batch 250, bfloat16",
        {"name": "made", "hidden": [8000]},
        {"batch_size": 250, "precision": "bfloat16"},
        steps=8,
        pairs=6,
    ),
)
TINY = Case("start", {"name": "made", "hidden": [500]}, {"batch_size": 100}, 1)
TWO = (
    Case("NADE 500, batch 500", {"name": "nade", "hidden": 500}, {"batch_size": 500}, 20),
    Case("MADE 2000, batch 500", {"name": "made", "hidden": [2000]}, {"batch_size": 500}, 20),
)


def write_shards(case: Case, folder: Path) -> Path:
    few = SplitData(bits(10))
    splits = {"train": SplitData(bits(case.rows)), "valid": few, "test": few}
    return preprocessing.write(catalog.get_dataset({"name": DATASET}), splits, folder)


# -- the worker's loop against a bare one, in one process


class Alternating:
    """Runs a bare epoch after each of a worker's."""

    def __init__(self, bare: Bare) -> None:
        self._bare = bare
        self._began = time.process_time()
        self.pairs: list[tuple[float, float]] = []

    def report(self, record: EpochRecord, finished: bool) -> None:
        ours = time.process_time() - self._began
        self.pairs.append((ours, self._bare.epoch()))
        self._began = time.process_time()


class Bare:
    """The shortest loop that trains the same model."""

    def __init__(self, case: Case, event: arcore.events.Event) -> None:
        self._config = build(TrainerConfig, case.trainer, "trainer")
        hyperparameters = {k: v for k, v in case.model.items() if k != "name"}
        self._model = arcore.create_model(case.model["name"], event, **hyperparameters)
        self._optimizer = optimization.make_optimizer(
            self._model.parameters(), self._config.optimizer
        )
        self._x = torch.from_numpy(bits(case.rows))

    def epoch(self) -> float:
        """Train an epoch; return its processor seconds."""
        began = time.process_time()
        for rows in torch.randperm(len(self._x)).split(self._config.batch_size):
            x = self._x[rows]
            with torch.autocast("cpu", torch.bfloat16, enabled=self._config.precision != "float32"):
                loss = self._model(x).mean()
            self._optimizer.zero_grad(set_to_none=True)
            loss.backward()
            self._optimizer.step()
        return time.process_time() - began


def alternate(case: Case, folder: Path) -> list[tuple[float, float]]:
    """Return processor seconds of an epoch of the worker and of the bare loop, pair by pair."""
    torch.set_num_threads(1)
    event = read_manifest(write_shards(case, folder)).event
    alternating = Alternating(Bare(case, event))
    epochs = case.pairs + 1
    loop_alone = {"max_epochs": epochs, "validate_every": epochs, "checkpoint_every": epochs}
    trainer = build(TrainerConfig, case.trainer | loop_alone, "trainer")
    job = TrainingJob(
        config_hash="", event=event, model=case.model, trainer=trainer, shards=str(folder),
        checkpoints=str(folder / "checkpoints"), quiet=True,
    )  # fmt: skip
    session = Session(0, 1, torch.device("cpu"), report=alternating.report)
    product.Worker(job, session).run()
    return alternating.pairs[1:-1]  # the first warms up, the last validates


def measure_loop(case: Case) -> tuple[float, float, float]:
    """Return processor seconds per step, bare and of the worker, and their median overhead."""
    command = [sys.executable, __file__, "--alternate", str(CASES.index(case))]
    variables = os.environ | ALLOCATOR_VARIABLES | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    output = subprocess.run(command, env=variables, check=True, capture_output=True, text=True)
    pairs = json.loads(output.stdout)
    ours, bare = (statistics.median(column) / case.steps for column in zip(*pairs, strict=True))
    return bare, ours, statistics.median(ours / bare for ours, bare in pairs) - 1


# -- real runs


class Project:
    """A working directory with shards of a case, in which `stages.train` runs as a command."""

    def __init__(self, case: Case, folder: Path) -> None:
        self._case, self.folder = case, folder
        self.began = self.worker_started = 0.0  # of the last training, in seconds since 1970
        write_shards(case, folder / "data/shards" / DATASET)
        mlflow_store.init_store(self._uri)

    @property
    def _uri(self) -> str:
        return f"sqlite:///{self.folder}/mlflow.db"

    def train(self, name: str, epochs: int, workers: int = 1) -> list[float]:
        """Train; return each epoch's seconds."""
        case = self._case
        entry = {
            "dataset": DATASET,
            "model": case.model["name"],
            "model_overrides": {k: v for k, v in case.model.items() if k != "name"},
            "trainer": case.trainer | {"max_epochs": epochs},
        }
        (self.folder / "params.yaml").write_text(yaml.safe_dump({"experiments": {name: entry}}))
        overrides = [f"cluster.num_workers={workers}", "cluster.cpus_per_worker=1"]
        dropped = ("ARCORE_", "RAY_", "MLFLOW_", "OMP_")
        kept = {k: v for k, v in os.environ.items() if not k.startswith(dropped)}
        self.began, self.worker_started = time.time(), 0.0
        with open(self.folder / "log", "w+") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "stages.train", name, *overrides],
                cwd=self.folder,
                env=kept | {"PYTHONPATH": str(ROOT), "ARCORE_HOME": str(self.folder)},
                stdout=log,
                stderr=subprocess.STDOUT,
            )
            self._watch(process)
            if process.wait() != 0:
                raise RuntimeError((self.folder / "log").read_text())
        record = json.loads((self.folder / "models" / name / "training.json").read_text())
        since_start = [0.0, *record["epoch_seconds"]]
        return [after - before for before, after in itertools.pairwise(since_start)]

    def _watch(self, process: subprocess.Popen[Any]) -> None:
        """Note when the worker is there, or that the training ended before it was seen."""
        while process.poll() is None:
            for child in psutil.Process(process.pid).children(recursive=True):
                try:
                    if "RayTrainWorker" in " ".join(child.cmdline()):
                        self.worker_started = time.time()
                        return
                except psutil.Error:
                    continue
            time.sleep(0.1)

    def times(self) -> tuple[float, list[float]]:
        """Return when the last run was opened in MLflow, and when each epoch's metrics came."""
        store = mlflow_store.client(self._uri)
        experiment = store.get_experiment_by_name(f"arcore-{DATASET}")
        assert experiment is not None
        run = store.search_runs([experiment.experiment_id], max_results=1)[0]
        metrics = store.get_metric_history(run.info.run_id, "curves/train_nats")
        return run.info.start_time / 1e3, [metric.timestamp / 1e3 for metric in metrics]


def measure_start(folder: Path, workers: int) -> list[tuple[str, float]]:
    """Return the seconds of each phase from the command to the first step, and of the whole."""
    project = Project(TINY, folder)
    project.train("start", epochs=1, workers=workers)
    ended = time.time()
    run_started, (first_step,) = project.times()
    moments = [("imports and configuration, to the run in MLflow", run_started - project.began)]
    if workers:
        moments += [
            ("embedded Ray, to the worker's process", project.worker_started - run_started),
            ("imports and setup of the worker, first step", first_step - project.worker_started),
        ]
    return [
        *moments,
        ("**command to first step**", first_step - project.began),
        ("the command as a whole", ended - project.began),
    ]


def measure_ray(case: Case, folder: Path, epochs: int = 6) -> tuple[float, float]:
    """Return seconds per step under Ray Train, and its seconds between two epochs."""
    project = Project(case, folder)
    seconds = project.train("between", epochs)
    _, moments = project.times()
    pause = (moments[-1] - moments[0] - sum(seconds[1:])) / len(seconds[1:])  # the mean
    return statistics.median(seconds[1:]) / case.steps, pause


def measure_workers(case: Case, folder: Path, workers: int, epochs: int = 5) -> float:
    """Return the median seconds of an epoch with a number of workers."""
    return statistics.median(Project(case, folder).train(f"workers-{workers}", epochs, workers)[1:])


# -- the report


def report_start(scratch: Path) -> None:
    for workers, where in enumerate(("in its own process", "with a worker under Ray")):
        print(f"\n| start {where} | seconds |\n|---|---|")
        for what, seconds in measure_start(scratch / f"start{workers}", workers):
            print(f"| {what} | {seconds:.1f} |", flush=True)


def report_loop(scratch: Path, cases: Sequence[Case]) -> None:
    print("\n| | bare, ms/step | worker, ms/step | loop and loader | under Ray, ms/step ", end="")
    print("| between epochs, s | share of an epoch | in all |\n|---|---|---|---|---|---|---|---|")
    for number, case in enumerate(cases):
        bare, ours, overhead = measure_loop(case)
        under_ray, pause = measure_ray(case, scratch / f"ray{number}")
        share = pause / (bare * MNIST_ROWS / case.trainer["batch_size"])
        print(
            f"| {case.title} | {1e3 * bare:.2f} | {1e3 * ours:.2f} | {overhead:+.1%} "
            f"| {1e3 * under_ray:.2f} | {pause:.2f} | {share:.1%} | {overhead + share:.1%} |",
            flush=True,
        )


def report_workers(scratch: Path, cases: Sequence[Case]) -> None:
    print("\n| | one worker, s/epoch | two workers | ratio |\n|---|---|---|---|")
    for number, case in enumerate(cases):
        one, two = (measure_workers(case, scratch / f"{number}x{n}", n) for n in (1, 2))
        print(f"| {case.title} | {one:.2f} | {two:.2f} | {one / two:.2f} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--quick", action="store_true", help="the first model of each table alone")
    parser.add_argument("--alternate", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    most = 1 if arguments.quick else None
    with tempfile.TemporaryDirectory() as temporary:
        scratch = Path(temporary)
        if arguments.alternate is not None:
            print(json.dumps(alternate(CASES[arguments.alternate], scratch / "shards")))
            return
        torch.set_num_threads(1)
        print(f"{measuring.machine()}, {os.cpu_count()} CPUs, load {measuring.load()}")
        if "start" in arguments.only:
            report_start(scratch)
        if "loop" in arguments.only:
            report_loop(scratch, CASES[:most])
        if "workers" in arguments.only:
            report_workers(scratch, TWO[:most])
        print(f"\nload at the end {measuring.load()}")


if __name__ == "__main__":
    main()
