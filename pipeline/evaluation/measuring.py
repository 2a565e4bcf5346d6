"""Scoring the test split of a dataset under its protocol: the numbers of a result."""

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

import arcore
from arcore.events import Event, is_gray
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
    bound = None if source is None else torch.from_numpy(source[rows.numbers])
    if is_gray(event):
        bound = scoring.entropy_scores(event, rows)
    return Measured(
        nats=nats,
        seconds=seconds,
        score=rows.score(nats, event),
        mean_size=rows.mean_size(event),
        excess=None if bound is None else _excess(rows, nats, bound, event),
        member=_member(each) if each.shape[1] > 1 else None,
        importance=_importance(model, rows, plan, nats),
        bound=_bound(model, rows),
    )


def _excess(rows: ChosenRows, nats: Tensor, bound: Tensor, event: Event) -> Excess:
    above, error = mean_and_error(nats - bound)
    return Excess(
        entropy_nats=mean_and_error(bound)[0],
        excess_nats=above,
        excess_nats_stderr=error,
        excess_bits_per_dim_stderr=rows.bits_stderr(nats - bound, event),
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
