"""Training in the test's own process, as the only worker of Ray Train."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import arcore
from pipeline import datasets, shards
from pipeline.datasets.base import SplitData


@pytest.fixture(scope="session")
def few_digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of shards of 96 training, 24 validation and 24 test rows of the digits' shape."""
    dataset = datasets.get_dataset({"name": "digits_binary"})
    generator = np.random.default_rng(0)
    shape = generator.random((1, 8, 8)) * 0.9

    def split(rows: int) -> SplitData:
        x = (generator.random((rows, 1, 8, 8)) < shape).astype(np.uint8)
        return SplitData(x, generator.integers(0, 10, rows), None)

    folder = tmp_path_factory.mktemp("shards") / "digits_binary"
    return shards.write(
        dataset, {"train": split(96), "valid": split(24), "test": split(24)}, folder
    )


class Worker:
    """Stands for Ray Train with one worker: keeps what it reports, gives back a checkpoint.

    Arguments:
        folder: where checkpoints are copied to, `1`, `2`, ... by epoch.
        data: folder of the shards.
    """

    def __init__(self, folder: Path, data: Path) -> None:
        self.folder, self.data = folder, data
        self.metrics: list[dict[str, Any]] = []
        self.resume: Path | None = None
        self.progress: Any = None

    def get_context(self) -> Worker:
        return self

    def get_world_rank(self) -> int:
        return 0

    def get_world_size(self) -> int:
        return 1

    def get_checkpoint(self) -> Any:
        import ray.train

        return None if self.resume is None else ray.train.Checkpoint(str(self.resume))

    def report(self, metrics: dict[str, Any], checkpoint: Any = None) -> None:
        self.metrics.append(metrics)
        if checkpoint is not None:
            shutil.copytree(checkpoint.path, self.folder / str(int(metrics["epoch"])))

    def train(self, model: dict[str, Any] | None = None, **trainer: Any) -> dict[str, Any]:
        """Run the training function of the real workers; return what it returns."""
        from pipeline import worker

        job = {
            "identity": "i" * 64,
            "event": arcore.events.to_dict(shards.read_manifest(self.data).event),
            "model": {"name": "made", "hidden": [16]} | (model or {}),
            "trainer": {"max_epochs": 4, "batch_size": 16} | trainer,
            "shards": str(self.data),
            "run_id": None,
            "tracking_uri": "",
            "threads": 1,
        }
        running = worker._Worker(job)
        self.progress, self.worker = running.progress, running
        return running.run()

    def weights(self, epoch: int, which: str = "last") -> Any:
        from safetensors.torch import load_file

        return load_file(self.folder / str(epoch) / f"{which}.safetensors")


@pytest.fixture
def make_worker(
    tmp_path_factory: pytest.TempPathFactory, few_digits: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[], Worker]:
    """A function that returns a new worker, which takes the place of Ray Train."""
    import ray.train
    import ray.train.torch
    import torch

    def make() -> Worker:
        made = Worker(tmp_path_factory.mktemp("checkpoints"), few_digits)
        for name in ("get_context", "get_checkpoint", "report"):
            monkeypatch.setattr(ray.train, name, getattr(made, name))
        return made

    monkeypatch.setattr(ray.train.torch, "get_device", lambda: torch.device("cpu"))
    return make
