"""Training in the test's own process, as the only worker."""

import shutil
from pathlib import Path
from typing import Any

from pipeline.data.manifest import read_manifest
from pipeline.experiments.schema import TrainerConfig, build
from pipeline.training.checkpoint_store import CheckpointStore
from pipeline.training.training_records import EpochRecord, Session, TrainingJob, TrainingOutcome

DEFAULT_MODEL = {"name": "made", "hidden": [16]}


class Worker:
    """A session of one worker that keeps what is reported, and every checkpoint.

    Arguments:
        folder: where checkpoints are copied to: `1`, `2`, ... by epoch, and `midway` for the last
            one within an epoch.
        data: folder of the shards.

    Attributes:
        resume: the checkpoints to go on from, the newest first.
        stop_at: the optimiser step after which it is asked to stop.
        preempted_at: the optimiser step after which its node is said to go away.
    """

    rank, world = 0, 1

    def __init__(self, folder: Path, data: Path) -> None:
        import torch

        self.folder, self.data = folder, data
        self.place = folder.with_name(f"{folder.name}-store")
        self.store = CheckpointStore(str(self.place))
        self.device = torch.device("cpu")
        self.reports: list[EpochRecord] = []
        self.resume: list[Path] = []
        self.stop_at: int | None = None
        self.preempted_at: int | None = None
        self.checkpoint_seconds = 600.0
        self.code_sha256: str | None = None
        self.initial: tuple[str, str] | None = None  # weights to start from, and their hash
        self.progress: Any = None
        self.outcome: TrainingOutcome | None = None

    def report(self, record: EpochRecord, finished: bool) -> None:
        self.reports.append(record)
        self._copy(str(record.epoch))

    def _copy(self, name: str) -> None:
        for checkpoint in sorted(set(self.store.names()) - self._seen):
            self._seen.add(checkpoint)
            shutil.copytree(self.place / checkpoint, self.folder / name, dirs_exist_ok=True)

    def stop_requested(self) -> bool:
        return self.stop_at is not None and self.worker.progress.step >= self.stop_at

    def preempted(self) -> bool:
        return self.preempted_at is not None and self.worker.progress.step >= self.preempted_at

    def train(self, model: dict[str, Any] | None = None, **trainer: Any) -> TrainingOutcome:
        """Run the training function of the real workers; return what it returns."""
        from pipeline.training import worker

        self._restart()
        job = TrainingJob(
            config_hash="i" * 64,
            code_sha256=self.code_sha256,
            event=read_manifest(self.data).event,
            model=model if model and "name" in model else DEFAULT_MODEL | (model or {}),
            trainer=build(TrainerConfig, {"max_epochs": 4, "batch_size": 16} | trainer, "trainer"),
            shards=str(self.data),
            initial_weights=self.initial and self.initial[0],
            initial_sha256=self.initial and self.initial[1],
            checkpoints=str(self.place),
            checkpoint_seconds=self.checkpoint_seconds,
        )
        told = self.stop_requested, self.report
        session = Session(self.rank, self.world, self.device, *told, self.preempted)
        self.worker = worker.Worker(job, session)
        self.progress = self.worker.progress
        self.outcome = self.worker.run()
        self._copy("midway")
        return self.outcome

    def _restart(self) -> None:
        shutil.rmtree(self.place, ignore_errors=True)
        for number, path in enumerate(reversed(self.resume), 1):
            shutil.copytree(path, self.place / f"checkpoint_{number:06d}")
        self._seen = set(self.store.names())

    def weights(self, epoch: int, which: str = "last") -> Any:
        from safetensors.torch import load_file

        return load_file(self.folder / str(epoch) / f"{which}.safetensors")
