"""The trials of a search: as Ray Tune shows them, as rows of our table, and which is the best."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import pyarrow.fs

from pipeline.core.errors import UserError

STATUSES = ("finished", "stopped", "failed", "unfinished")
NUMBER, CHECKPOINT = "number", "checkpoint"  # keys of a trial's configuration beside its values


class TrialStorage(Protocol):
    """Where Ray Tune keeps a trial.

    Attributes:
        storage_filesystem: the file system.
        trial_fs_path: folder of the trial.
    """

    storage_filesystem: pyarrow.fs.FileSystem
    trial_fs_path: str


class RayTrial(Protocol):
    """What is used of a trial of Ray Tune.

    Attributes:
        status: PENDING, RUNNING, PAUSED, TERMINATED or ERROR.
        config: what the trial was started with: its number and the drawn values by name.
        last_result: metrics of the last report.
        error_file: a text on this machine that ends in the last error; None without.
        storage: where its checkpoints are.
    """

    status: str
    config: Mapping[str, str | float]
    last_result: Mapping[str, object]
    error_file: str | None
    storage: TrialStorage


@dataclass(frozen=True)
class Trial:
    """A trial of a search.

    Attributes:
        number: from 1, in the order of their making.
        status: finished (all its epochs), stopped (early, by the scheduler or the time budget),
            failed (see problem), or unfinished (the search was interrupted).
        epochs: that it trained.
        value: lowest validation nats, inf if it has none.
        seconds: that it trained.
        values: by parameter name.
        curve: (epoch, lowest validation nats so far).
        problem: why it failed, in one line.
        sampling_seconds: of drawing samples, where that is an objective too; None without.
    """

    number: int
    status: str
    epochs: int
    value: float
    seconds: float
    values: Mapping[str, object]
    curve: Sequence[tuple[int, float]] = field(default=(), repr=False)
    problem: str = ""
    sampling_seconds: float | None = None


def number(trial: RayTrial) -> int:
    """Return a trial's number, from 1 in the order of their making."""
    return int(trial.config[NUMBER])


def best(table: Sequence[Trial]) -> Trial:
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
