"""Scoring rows of a split with a model: members, importance samples, bounds, means and errors."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

import arcore
from arcore.events import Event, Gray, after_frames, is_gray, is_table
from arcore.inference import latent_levels
from arcore.primitives.progress import progress_bar
from arcore.units import nats_to_bits_per_dim
from pipeline.data import sound_batches
from pipeline.data.batches import Batch
from pipeline.data.shard_reader import Split, draw_events
from pipeline.datasets.read_transforms import choose_rows
from pipeline.evaluation.result_records import Score
from pipeline.experiments.schema import EvaluationConfig
from pipeline.training.validation import rows_at_once


@dataclass(frozen=True)
class ChosenRows:
    """Rows of a split that are scored.

    Attributes:
        split: one that is drawn when read has one fixed draw (epoch 0, seed 0).
        numbers: of the rows, (rows,) int64.
        batch_size: rows scored at once; of large events no more than in validation.
        context_frames: of clips, the first frames, which are given; those after them are scored.
    """

    split: Split
    numbers: np.ndarray
    batch_size: int
    context_frames: int = 0

    @classmethod
    def of(
        cls,
        split: Split,
        batch_size: int = EvaluationConfig.batch_size,
        count: int | None = None,
        seed: int = 0,
        context_frames: int = 0,
    ) -> ChosenRows:
        """Choose at most `count` rows, a random subset that the seed names, ascending; or all."""
        return cls(split, choose_rows(len(split), count, seed), batch_size, context_frames)

    @classmethod
    def under(cls, plan: EvaluationConfig, split: Split, context_frames: int) -> ChosenRows:
        """Choose the rows that an evaluation scores."""
        return cls.of(split, plan.batch_size, plan.num_test_rows, plan.seed, context_frames)

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self.numbers)

    @property
    def lengths(self) -> np.ndarray:
        """The samples of each row of a split of sounds, (rows,) int64."""
        return np.asarray(sound_batches.lengths(self.split.whole())[self.numbers])

    def has_holes(self, event: Event) -> bool:
        """Whether cells of a table are missing."""
        if not is_table(event):
            return False
        places = self.batch_places(event)
        return any(bool(np.isnan(self.split[self.numbers[part]].x).any()) for part in places)

    def events(self, event: Event) -> np.ndarray:
        """Return the rows in their fixed draw, (rows, *event.shape)."""
        return draw_events(self.split, self.split[self.numbers], self.numbers, event)

    def read(self, model: arcore.AutoregressiveModel) -> Batch:
        """Read the rows as one batch on a model's device."""
        if model.event.is_open:
            sounds = sound_batches.whole_rows(model, self.split.whole(), self.numbers)
            return sounds.to(model.device)
        stored, given = self.split[self.numbers], self.context_frames
        condition = scored = None
        x = torch.from_numpy(draw_events(self.split, stored, self.numbers, model.event))
        if model.condition_kind is not None:
            assert stored.labels is not None  # as training checked against the manifest
            condition = torch.from_numpy(stored.labels).to(model.device)
        if given:
            scored = torch.tensor([given, x.shape[1]]).expand(len(x), 2)
        return Batch(x.to(model.device), condition, scored, len(x))

    def part(self, places: np.ndarray) -> ChosenRows:
        """Return the rows at some places among these."""
        return replace(self, numbers=self.numbers[places])

    def mean_size(self, event: Event) -> float | None:
        """Return the mean dimensions of rows of an event; None where all have as many."""
        if not event.is_open:
            return None
        return float(torch.from_numpy(self.lengths).double().mean()) * event.size_of_step

    def bits_stderr(self, nats: Tensor, event: Event) -> float:
        """Return the standard error of the bits/dim of the rows: of open events of a ratio."""
        size = self.mean_size(event)
        if size is not None:
            sizes = torch.from_numpy(self.lengths) * event.size_of_step
            nats = nats - nats.mean() / size * sizes
        scored, error = after_frames(event, self.context_frames), mean_and_error(nats)[1]
        return nats_to_bits_per_dim(error, scored, difference=True, size=size)

    def score(self, nats: Tensor, event: Event, *, difference: bool = False) -> Score:
        """Return the score of the rows by their nats, or by such differences of them."""
        mean, error = mean_and_error(nats)
        scored, size = after_frames(event, self.context_frames), self.mean_size(event)
        return Score(
            nats=mean,
            nats_stderr=error,
            bits_per_dim=nats_to_bits_per_dim(mean, scored, difference=difference, size=size),
            bits_per_dim_stderr=self.bits_stderr(nats, event),
        )

    def batch_places(self, event: Event) -> list[np.ndarray]:
        """Return the places, among these rows, of the rows of each batch that is scored.

        Memory that was enough in validation is enough here.
        """
        if event.is_open:
            return list(sound_batches.padded_batches(self.lengths, self.batch_size))
        size = rows_at_once(event, self.batch_size)
        return np.split(np.arange(len(self)), range(size, len(self), size))


def scores(model: arcore.AutoregressiveModel, rows: ChosenRows) -> Tensor:
    """Score rows, -ln p(x) in nats, (rows,) float64; after given frames teacher-forced."""
    return mixture(member_scores(model, rows))


def member_scores(model: arcore.AutoregressiveModel, rows: ChosenRows) -> Tensor:
    """Score rows as `scores` does by each member of an ensemble, (rows, members) float64.

    Of a table with missing cells, the known ones: the mixture is the only member then.
    """
    if rows.has_holes(model.event):
        return score_batches(
            model, rows, lambda batch, _: -log_marginal(model, batch.x, batch.condition)
        )[:, None]
    return score_batches(
        model,
        rows,
        lambda batch, _: -model.member_log_probs(batch.x, batch.condition, batch.scored),
    )


def log_marginal(model: arcore.AutoregressiveModel, x: Tensor, condition: Tensor | None) -> Tensor:
    """Return ln p of the known cells of rows of a table, NaN where one is missing, (rows,)."""
    known = ~x.isnan()
    return model.log_marginal(torch.where(known, x, 0), known, condition)


def score_batches(
    model: arcore.AutoregressiveModel,
    rows: ChosenRows,
    score: Callable[[Batch, np.ndarray], Tensor],
) -> Tensor:
    """Score rows batch by batch, given their numbers too, (rows, ...) float64 on the CPU."""
    parts, places = [], []
    for place, batch in read_batches(model, rows):
        with torch.no_grad():
            parts.append(score(batch, rows.numbers[place]).double().cpu())
        places.append(place)
    return in_order(parts, places)


def in_order(parts: Sequence[Tensor], places: Sequence[np.ndarray]) -> Tensor:
    """Put the scores of batches together, by the places of their rows among those chosen."""
    return torch.cat(list(parts))[torch.from_numpy(np.concatenate(places)).argsort()]


def importance_scores(
    model: arcore.AutoregressiveModel, rows: ChosenRows, plan: EvaluationConfig
) -> tuple[Tensor, Tensor]:
    """Estimate -ln p(x) in nats by importance samples, for at most `plan.importance_rows` rows.

    They are a random subset of the rows, whose places among these are returned too. What is drawn
    for a row is decided by the seed and the row alone.
    """
    generator = torch.Generator(model.device)

    def nats(batch: Batch, numbers: np.ndarray) -> Tensor:
        parts = []
        for at, row in enumerate(numbers.tolist()):
            (seed,) = np.random.SeedSequence([plan.seed, row]).generate_state(1)
            generator.manual_seed(int(seed))
            one = slice(at, at + 1)
            given = None if batch.condition is None else batch.condition[one]
            parts.append(
                model.importance_weighted(batch.x[one], plan.importance_samples, given, generator)
            )
        return -torch.cat(parts)

    places = choose_rows(len(rows), plan.importance_rows, plan.seed)
    return score_batches(model, rows.part(places), nats), torch.from_numpy(places)


def bound_scores(
    model: arcore.AutoregressiveModel, rows: ChosenRows
) -> tuple[Tensor, tuple[tuple[int, int], ...]]:
    """Score each level of noise of a model with latents, under the noise of its `log_prob`.

    Returns (rows, levels) float64 nats, whose sums are `scores`; and for each level of
    latents the units in use and all of them.
    """
    means = []

    def nats(batch: Batch, _: np.ndarray) -> Tensor:
        means.append(latent_levels.posterior_means(model, batch.x, batch.condition))
        return latent_levels.bound_terms(model, batch.x, batch.condition)

    return score_batches(model, rows, nats), latent_levels.units_in_use(means)


def read_batches(
    model: arcore.AutoregressiveModel, rows: ChosenRows
) -> Iterator[tuple[np.ndarray, Batch]]:
    """Read rows in batches on the model's device, each with its places among them."""
    with progress_bar(sys.stderr.isatty(), len(rows), "scoring") as advance:
        for place in rows.batch_places(model.event):
            yield place, rows.part(place).read(model)
            advance(len(place))


def entropy_scores(event: Gray, rows: ChosenRows) -> Tensor:
    """Return the least nats that any model can have on the targets of rows, (rows,) float64."""
    scored = after_frames(event, rows.context_frames)
    assert is_gray(scored)
    count = max(1, math.ceil(len(rows) / rows.batch_size))
    parts = [
        scored.entropy(torch.from_numpy(rows.part(place).events(event))[:, rows.context_frames :])
        for place in np.array_split(np.arange(len(rows)), count)
    ]
    return torch.cat(parts)


def mixture(nats: Tensor) -> Tensor:
    """Average the probabilities of members: (rows, members) nats to the mixture's, (rows,)."""
    return math.log(nats.shape[1]) - torch.logsumexp(-nats, 1)


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
