"""The trials of a search: as Ray Tune keeps them, and as rows of our table."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import pyarrow.fs

from pipeline.core import private_apis
from pipeline.core.errors import UserError
from pipeline.search.spec import Search
from pipeline.training.records import BEST, TIME, TrainingReport

STATUSES = ("finished", "stopped", "failed", "unfinished")


class TrialStorage(Protocol):
    """Where Ray Tune keeps a trial.

    Attributes:
        storage_filesystem: the file system.
        experiment_fs_path: folder of the search.
        trial_fs_path: folder of the trial.
    """

    storage_filesystem: pyarrow.fs.FileSystem
    experiment_fs_path: str
    trial_fs_path: str


class RayTrial(Protocol):
    """What is used of a trial of Ray Tune.

    Attributes:
        trial_id: of Ray Tune.
        experiment_tag: number and values.
        status: PENDING, RUNNING, PAUSED, TERMINATED or ERROR.
        config: drawn values by parameter name, as Ray Tune draws them.
        last_result: metrics of the last report.
        storage: where its checkpoints are.
    """

    trial_id: str
    experiment_tag: str
    status: str
    config: Mapping[str, str | float]
    last_result: Mapping[str, object]
    storage: TrialStorage


class RayResult(Protocol):
    """What is used of a result of Ray Tune; `metrics_dataframe` has a row a report."""

    error: Exception | None
    metrics_dataframe: Mapping[str, Iterable[float]] | None


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
    """

    number: int
    status: str
    epochs: int
    value: float
    seconds: float
    values: Mapping[str, object]
    curve: Sequence[tuple[int, float]] = field(default=(), repr=False)
    problem: str = ""


def read_trials(search: Search, results: Iterable[RayResult]) -> list[Trial]:
    """Read the trials of a search from Ray Tune's result grid, in the order of their making.

    A search that was interrupted terminates the trials that ran; see `mark_interrupted`.
    """
    pairs = zip(private_apis.trials_of(results), results, strict=True)
    table = [_read(search, trial, result) for trial, result in pairs]
    return sorted(table, key=lambda row: row.number)


def _read(search: Search, trial: RayTrial, result: RayResult) -> Trial:
    last = TrainingReport.from_dict(trial.last_result or {})
    value, problem = last.best_valid_nats, last.problem
    status = "finished" if last.finished else "stopped"
    if trial.status == "ERROR":
        problem = (str(result.error).strip().splitlines() or ["error"])[-1]
    if problem:
        status, value = "failed", math.inf
    elif trial.status != "TERMINATED" or is_interrupted(trial):
        status = "unfinished"
    return Trial(
        number=number(trial),
        status=status,
        epochs=0 if problem else last.epoch,
        value=value,
        seconds=0.0 if last.record is None else round(last.record.seconds, 1),
        values=values_of(search, trial),
        curve=_curve(result),
        problem=problem,
    )


def _curve(result: RayResult) -> list[tuple[int, float]]:
    frame = result.metrics_dataframe
    if frame is None or BEST not in frame:
        return []
    pairs = zip(frame[TIME], frame[BEST], strict=True)
    return [(int(epoch), float(nats)) for epoch, nats in pairs]


def number(trial: RayTrial) -> int:
    """Return a trial's number, from 1 in the order of their making."""
    # Ray Tune counts them in the tag, from 0 for a grid, whose ids have an underscore, else from 1.
    return int(str(trial.experiment_tag).partition("_")[0]) + ("_" in trial.trial_id)


def values_of(search: Search, trial: RayTrial) -> dict[str, object]:
    """Return a trial's values by parameter name."""
    return {p.name: p.decode(trial.config[p.name]) for p in search.space}


def mark_interrupted(trial: RayTrial, interrupted: bool) -> None:
    """Note whether an interruption ends a trial, which Ray Tune itself calls terminated then.

    On the trial, since a restored search has other callbacks than those that it was given.
    """
    vars(trial)["interrupted"] = interrupted


def is_interrupted(trial: RayTrial) -> bool:
    """Tell whether `mark_interrupted` said so."""
    return bool(vars(trial).get("interrupted"))


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
