"""Scoring rows of a split with a model: members, importance samples, bounds, means and errors."""

import math
import sys
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

import arcore
from arcore.inference import latent_levels
from arcore.primitives.progress import progress_bar
from pipeline.data import sound_batches
from pipeline.data.batches import Batch
from pipeline.data.shard_reader import Split, draw_events
from pipeline.datasets.base import SplitData
from pipeline.datasets.read_transforms import choose_rows
from pipeline.experiments.schema import EvaluationConfig
from pipeline.training.validation import most_rows


def scores(
    model: arcore.AutoregressiveModel,
    split: Split,
    batch_size: int,
    chosen: np.ndarray | None = None,
    context_frames: int = 0,
) -> Tensor:
    """Score rows of a split, all or those chosen, -ln p(x) in nats, (rows,) float64.

    A split that is drawn when read has one fixed draw (epoch 0, seed 0). Of clips whose first
    frames are given, the frames after them are scored, teacher-forced.
    """
    return mixture(member_scores(model, split, batch_size, chosen, context_frames))


def member_scores(
    model: arcore.AutoregressiveModel,
    split: Split,
    batch_size: int,
    chosen: np.ndarray | None = None,
    context_frames: int = 0,
) -> Tensor:
    """Score rows as `scores` does by each member of an ensemble, (rows, members) float64."""
    parts, places = [], []
    chosen = np.arange(len(split)) if chosen is None else chosen
    for place, batch in read_batches(model, split, batch_size, chosen, context_frames):
        with torch.no_grad():
            nats = -model.member_log_probs(batch.x, batch.condition, batch.scored)
        parts.append(nats.double().cpu())
        places.append(place)
    return in_order(parts, places)


def in_order(parts: Sequence[Tensor], places: Sequence[np.ndarray]) -> Tensor:
    """Put the scores of batches together, by the places of their rows among those chosen."""
    return torch.cat(list(parts))[torch.from_numpy(np.concatenate(places)).argsort()]


def batch_places(
    event: arcore.events.Event, split: Split, batch_size: int, chosen: np.ndarray
) -> list[np.ndarray]:
    """Return the places, among the chosen rows, of the rows of each batch that is scored.

    Large events come in smaller batches, as in validation: memory that was enough there is here.
    """
    if event.is_open:
        lengths = sound_batches.lengths(split.whole())
        return list(sound_batches.padded_batches(lengths[chosen], batch_size))
    batch_size = min(batch_size, most_rows(event))
    return np.split(np.arange(len(chosen)), range(batch_size, len(chosen), batch_size))


def importance_scores(
    model: arcore.AutoregressiveModel, split: Split, plan: EvaluationConfig, chosen: np.ndarray
) -> tuple[Tensor, Tensor]:
    """Estimate -ln p(x) in nats by importance samples, for at most `plan.importance_rows` rows.

    They are a random subset of the rows chosen, whose places among these are returned too. What is
    drawn for a row is decided by the seed and the row alone.
    """
    count = min(plan.importance_rows, len(chosen))
    places = choose_rows(len(chosen), count, plan.seed)
    generator = torch.Generator(model.device)
    parts, order = [], []
    for place, batch in read_batches(model, split, plan.batch_size, chosen[places]):
        for number, row in enumerate(chosen[places][place].tolist()):
            (seed,) = np.random.SeedSequence([plan.seed, row]).generate_state(1)
            generator.manual_seed(int(seed))
            one = slice(number, number + 1)
            given = None if batch.condition is None else batch.condition[one]
            scored = model.importance_weighted(
                batch.x[one], plan.importance_samples, given, generator
            )
            parts.append(-scored.cpu().double())
        order.append(place)
    return in_order(parts, order), torch.from_numpy(places)


def bound_scores(
    model: arcore.AutoregressiveModel, split: Split, batch_size: int, chosen: np.ndarray
) -> tuple[Tensor, tuple[tuple[int, int], ...]]:
    """Score each level of noise of a model with latents, under the noise of its `log_prob`.

    Returns (rows, levels) float64 nats, of which `scores` are the sums; and for each level of
    latents the units in use and all of them.
    """
    terms, means = [], []
    for _, batch in read_batches(model, split, batch_size, chosen):
        terms.append(latent_levels.bound_terms(model, batch.x, batch.condition).cpu())
        means.append(latent_levels.posterior_means(model, batch.x, batch.condition))
    return torch.cat(terms).double(), latent_levels.units_in_use(means)


def read_batches(
    model: arcore.AutoregressiveModel,
    split: Split,
    batch_size: int,
    chosen: np.ndarray,
    context_frames: int = 0,
) -> Iterator[tuple[np.ndarray, Batch]]:
    """Read chosen rows in batches on the model's device, each with its places among them."""
    with progress_bar(sys.stderr.isatty(), len(chosen), "scoring") as advance:
        for place, batch in _read(model, split, batch_size, chosen, context_frames):
            yield place, batch
            advance(len(place))


def _read(
    model: arcore.AutoregressiveModel,
    split: Split,
    batch_size: int,
    chosen: np.ndarray,
    context_frames: int,
) -> Iterator[tuple[np.ndarray, Batch]]:
    if model.event.is_open:
        for place, batch in sound_batches.whole_rows(model, split.whole(), batch_size, chosen):
            yield place, batch.to(model.device)
        return
    for place in batch_places(model.event, split, batch_size, chosen):
        rows = chosen[place]
        stored = split[rows]
        x = draw_events(split, stored, rows, model.event)
        condition = condition_of(model, stored)
        scored = None
        if context_frames:
            scored = torch.tensor([context_frames, x.shape[1]]).expand(len(x), 2)
        yield place, Batch(torch.from_numpy(x).to(model.device), condition, scored, len(rows))


def condition_of(model: arcore.AutoregressiveModel, stored: SplitData) -> Tensor | None:
    """Return what rows come with, as a model's condition on its device; None without one."""
    if model.condition_kind is None:
        return None
    assert stored.labels is not None  # as training checked against the manifest
    return torch.from_numpy(stored.labels).to(model.device)


def read_rows(split: Split, rows: np.ndarray, event: arcore.events.Event) -> np.ndarray:
    """Return events of a split in their fixed draw, (len(rows), *event.shape)."""
    return draw_events(split, split[rows], rows, event)


def entropy_scores(
    split: Split,
    event: arcore.events.Gray,
    batch_size: int,
    chosen: np.ndarray,
    context_frames: int,
) -> Tensor:
    """Return the least nats that any model can have on the targets of rows, (rows,) float64."""
    scored = arcore.events.after_frames(event, context_frames)
    assert arcore.events.is_gray(scored)
    parts = [
        scored.entropy(torch.from_numpy(read_rows(split, rows, event))[:, context_frames:])
        for rows in np.array_split(chosen, max(1, math.ceil(len(chosen) / batch_size)))
    ]
    return torch.cat(parts)


def mixture(nats: Tensor) -> Tensor:
    """Average the probabilities of members: (rows, members) nats to the mixture's, (rows,)."""
    return math.log(nats.shape[1]) - torch.logsumexp(-nats, 1)


def choose(split: Split, plan: EvaluationConfig) -> np.ndarray:
    """Return the rows of a split that are scored, ascending: all, or a subset that `seed` names."""
    count = len(split) if plan.num_test_rows is None else min(plan.num_test_rows, len(split))
    return choose_rows(len(split), count, plan.seed)


def difference_estimate(known: Tensor, few: Tensor, places: Tensor) -> tuple[float, float]:
    """Estimate the mean over all rows of what is measured for a few, and its standard error.

        mean_all(known) + mean_few(few - known),

    a control variate (Owen 2013, section 8.9, with a coefficient of one). `few` are of a random
    subset of at least two rows, at `places` among them.
    """
    beside = known[places]
    rest, (mean, error) = few - beside, mean_and_error(known)
    more, spread = mean_and_error(rest)
    shared = float(torch.cov(torch.stack([beside, rest]))[0, 1]) / len(known)
    variance = error**2 + spread**2 + 2 * shared
    return mean + more, math.sqrt(max(variance, 0.0))  # NaN of one row stays


def mean_and_error(nats: Tensor) -> tuple[float, float]:
    """Return the mean and its standard error, std / sqrt(N)."""
    error = float(nats.std(correction=1)) / math.sqrt(len(nats)) if len(nats) > 1 else math.nan
    return float(nats.mean()), error
