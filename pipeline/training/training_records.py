"""What crosses the borders of a training: the job, its progress, how it ended, what it leaves."""

from __future__ import annotations

import csv
import dataclasses
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
import yaml

from arcore.events import Event
from pipeline.artifacts.artifact import MODEL
from pipeline.artifacts.reader import read_origin
from pipeline.core.errors import UserError, require
from pipeline.core.records import Record, omit_if_default, write_object
from pipeline.experiments.schema import TrainerConfig

BEST = "best_valid_nats"  # the names by which Ray Tune compares reports
TIME = "epoch"


@dataclass(frozen=True, kw_only=True)
class TrainingJob:
    """What a worker must know.

    Attributes:
        config_hash: of all that decides the weights; a checkpoint of another one is refused.
        code_sha256: of the code that trains, likewise; None where its source is not at hand.
        shards: folder or URI of the shards, as this worker reaches it.
        dataset_sha256: of the shards that the job was made for; others are refused. None for any.
        initial_weights: path or URI of the weights to start from, with their hash; None for none.
        run_id: the MLflow run that rank 0 logs to; None for none.
        checkpoints: folder or URI of this training's checkpoints.
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
    initial_weights: str | None = None
    initial_sha256: str | None = None
    run_id: str | None = None
    checkpoints: str = ""
    threads: int = 1
    checkpoint_seconds: float = math.inf
    quiet: bool = False


@dataclass(frozen=True)
class Finished:
    """A training that went to its last epoch or an early stop; on the device of rank 0."""

    num_parameters: int
    device: str
    progress: Progress


@dataclass(frozen=True)
class Failed:
    """A training that cannot go on, for a reason of one line."""

    reason: str


@dataclass(frozen=True)
class Stopped:
    """A training that saved a checkpoint and left, after a step of an epoch (from 1)."""

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
        train_nats, valid_nats: mean loss of an event; None where the epoch was not validated.
        best_valid_nats: lowest validation nats so far; inf for none.
    """

    epoch: int
    step: int
    seconds: float
    learning_rate: float
    train_nats: float
    valid_nats: float | None = omit_if_default(None)
    valid_bits_per_dim: float | None = omit_if_default(None)
    best_valid_nats: float = math.inf

    def metrics(self, *omitted: str) -> dict[str, float]:
        """Return the numbers that MLflow shows of the epoch, but the omitted ones."""
        return {k: v for k, v in vars(self).items() if v is not None and k not in omitted}


COLUMNS = tuple(  # of history.csv
    field.name for field in dataclasses.fields(EpochRecord) if field.name not in ("seconds", BEST)
)


@dataclass(frozen=True)
class Session:
    """A worker of a training, and what it runs in.

    Attributes:
        rank: of the worker, of `world` workers: 0 and 1 if alone.
        stop_requested: tells whether the training should save itself and leave; None for never.
        report: takes each finished epoch, and whether it was the last; None for nothing.
        preempted: tells all workers alike whether the node of one goes away; None for never.
    """

    rank: int
    world: int
    device: torch.device
    stop_requested: Callable[[], bool] | None = None
    report: Callable[[EpochRecord, bool], None] | None = None
    preempted: Callable[[], bool] | None = None


@dataclass
class Progress:
    """The position of a training. Randomness is a function of (seed, step), so this is all of it.

    Attributes:
        epoch, step: finished ones.
        steps_in_epoch, rows_in_epoch, loss_in_epoch: of the epoch under way, the loss in summed
            nats; rows and loss over all workers.
        seconds: time spent training, over all restarts.
        best_nats, best_epoch: of the lowest validation so far (epoch 0: none yet).
        stopped: early stopping has ended the training.
        precision: of the steps; None before the first one.
    """

    epoch: int = 0
    step: int = 0
    steps_in_epoch: int = 0
    rows_in_epoch: int = 0
    loss_in_epoch: float = 0.0
    seconds: float = 0.0
    best_nats: float = math.inf
    best_epoch: int = 0
    validations_since_best: int = 0
    stopped: bool = False
    history: list[EpochRecord] = dataclasses.field(default_factory=list)
    world: int = 1
    precision: str | None = None

    def restart_epoch(self) -> None:
        """Forget the steps of the epoch under way; weights keep what they learned from them."""
        self.step -= self.steps_in_epoch
        self.steps_in_epoch, self.rows_in_epoch, self.loss_in_epoch = 0, 0, 0.0

    def end_epoch(self) -> None:
        """Count the epoch under way among the finished ones."""
        self.epoch += 1
        self.steps_in_epoch, self.rows_in_epoch, self.loss_in_epoch = 0, 0, 0.0

    def judge(self, nats: float, patience: int | None) -> bool:
        """Count a validation, after `patience` of them without a new best stop; tell if it is."""
        if nats < self.best_nats:
            self.best_nats, self.best_epoch = nats, self.epoch
            self.validations_since_best = 0
            return True
        self.validations_since_best += 1
        self.stopped = patience is not None and self.validations_since_best >= patience
        return False

    def is_finished(self, trainer: TrainerConfig) -> bool:
        """Tell whether no step is left."""
        return self.stopped or self.epoch >= trainer.max_epochs or self.is_last(trainer)

    def is_last(self, trainer: TrainerConfig) -> bool:
        """Tell whether the step before was the last one that `trainer.max_steps` allows."""
        return self.step == trainer.max_steps

    def curves(self) -> dict[int, dict[str, float]]:
        """Return the numbers of each epoch that MLflow shows."""
        return {row.epoch: row.metrics("epoch", BEST) for row in self.history}

    def to_dict(self) -> dict[str, object]:
        """Return plain data."""
        return dataclasses.asdict(self) | {"history": [row.to_dict() for row in self.history]}


@dataclass(frozen=True, kw_only=True)
class TrainingRecord(Record):
    """training.json: where and how long a model was trained; nothing in it decides the weights.

    It differs from run to run, so that DVC ignores it (`.dvcignore`): a model folder that DVC has
    restored from its cache has none, or one of other weights.

    Attributes:
        run_id: of MLflow; None where the store could not be reached.
        train_seconds: over all restarts, validation not counted.
        num_workers: that it ended with.
        best_epoch: whose weights were kept; 0 where none was validated.
        epoch_seconds: of training up to the end of each epoch, as long as history.csv.
        weights_sha256: of the file model.safetensors; older records have none.
        precision: of the steps, auto being resolved; older records have none.
        initial_weights: path of the weights that it started from, with their hash, if any.
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
    initial_weights: str | None = omit_if_default(None)
    initial_weights_sha256: str | None = omit_if_default(None)

    @classmethod
    def of(cls, folder: Path) -> TrainingRecord | None:
        """Read the record of a model folder; None if there is none, or one of other weights."""
        found = read_origin(folder, MODEL)
        return None if found is None else cls.from_dict(found, str(folder / MODEL.origin))

    def write(
        self,
        folder: Path,
        content: Mapping[str, object],
        history: Iterable[Mapping[str, object]],
    ) -> None:
        """Write what goes with weights: config.yaml of a content, history.csv and training.json."""
        described = yaml.safe_dump(dict(content), sort_keys=False)
        (folder / "config.yaml").write_text(described, encoding="utf-8")
        with open(folder / "history.csv", "w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, COLUMNS, extrasaction="ignore", lineterminator="\n")
            writer.writeheader()
            writer.writerows(history)
        write_object(folder / MODEL.origin, self.to_dict())


def read_curves(folder: Path) -> dict[int, dict[str, float]]:
    """Read `Progress.curves` of a model folder, from history.csv and the record's seconds."""
    record, curves = TrainingRecord.of(folder), {}
    seconds = dict(enumerate(record.epoch_seconds if record else (), 1))
    for row in read_history(folder / "history.csv"):
        numbers = {name: float(cell) for name, cell in row.items() if cell}
        epoch = int(numbers.pop("epoch"))
        curves[epoch] = numbers | ({"seconds": seconds[epoch]} if epoch in seconds else {})
    return curves


def read_history(path: Path) -> list[Mapping[str, str]]:
    """Read a history.csv: each cell a finite number as text, or empty; `epoch` counts from 1."""
    try:
        with open(path, newline="", encoding="utf-8") as lines:
            rows = list(csv.DictReader(lines, strict=True, restval=""))
    except FileNotFoundError:
        raise UserError(f"{path}: missing; train the experiment first") from None
    except (csv.Error, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not a table of text: {error}") from None
    for number, row in enumerate(rows, 1):
        try:
            fits = row["epoch"].isdecimal() and int(row["epoch"]) >= 1
            fits = fits and all(math.isfinite(float(cell)) for cell in row.values() if cell)
        except (KeyError, TypeError, ValueError):  # a list has the cells that no column has
            fits = False
        require(fits, f"{path}: row {number}", "an epoch from 1 and finite numbers", row)
    return list(rows)
