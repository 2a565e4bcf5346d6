"""Scoring the test split of a dataset under its protocol: the numbers of a result."""

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

import arcore
from arcore.events import Event, after_frames, is_gray
from arcore.units import nats_to_bits_per_dim
from pipeline.evaluation import scoring
from pipeline.evaluation.result_records import (
    BoundTerms,
    Excess,
    ImportanceEstimate,
    MemberScore,
    Score,
)
from pipeline.evaluation.scoring import ChosenRows, mean_and_error
from pipeline.experiments.schema import EvaluationConfig


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What the chosen rows score, in `seconds`: nats of each, and fields of a `Result`."""

    nats: Tensor
    seconds: float
    score: Score
    mean_size: float | None
    excess: Excess | None
    member: MemberScore | None
    importance: ImportanceEstimate | None
    bound: BoundTerms | None


@dataclass(frozen=True)
class ScoredRows:
    """Rows of an event that were scored; `lengths` (rows,) are of an event of open length.

    Errors in bits are then those of a ratio of sums.
    """

    event: Event
    lengths: Tensor | None

    @property
    def mean_size(self) -> float | None:
        """The mean length; None where all events have one."""
        return None if self.lengths is None else float(self.lengths.double().mean())

    def stderr(self, nats: Tensor) -> float:
        """Return the standard error of the bits/dim of rows of so many nats."""
        size = self.mean_size
        if self.lengths is not None and size is not None:
            nats = nats - nats.mean() / size * self.lengths
        spread = mean_and_error(nats)[1]
        return nats_to_bits_per_dim(spread, self.event, difference=True, size=size)

    def score(self, nats: Tensor, *, difference: bool = False) -> Score:
        """Return the score of rows of so many nats, or of such differences of them."""
        mean, error = mean_and_error(nats)
        size = self.mean_size
        return Score(
            nats=mean,
            nats_stderr=error,
            bits_per_dim=nats_to_bits_per_dim(mean, self.event, difference=difference, size=size),
            bits_per_dim_stderr=self.stderr(nats),
        )


def scored_rows(rows: ChosenRows, event: Event) -> ScoredRows:
    """Return rows of an event, for their score."""
    lengths = torch.from_numpy(rows.lengths) if event.is_open else None
    return ScoredRows(after_frames(event, rows.context_frames), lengths)


def measure(
    model: arcore.AutoregressiveModel,
    rows: ChosenRows,
    event: Event,
    plan: EvaluationConfig,
    by_member: Callable[[], Tensor],
    source: np.ndarray | None = None,
) -> Measured:
    """Score rows by a model, or by an ensemble's members and their mixture.

    Arguments:
        event: of the rows, as the dataset has it.
        by_member: gives the nats of these rows by each member, (rows, members).
        source: nats of each row of the split under what drew them, where that is known.
    """
    began = time.perf_counter()
    each = by_member()
    nats = scoring.mixture(each)
    seconds = time.perf_counter() - began
    scored = scored_rows(rows, event)
    bound = None if source is None else torch.from_numpy(source[rows.numbers])
    if is_gray(event):
        bound = scoring.entropy_scores(event, rows)
    return Measured(
        nats=nats,
        seconds=seconds,
        score=scored.score(nats),
        mean_size=scored.mean_size,
        excess=None if bound is None else _excess(nats, bound, scored),
        member=_member(each) if each.shape[1] > 1 else None,
        importance=_importance(model, rows, plan, nats),
        bound=_bound(model, rows),
    )


def _excess(nats: Tensor, bound: Tensor, rows: ScoredRows) -> Excess:
    above, error = mean_and_error(nats - bound)
    return Excess(
        entropy_nats=mean_and_error(bound)[0],
        excess_nats=above,
        excess_nats_stderr=error,
        excess_bits_per_dim_stderr=rows.stderr(nats - bound),
    )


def _member(by_member: Tensor) -> MemberScore:
    mean, error = mean_and_error(by_member.mean(1))
    return MemberScore(member_nats=mean, member_nats_stderr=error)


def _importance(
    model: arcore.AutoregressiveModel, rows: ChosenRows, plan: EvaluationConfig, bounds: Tensor
) -> ImportanceEstimate | None:
    if not (model.latent_levels and plan.importance_samples):
        return None
    estimates, places = scoring.importance_scores(model, rows, plan)
    mean, error = scoring.difference_estimate(bounds, estimates, places)
    return ImportanceEstimate(
        nats_importance_weighted=mean,
        nats_importance_weighted_stderr=error,
        importance_samples=plan.importance_samples,
        importance_rows=len(estimates),
    )


def _bound(model: arcore.AutoregressiveModel, rows: ChosenRows) -> BoundTerms | None:
    levels = model.latent_levels
    if not levels:
        return None
    terms, units = scoring.bound_scores(model, rows)
    return BoundTerms(
        level_nats=dict(zip(levels, terms.mean(0).tolist(), strict=True)),
        active_units={name: used for name, (used, _) in zip(levels, units, strict=False)},
        level_units={name: count for name, (_, count) in zip(levels, units, strict=False)},
    )
