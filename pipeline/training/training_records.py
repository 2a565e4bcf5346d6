"""What crosses the borders of a training: the job, its reports, how it ended, what it leaves.

All of it is frozen. What becomes plain data, at file boundaries and for Ray Tune's metrics, is a
TrainingReport, around an EpochRecord, and training.json (TrainingRecord).
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from arcore.events import Event
from pipeline.artifacts.artifact import MODEL
from pipeline.artifacts.reader import read_origin
from pipeline.core.records import Record, left_out, read_object
from pipeline.experiments.schema import TrainerConfig

BEST = "best_valid_nats"  # the names by which Ray Tune compares reports
TIME = "epoch"


@dataclass(frozen=True, kw_only=True)
class TrainingJob:
    """What a worker must know.

    Attributes:
        config_hash: of all that decides the weights; a checkpoint of another one is refused.
        code_sha256: of the code that trains, likewise; None where its source is not at hand.
        event: what is modelled.
        model: its name and all its hyperparameters.
        trainer: how it is trained.
        shards: folder or URI of the shards, as this worker reaches it.
        dataset_sha256: of the shards that the job was made for; others are refused. None for any.
        tracking_uri: MLflow's store.
        run_id: the MLflow run that rank 0 logs to; None for none.
        checkpoints: folder or URI of this training's checkpoints.
        threads: of this worker's process.
        checkpoint_seconds: longest time between two checkpoints.
        quiet: print no line an epoch.
    """

    config_hash: str
    event: Event
    model: Mapping[str, object]
    trainer: TrainerConfig
    shards: str
    dataset_sha256: str | None = None
    code_sha256: str | None = None
    tracking_uri: str = ""
    run_id: str | None = None
    checkpoints: str = ""
    threads: int = 1
    checkpoint_seconds: float = math.inf
    quiet: bool = False


@dataclass(frozen=True)
class Finished:
    """A training that went to its last epoch or an early stop.

    Attributes:
        num_parameters: of the model.
        device: name of the accelerator or processor of rank 0.
        num_workers: that it ended with.
        precision: of its steps.
    """

    num_parameters: int
    device: str
    num_workers: int
    precision: str


@dataclass(frozen=True)
class Failed:
    """A training that cannot go on.

    Attributes:
        reason: in one line.
    """

    reason: str


@dataclass(frozen=True)
class Stopped:
    """A training that saved a checkpoint and left, as it was asked to.

    Attributes:
        step: finished optimiser steps.
        epoch: the epoch under way, from 1.
    """

    step: int
    epoch: int


TrainingOutcome = Finished | Failed | Stopped


@dataclass(frozen=True, kw_only=True)
class EpochRecord(Record):
    """A finished epoch: a row of history.csv, but for the seconds and the best so far.

    Attributes:
        epoch: from 1.
        step: optimiser steps up to its end.
        seconds: of training up to its end, over all restarts, validation not counted.
        learning_rate: of its last step.
        train_nats: mean training loss of an event.
        valid_nats: mean validation loss of an event; None where the epoch was not validated.
        valid_bits_per_dim: the same in bits per dimension.
        best_valid_nats: lowest validation nats so far; inf for none.
    """

    epoch: int
    step: int
    seconds: float
    learning_rate: float
    train_nats: float
    valid_nats: float | None = left_out(None)
    valid_bits_per_dim: float | None = left_out(None)
    best_valid_nats: float = math.inf

    def metrics(self, *omitted: str) -> dict[str, float]:
        """Return the numbers that MLflow shows of the epoch, but the omitted ones."""
        values: dict[str, float | None] = dataclasses.asdict(self)
        return {k: v for k, v in values.items() if v is not None and k not in omitted}


COLUMNS = tuple(  # of history.csv
    field.name for field in dataclasses.fields(EpochRecord) if field.name not in ("seconds", BEST)
)


@dataclass(frozen=True, kw_only=True)
class TrainingReport:
    """What a worker reports after each epoch.

    Attributes:
        record: of the epoch; None of a trial that has no value.
        finished: whether the training is at its end.
        problem: why there is no value, in one line.
    """

    record: EpochRecord | None = None
    finished: bool = False
    problem: str = ""

    @property
    def epoch(self) -> int:
        """Finished epochs; 1 of a trial without a value, which a scheduler compares so."""
        return 1 if self.record is None else self.record.epoch

    @property
    def best_valid_nats(self) -> float:
        """Lowest validation nats so far; inf for none."""
        return math.inf if self.record is None else self.record.best_valid_nats

    def to_dict(self) -> dict[str, object]:
        """Return flat metrics, as Ray Tune takes them."""
        if self.record is None:
            return {TIME: self.epoch, BEST: self.best_valid_nats, "problem": self.problem}
        return self.record.to_dict() | {"finished": self.finished}

    @classmethod
    def from_dict(cls, plain: Mapping[str, object]) -> TrainingReport:
        """Read metrics that `to_dict` returned, among others that Ray Tune added.

        Example:
            >>> TrainingReport.from_dict({}).best_valid_nats
            inf
        """
        record = EpochRecord.from_dict(plain, "report") if "train_nats" in plain else None
        problem = str(plain.get("problem", ""))
        return cls(record=record, finished=bool(plain.get("finished")), problem=problem)


@dataclass(frozen=True, kw_only=True)
class TrainingRecord(Record):
    """training.json: where and how long a model was trained; nothing in it decides the weights.

    It differs from run to run, so that DVC ignores it (`.dvcignore`): a model folder that DVC has
    restored from its cache has none, or one of other weights.

    Attributes:
        experiment: its name.
        run_id: of MLflow; None where the store could not be reached.
        mlflow_experiment: that the run is in.
        num_parameters: of the model.
        train_seconds: over all restarts, validation not counted.
        device: name of the accelerator or processor.
        num_workers: that it ended with.
        epochs: finished.
        best_epoch: whose weights were kept; 0 where none was validated.
        commit: of the code.
        epoch_seconds: of training up to the end of each epoch, as long as history.csv.
        weights_sha256: of the file model.safetensors; older records have none.
        precision: of the steps, auto being resolved; older records have none.
    """

    experiment: str
    run_id: str | None
    mlflow_experiment: str
    num_parameters: int
    train_seconds: float
    device: str
    num_workers: int
    epochs: int
    best_epoch: int
    commit: str
    epoch_seconds: list[float] = dataclasses.field(default_factory=list)
    weights_sha256: str | None = None
    precision: str | None = None

    @classmethod
    def of(cls, folder: Path) -> TrainingRecord | None:
        """Read the record of a model folder; None if there is none, or one of other weights.

        Raises:
            UserError: naming the file, if it is damaged.
        """
        found = read_origin(folder, MODEL)
        return None if found is None else cls.from_dict(found, str(folder / MODEL.origin))

    @classmethod
    def read(cls, path: Path) -> TrainingRecord:
        """Read training.json.

        Raises:
            UserError: naming the file, if there is none, or it is damaged.
        """
        return cls.from_dict(read_object(path), str(path))
