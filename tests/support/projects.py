"""Projects in which stages run as commands, and a training that tests disturb."""

from __future__ import annotations

import contextlib
import csv
import json
import os
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import yaml

from pipeline.repro import warm
from pipeline.tracking import mlflow_store
from tests.places import ROOT

PATIENCE = 400.0  # seconds that one command may take on a busy machine
WIDE = {
    "dataset": "digits_binary",
    "model": "made",
    "model_overrides": {"hidden": [2000], "num_masks": 4},
    "trainer": {
        "max_epochs": 10,
        "batch_size": 20,
        "ema_decay": 0.9,
        "schedule": {"warmup_steps": 9},
    },
}
LONG = WIDE | {"trainer": WIDE["trainer"] | {"max_epochs": 12, "batch_size": 10}}
ONE_CPU = "cluster.cpus_per_worker=1"


class Project:
    """A working directory with params.yaml, an MLflow store and, mostly, preprocessed digits.

    Arguments:
        folder: the directory.
        code: where `arcore`, `pipeline` and `stages` are imported from.

    Attributes:
        warm: the variables with which commands that run to their end find a warm process that
            has imported what stages need (`pipeline/repro/warm.py`), none if each starts anew.
    """

    def __init__(self, folder: Path, code: Path = ROOT) -> None:
        self.folder, self.code = folder, code
        self.warm: dict[str, str] = {}

    def environment(self, **extra: str) -> dict[str, str]:
        """One thread, as `make repro` gives on two cores: last digits differ with their number."""
        dropped = ("ARCORE_", "MLFLOW_TRACKING_URI", "RAY_", "DVC_")
        kept = {k: v for k, v in os.environ.items() if not k.startswith(dropped)}
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        own = {"PYTHONPATH": str(self.code), "PATH": path, "OMP_NUM_THREADS": "1"}
        return kept | own | extra

    def copied_to(self, folder: Path) -> Project:
        """Copy it with a store of its own, as one must be that is moved."""
        shutil.copytree(self.folder, folder, symlinks=True)
        copy = Project(folder, folder if self.code == self.folder else self.code)
        copy.warm = self.warm
        with contextlib.closing(sqlite3.connect(folder / "mlflow.db")) as store, store:
            store.execute(
                "UPDATE experiments SET artifact_location = replace(artifact_location, ?, ?)",
                (str(self.folder), str(folder)),
            )
        return copy

    @contextlib.contextmanager
    def warmed(self) -> Iterator[dict[str, str]]:
        """Inside the block commands that run to their end find a warm process; yields how."""
        with contextlib.ExitStack() as stack:
            with contextlib.chdir(self.folder):  # from where it imports before all other places
                variables = stack.enter_context(warm.warmed(self.environment()))
            kept = {warm.VARIABLE} & variables.keys()
            self.warm = {name: variables[name] for name in kept}
            try:
                yield self.warm
            finally:
                self.warm = {}

    def run(
        self, *command: str, timeout: float = PATIENCE, **extra: str
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command,
            cwd=self.folder,
            env=self.environment(**self.warm, **extra),
            capture_output=True,
            text=True,
            timeout=timeout,
        )

    def stage(self, name: str, *arguments: str, **extra: str) -> subprocess.CompletedProcess[str]:
        return self.run(sys.executable, "-m", f"stages.{name}", *arguments, **extra)

    def start(self, name: str, *arguments: str, **extra: str) -> subprocess.Popen[bytes]:
        """Start a stage, by itself, in a process group of its own; its output is `stage.log`."""
        with open(self.folder / "stage.log", "wb") as log:
            return subprocess.Popen(
                [sys.executable, "-m", f"stages.{name}", *arguments],
                cwd=self.folder,
                env=self.environment(**extra),
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @contextlib.contextmanager
    def running(
        self, until: str | int, name: str, *arguments: str, **extra: str
    ) -> Iterator[subprocess.Popen[bytes]]:
        """Start a stage and yield once its log has `until`, or so many epochs of it are kept.

        Its processes, and no others, end with the block.

        Arguments:
            until: a regular expression, or a number of epochs.
            name: of the stage.
            arguments: of the stage.
            extra: variables of its environment.
        """

        def it_is_time() -> bool:
            if isinstance(until, int):
                return self.epochs_kept() >= until
            return bool(re.search(until, self.log()))

        process = self.start(name, *arguments, **extra)
        try:
            self.wait_until(
                lambda: process.poll() is not None or it_is_time(), f"{until!r} is reached"
            )
            assert process.poll() is None, self.log()
            yield process
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()

    @staticmethod
    def own(text: str) -> str:
        """Return output without what Ray's processes say; they complain on a busy machine."""
        return "".join(line for line in text.splitlines(True) if not re.match(r"\([^)]*pid=", line))

    def epochs_kept(self) -> int:
        """Return the finished epochs of the newest checkpoint of a training under way, or 0."""
        epochs = [0]
        for path in self.folder.glob(".arcore/train/*/checkpoint_*/state.json"):
            with contextlib.suppress(FileNotFoundError):  # older ones are removed meanwhile
                epochs.append(json.loads(path.read_text())["progress"]["epoch"])
        return max(epochs)

    def log(self) -> str:
        return (self.folder / "stage.log").read_text(errors="replace")

    def wait_until(self, holds: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + PATIENCE
        while not holds():
            assert time.monotonic() < deadline, f"timed out waiting until {what}"
            time.sleep(0.1)

    def json(self, path: str) -> Any:
        return json.loads((self.folder / path).read_text())

    def rows(self, path: str) -> list[dict[str, str]]:
        with open(self.folder / path, newline="") as file:
            return list(csv.DictReader(file))

    def edit_params(self, change: Callable[[dict[str, Any]], None]) -> None:
        path = self.folder / "params.yaml"
        params = yaml.safe_load(path.read_text())
        change(params)
        path.write_text(yaml.safe_dump(params, sort_keys=False))

    def runs(self, experiment: str = "arcore-digits_binary") -> list[Any]:
        store = mlflow_store.client(f"sqlite:///{self.folder}/mlflow.db")
        found = store.get_experiment_by_name(experiment)
        return [] if found is None else list(store.search_runs([found.experiment_id]))


def workers_of(process: subprocess.Popen[bytes], name: str) -> list[psutil.Process]:
    """The processes below a stage that Ray calls by a name."""
    below = psutil.Process(process.pid).children(recursive=True)
    return [one for one in below if name in one.name() + " ".join(one.cmdline())]


def kill_stage(process: subprocess.Popen[bytes]) -> None:
    """Kill a stage that was started by itself; all that it started must end too."""
    children = psutil.Process(process.pid).children(recursive=True)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    _, strays = psutil.wait_procs(children, timeout=60)
    assert not strays, "no process outlives the stage"


def result(project: Project) -> tuple[bytes, bytes, list[dict[str, str]]]:
    """Best and last weights, and the curves without the time that they took."""
    model = project.folder / "models" / "wide"
    rows = project.rows("models/wide/history.csv")
    for row in rows:
        row.pop("seconds", None)
    return (
        (model / "model.safetensors").read_bytes(),
        (model / "last.safetensors").read_bytes(),
        rows,
    )
