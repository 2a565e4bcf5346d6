"""The trials of a search, as their files have them, and which one is the best."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pipeline.core import storage
from pipeline.core.errors import UserError
from pipeline.core.records import Record, left_out
from pipeline.training.training_records import EpochRecord, TrainingReport

STATUSES = ("finished", "stopped", "failed", "unfinished")


@dataclass(frozen=True, kw_only=True)
class TrialRecord(Record):
    """A trial of a search.

    Attributes:
        number: from 1, in the order of their creation.
        status: finished (all its epochs), stopped (early, by the scheduler or the time budget),
            failed (see problem), or unfinished (it runs, or the search was interrupted).
        values: by parameter name.
        history: its finished epochs.
        problem: why it failed, in one line.
        lost: whether it failed with its process rather than by itself, so that it may be tried
            again.
        sampling_seconds: of drawing samples, where that is an objective too; None without.
        code_sha256: hash of the code that began it; None where that is not known.
    """

    number: int
    status: str
    values: Mapping[str, object]
    history: tuple[EpochRecord, ...] = ()
    problem: str = ""
    lost: bool = False
    sampling_seconds: float | None = left_out(None)
    code_sha256: str | None = left_out(None)

    @property
    def ended(self) -> bool:
        """Whether there is nothing left to train."""
        return self.status != "unfinished"

    @property
    def value(self) -> float:
        """Lowest validation nats, inf if it has none."""
        failed = self.status == "failed" or not self.history
        return math.inf if failed else self.history[-1].best_valid_nats

    @property
    def objectives(self) -> tuple[float, ...]:
        """The value, and the seconds of sampling if they are measured, inf if it has none."""
        if self.sampling_seconds is None:
            return (self.value,)
        return self.value, self.sampling_seconds

    @property
    def epochs(self) -> int:
        """Epochs that it trained; 0 if it failed."""
        return self.history[-1].epoch if self.history and self.status != "failed" else 0

    @property
    def seconds(self) -> float:
        """Seconds that it trained."""
        return round(self.history[-1].seconds, 1) if self.history else 0.0

    def reported(self, report: TrainingReport) -> TrialRecord:
        """Return the record after one more report; an epoch that is reported again counts once."""
        if report.record is None:
            return self
        newest = report.record
        if newest in self.history:
            return self
        before = tuple(row for row in self.history if row.epoch < newest.epoch)
        return dataclasses.replace(self, history=(*before, newest))


def best(table: Sequence[TrialRecord]) -> TrialRecord:
    """Return the trial of the lowest validation nats.

    Raises:
        UserError: if no trial has a finite value.
    """
    found = min(table, key=lambda row: row.value, default=None)
    if found is None or not math.isfinite(found.value):
        problems = sorted({row.problem for row in table if row.problem})
        why = "; ".join(problems) or "they were stopped before"
        raise UserError(f"none of {len(table)} trials gave a finite validation value: {why}")
    return found


def checkpoints_of(place: str, number: int) -> str:
    """Return where the checkpoints of a trial are, in every attempt at it.

    Arguments:
        place: folder or URI of the search.
        number: of the trial.
    """
    return storage.join(place, f"train-{number:06d}")
