"""How far a training has come."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping

from pipeline.experiments.schema import build
from pipeline.training.training_records import EpochRecord, TrainingReport


@dataclasses.dataclass
class Progress:
    """The position of a training. Randomness is a function of (seed, step), so this is all of it.

    Attributes:
        epoch: finished epochs.
        step: finished optimiser steps.
        steps_in_epoch: steps of the epoch under way.
        rows_in_epoch: rows of the epoch under way, over all workers.
        loss_in_epoch: summed nats of the epoch under way, over all workers.
        seconds: time spent training, over all restarts.
        best_nats: lowest validation nats so far.
        best_epoch: its epoch (0: none yet).
        validations_since_best: for early stopping.
        stopped: early stopping has ended the training.
        history: one record per finished epoch.
        world: number of workers.
        precision: of the steps; None before the first one.
    """

    epoch: int = 0
    step: int = 0
    steps_in_epoch: int = 0
    rows_in_epoch: int = 0
    loss_in_epoch: float = 0.0
    seconds: float = 0.0
    best_nats: float = float("inf")
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
        """Count a validation; return whether it is the best so far.

        Arguments:
            nats: of the validation.
            patience: validations without a new best after which the training has stopped.
        """
        if nats < self.best_nats:
            self.best_nats, self.best_epoch = nats, self.epoch
            self.validations_since_best = 0
            return True
        self.validations_since_best += 1
        self.stopped = patience is not None and self.validations_since_best >= patience
        return False

    def is_finished(self, max_epochs: int) -> bool:
        """Tell whether no step is left."""
        return self.stopped or self.epoch >= max_epochs

    def reports(self, max_epochs: int) -> Iterator[TrainingReport]:
        """Yield what was reported after each finished epoch."""
        finished = self.is_finished(max_epochs)
        for record in self.history:
            yield TrainingReport(record=record, finished=finished and record.epoch == self.epoch)

    def to_dict(self) -> dict[str, object]:
        """Return plain data."""
        return dataclasses.asdict(self) | {"history": [row.to_dict() for row in self.history]}

    @classmethod
    def from_dict(cls, plain: Mapping[str, object]) -> Progress:
        """Build from what `to_dict` returned.

        Raises:
            UserError: for a name or type that `to_dict` does not write.
        """
        return build(cls, plain, "progress")
