"""Paired differences: what a model gains over others, each scored on the same test rows."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from torch import Tensor

from arcore.events import is_levels
from pipeline.core import paths
from pipeline.core.errors import UserError, require
from pipeline.data.shard_reader import ShardReader, Split
from pipeline.datasets.read_transforms import choose_rows
from pipeline.evaluation import measuring, scoring
from pipeline.uses import subject as subjects
from pipeline.uses.outcome import Outcome, mean_of
from pipeline.uses.records import Number
from pipeline.uses.subject import Subject

BATCH, SOUNDS_AT_ONCE = 500, 10


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Settings of paired.

    Arguments:
        others: experiments on the same data, whose models are scored as they are: one ordering of
            an orderless one, the bound of one with latents.
        num_rows: random rows of each test split; null for all.
        seed: of these rows.
    """

    others: list[str]
    num_rows: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        require(len(self.others) >= 1, "others", "an experiment or more", self.others)
        rows = self.num_rows
        require(rows is None or rows >= 2, "num_rows", "an integer >= 2 or null", rows)


def run(subject: Subject, settings: Settings, folder: Path) -> Outcome:
    """Score the rows of each test split by all models, and compare row by row."""
    alone = len(settings.others) == len({subject.experiment, *settings.others}) - 1
    expected = f"different experiments, none of them {subject.experiment}"
    require(alone, "others", expected, settings.others)
    others = [_other(subject, name) for name in settings.others]
    numbers: list[Number] = []
    counts = []
    for split in ("test", *subject.manifest.further_tests):
        test = ShardReader(paths.shards(subject.dataset), split)
        count = len(test) if settings.num_rows is None else min(settings.num_rows, len(test))
        chosen = choose_rows(len(test), count, settings.seed)
        ours = _nats(subject, test, chosen)
        counts.append(f"{count:,} rows of {split}")
        for other in others:
            where = f"over {other.experiment}" + ("" if split == "test" else f", {split}")
            apart = _nats(other, test, chosen) - ours
            numbers += _numbers(subject, where, apart, test, chosen)
    notes = (
        f"Another model's score less this one's on the same {' and '.join(counts)}: above 0, this "
        "one is better. Errors are of the differences over rows; each model is one training."
    )
    if bounded := [one.experiment for one in (subject, *others) if not one.model.exact]:
        notes += f" Of {' and '.join(bounded)} a bound is compared."
    return Outcome(
        numbers, [], notes, others={one.experiment: one.trained.weights_sha256 for one in others}
    )


def _other(subject: Subject, name: str) -> Subject:
    other = subjects.load(name)
    if other.manifest.sha256 != subject.manifest.sha256:
        expected = f"{subject.dataset}, as of {subject.experiment}"
        raise UserError(f"{name}: expected a model of {expected}, got one of {other.dataset}")
    return other


def _nats(subject: Subject, test: Split, chosen: np.ndarray) -> Tensor:
    event, context = subject.model.event, subject.manifest.context_frames
    batch = BATCH
    if is_levels(event):
        batch = SOUNDS_AT_ONCE if event.is_open else min(BATCH, subjects.rows_at_once(event))
    return scoring.scores(subject.model, test, batch, chosen, context)


def _numbers(
    subject: Subject, where: str, apart: Tensor, test: Split, chosen: np.ndarray
) -> list[Number]:
    """Return the mean difference in the dataset's unit, and how often it is above 0."""
    rows = measuring.scored_rows(test, chosen, subject.manifest)
    score, unit = rows.score(apart, difference=True), subject.manifest.unit
    word = "bits/sample" if rows.event.is_open else unit.replace("_per_", "/")
    gain = Number(
        name=f"{where}: gain",
        value=score.value_in(unit, rows.event),
        stderr=score.stderr_in(unit, rows.event),
        unit=word,
    )
    return [gain, mean_of(f"{where}: ahead on", (apart > 0).double(), "of rows")]
