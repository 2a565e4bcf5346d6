"""What a result has beside a score: excess, members, bounds, coded size, and samples."""

import time
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

import arcore
from arcore import coding
from arcore.conditions import Map, Vector
from arcore.events import Event, is_gray
from pipeline.core.errors import UserError, explained, require
from pipeline.data import sound_batches
from pipeline.evaluation import scoring
from pipeline.evaluation.result_records import (
    BoundTerms,
    Coded,
    Excess,
    ImportanceEstimate,
    MemberScore,
)
from pipeline.evaluation.scoring import ChosenRows, mean_and_error
from pipeline.experiments.schema import EvaluationConfig


def excess(
    rows: ChosenRows, nats: Tensor, event: Event, source: np.ndarray | None
) -> Excess | None:
    """Return how far rows are above what gray targets, or a known source, allow; None without.

    `source` are the nats of each row of the split under what drew them.
    """
    if is_gray(event):
        least = scoring.entropy_scores(event, rows)
    elif source is None:
        return None
    else:
        least = torch.from_numpy(source[rows.numbers])
    above, error = mean_and_error(nats - least)
    return Excess(
        entropy_nats=mean_and_error(least)[0],
        excess_nats=above,
        excess_nats_stderr=error,
        excess_bits_per_dim_stderr=rows.bits_stderr(nats - least, event),
    )


def member(by_member: Tensor) -> MemberScore | None:
    """Return what a member of an ensemble scores, of (rows, members) nats; None of one model."""
    if by_member.shape[1] == 1:
        return None
    mean, error = mean_and_error(by_member.mean(1))
    return MemberScore(member_nats=mean, member_nats_stderr=error)


def importance(
    model: arcore.AutoregressiveModel, rows: ChosenRows, plan: EvaluationConfig, bounds: Tensor
) -> ImportanceEstimate | None:
    """Return the importance-weighted estimate that goes with the bounds of rows, (rows,) nats."""
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


def bound(model: arcore.AutoregressiveModel, rows: ChosenRows) -> BoundTerms | None:
    """Return what each level of noise costs; None for a model without latents."""
    levels = model.latent_levels
    if not levels:
        return None
    terms, units = scoring.bound_scores(model, rows)
    return BoundTerms(
        level_nats=dict(zip(levels, terms.mean(0).tolist(), strict=True)),
        active_units={name: used for name, (used, _) in zip(levels, units, strict=False)},
        level_units={name: count for name, (_, count) in zip(levels, units, strict=False)},
    )


def check_coding(model: arcore.AutoregressiveModel, context_frames: int, name: str) -> None:
    """Refuse a bound, an ensemble, reals, or given frames before anything is scored."""
    if context_frames:
        raise UserError(f"{name}: evaluation.coded: expected false for given frames, got true")
    with explained(f"{name}: evaluation.coded:", ValueError):
        coding.check_model(model)


def coded(model: arcore.AutoregressiveModel, rows: ChosenRows, name: str) -> Coded:
    """Compress rows of a split as one stream, decompress them and compare."""
    x, condition, options = _to_code(model, rows)
    with explained(f"{name}: evaluation.coded:", ValueError):  # of what it decodes among them
        began = time.perf_counter()
        data = coding.compress(model, x, condition, verify=False, **options)
        seconds = time.perf_counter() - began
        fits = torch.equal(coding.decompress(model, data, condition), x.long())
    require(fits, f"{name}: evaluation.coded", "the levels that were coded", "others")
    return Coded(coded_bytes=len(data), coded_seconds=round(seconds, 2))


def _to_code(
    model: arcore.AutoregressiveModel, rows: ChosenRows
) -> tuple[Tensor, Tensor | None, dict[str, Any]]:
    """Read rows, what they are given, and for sounds their lengths; the longest sounds first."""
    if not model.event.is_open:
        batch = rows.read(model)
        return batch.x, batch.condition, {}
    rows, sounds = rows.part(np.argsort(-rows.lengths, kind="stable")), rows.split.whole()
    twin, condition = sound_batches.to_sample(model, sounds, rows.numbers)
    longest = twin.event.extents[0]
    x = torch.from_numpy(sounds.x[rows.numbers, :longest])
    lengths = torch.from_numpy(rows.lengths)
    padding = torch.arange(longest) >= lengths[:, None]
    x = x.masked_fill(padding.view(*padding.shape, *[1] * (x.dim() - 2)), 0)
    return x.to(model.device), condition, {"lengths": lengths}


def drawn(
    model: arcore.AutoregressiveModel,
    plan: EvaluationConfig,
    shown: ChosenRows,
) -> tuple[np.ndarray, float]:
    """Sample events; return the seconds that it took too.

    Sounds have the lengths, speakers and texts of the test rows shown, clips go on from these rows'
    first frames, and other events have these rows' vectors or maps, or are of each class in turn.
    """
    generator = torch.Generator(model.device).manual_seed(plan.seed)
    if model.event.is_open:
        twin, condition = sound_batches.to_sample(model, shown.split.whole(), shown.numbers)
        run = partial(twin.sample, len(shown), condition, generator)
    elif shown.context_frames:
        real = shown.read(model)
        observed = torch.zeros(model.event.extents, dtype=torch.bool, device=model.device)
        observed[: shown.context_frames] = True
        run = partial(model.impute, real.x, observed, real.condition, generator)
    elif isinstance(model.condition_kind, Vector | Map):
        run = partial(model.sample, len(shown), shown.read(model).condition, generator)
    else:
        count, classes = plan.num_samples, None
        if model.num_classes is not None:
            classes = torch.arange(count, device=model.device) % model.num_classes
        run = partial(model.sample, count, classes, generator)
    began = time.perf_counter()
    events: Tensor = run()
    return events.cpu().numpy(), time.perf_counter() - began
