"""What crosses the borders of a training: the job, its reports, how it ended, what it leaves.

All of it is frozen and becomes plain data at process and file boundaries alone: Ray Train's
`train_loop_config` (TrainingJob), its return value (TrainingOutcome), its and Ray Tune's metrics
(TrainingReport, around an EpochRecord, which is also a row of history.csv), and training.json
(TrainingRecord).
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from arcore import events
from arcore.events import Event
from pipeline.artifacts.artifact import MODEL
from pipeline.artifacts.reader import read_origin
from pipeline.core.records import Record, read_object
from pipeline.experiments.schema import TrainerConfig, build

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

    def to_dict(self) -> dict[str, object]:
        """Return plain data, from which `from_dict` makes the same job in another process."""
        fields = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return fields | {
            "event": events.to_dict(self.event),
            "model": dict(self.model),
            "trainer": dataclasses.asdict(self.trainer),
        }

    @classmethod
    def from_dict(cls, plain: Mapping[str, object]) -> TrainingJob:
        """Make the job that `to_dict` described.

        Raises:
            UserError: naming the field that is unknown or of another type.
        """
        event = events.from_dict(_mapping(plain["event"]))
        return build(cls, {**plain, "event": event}, "job")


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
_OUTCOMES: dict[str, type[TrainingOutcome]] = {
    "finished": Finished, "failed": Failed, "stopped": Stopped,
}  # fmt: skip


def outcome_to_dict(outcome: TrainingOutcome) -> dict[str, object]:
    """Return an outcome as plain data.

    Example:
        >>> outcome_to_dict(Stopped(step=7, epoch=2))
        {'ending': 'stopped', 'step': 7, 'epoch': 2}
    """
    (ending,) = (name for name, kind in _OUTCOMES.items() if type(outcome) is kind)
    return {"ending": ending} | dataclasses.asdict(outcome)


def outcome_from_dict(plain: Mapping[str, object]) -> TrainingOutcome:
    """Make the outcome that `outcome_to_dict` described."""
    fields = {key: value for key, value in plain.items() if key != "ending"}
    return build(_OUTCOMES[str(plain["ending"])], fields, "outcome")


@dataclass(frozen=True, kw_only=True)
class EpochRecord:
    """A finished epoch: a row of history.csv, but for the seconds.

    Attributes:
        epoch: from 1.
        step: optimiser steps up to its end.
        seconds: of training up to its end, over all restarts, validation not counted.
        learning_rate: of its last step.
        train_nats: mean training loss of an event.
        valid_nats: mean validation loss of an event; None where the epoch was not validated.
        valid_bits_per_dim: the same in bits per dimension.
    """

    epoch: int
    step: int
    seconds: float
    learning_rate: float
    train_nats: float
    valid_nats: float | None = None
    valid_bits_per_dim: float | None = None

    def to_dict(self) -> dict[str, float]:
        """Return the numbers that there are, by name."""
        return {k: v for k, v in dataclasses.asdict(self).items() if v is not None}


HISTORY = tuple(field.name for field in dataclasses.fields(EpochRecord))
COLUMNS = tuple(name for name in HISTORY if name != "seconds")  # of history.csv


@dataclass(frozen=True, kw_only=True)
class TrainingReport:
    """What a worker reports as it goes: after each epoch, and with each checkpoint inside one.

    Attributes:
        epoch: finished epochs.
        best_valid_nats: lowest validation nats so far; inf for none.
        finished: whether the training is at its end.
        record: of the epoch that has just ended; None inside one.
        problem: why there is no value, in one line, of a trial that cannot be.
    """

    epoch: int
    best_valid_nats: float = math.inf
    finished: bool = False
    record: EpochRecord | None = None
    problem: str = ""

    def to_dict(self) -> dict[str, float | str]:
        """Return flat metrics, as Ray Train and Ray Tune take them."""
        own: dict[str, float | str] = {TIME: self.epoch, BEST: self.best_valid_nats}
        if self.problem:
            own["problem"] = self.problem
        if self.record is not None:
            own = {**self.record.to_dict(), **own, "finished": self.finished}
        return own

    @classmethod
    def from_dict(cls, plain: Mapping[str, object]) -> TrainingReport:
        """Read metrics that `to_dict` made, among others that Ray Tune added.

        Example:
            >>> TrainingReport.from_dict({}).best_valid_nats
            inf
        """
        given = {name: plain[name] for name in HISTORY if name in plain}
        record = build(EpochRecord, given, "report") if "train_nats" in given else None
        best, epoch = plain.get(BEST, math.inf), plain.get(TIME, 0)
        assert isinstance(best, int | float) and isinstance(epoch, int | float)
        return cls(
            epoch=int(epoch),
            best_valid_nats=float(best),
            finished=bool(plain.get("finished")),
            record=record,
            problem=str(plain.get("problem", "")),
        )


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


def _mapping(given: object) -> Mapping[str, object]:
    assert isinstance(given, dict), "plain data of an event"
    return given
