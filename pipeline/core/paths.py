"""Where things are: every path below one root."""

import os
from pathlib import Path

REPRODUCTIONS, LOCAL = "reproductions", "local"
PARTS = (REPRODUCTIONS, LOCAL)  # folders that may have a params.yaml of their own

REPRO = "ARCORE_REPRO"  # number of the process of `make repro`, for the stages that it runs


def root() -> Path:
    """Return the absolute folder that holds data, models and reports.

    `ARCORE_HOME` if it is set (jobs submitted to a cluster run in a copy of the code, elsewhere),
    else the working directory.
    """
    return Path(os.environ.get("ARCORE_HOME") or Path.cwd()).resolve()


def params_files(folder: Path) -> list[Path]:
    """Return the parameter files of a checkout that are there: its own, then `PARTS`'."""
    files = (folder / part / "params.yaml" for part in ("", *PARTS))
    return [path for path in files if path.is_file()]


def raw(dataset: str) -> Path:
    """Return the folder of a dataset's raw files."""
    return root() / "data" / "raw" / dataset


def shards(dataset: str) -> Path:
    """Return the folder of a dataset's Parquet shards and manifest."""
    return root() / "data" / "shards" / dataset


def model(experiment: str) -> Path:
    """Return the folder of a trained model."""
    return root() / "models" / experiment


def usable_model(experiment: str) -> Path:
    """Return the folder of the trained model, or else of the weights kept in results/."""
    here, kept = model(experiment), results() / experiment
    weights = "model.safetensors"
    return kept if not (here / weights).is_file() and (kept / weights).is_file() else here


def evaluation(dataset: str, experiment: str) -> Path:
    """Return the folder of an evaluation."""
    return root() / "evaluation" / dataset / experiment


def results() -> Path:
    """Return the folder of records, which Git keeps."""
    return root() / "results"


def work() -> Path:
    """Return the folder of running trainings: checkpoints that nobody else reads."""
    return root() / ".arcore"


def shortened(path: Path) -> Path:
    """Return a path relative to the working directory where it is below it, for messages."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
