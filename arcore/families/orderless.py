"""Orderless models: one network trained for every ordering, then scored exactly under any."""

import abc
import dataclasses
from collections.abc import Iterator
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor
from torch.distributions import Distribution

from arcore.decoding import Decoder
from arcore.distributions.drawing import SamplingOptions, draw
from arcore.events import Event, is_table
from arcore.families.any_order import AnyOrderModel
from arcore.hyperparameters import CheckedHyperparameters
from arcore.layers import level_features
from arcore.layers.incremental_mlp import ACTIVATIONS
from arcore.primitives.checks import require, require_scores
from arcore.primitives.masks import draw_masks
from arcore.primitives.precision import at_least_float32, summed
from arcore.primitives.row_noise import for_each_row


@dataclasses.dataclass(frozen=True, kw_only=True)
class OrderlessConfig(CheckedHyperparameters):
    """Hyperparameters that orderless models share.

    Arguments:
        hidden: units of each hidden layer of the dense network.
        activation: relu or tanh.
        dropout: probability of dropping a hidden unit in training.
        mask_inputs: tell the network which dimensions are observed, by a second input for each.
        ordering: a name of `arcore.orderings.ORDERINGS`, under which the model scores and samples
            (training takes all orderings alike); `ordering_seed` serves `random` and the members.
        num_orderings: orderings whose mixture is scored where an evaluation asks for all.
        inputs: scaled (one weight per dimension) or one_hot (one weight per level but the lowest).
        num_classes: classes of an optional condition, which shifts the first hidden layer and
            the outputs.
        condition_size: length of a vector that is the condition instead.
    """

    hidden: tuple[int, ...] = (500, 500)
    activation: str = "relu"
    dropout: float = 0.0
    mask_inputs: bool = True
    ordering: str = "random"
    ordering_seed: int = 0
    num_orderings: int = 1
    inputs: str = "scaled"
    num_classes: int | None = None
    condition_size: int | None = None

    @property
    def condition_rows(self) -> int | None:
        """Numbers of a condition: classes, or the length of a vector; None without one."""
        return self.num_classes or self.condition_size

    choices = {"activation": ACTIVATIONS}


class ObservedState(abc.ABC):
    """What an orderless model keeps of the observed dimensions, so that one more is cheap."""

    @abc.abstractmethod
    def observe(self, dimension: int, inputs: Tensor) -> None:
        """Observe one dimension, its inputs (batch, features); zeros leave it missing."""

    @abc.abstractmethod
    def logits(self, dimension: int) -> Tensor:
        """Return the logits of one dimension given those observed, (batch, logits)."""


VALIDATION_MASKS = 4  # masks per row of `validation_loss`
# Rows are scored in parts whose widest layer is no larger: by what a processor's cache holds, or by
# what an accelerator's memory does, on which each part costs all launches again.
FLOATS_AT_ONCE, FLOATS_ON_ACCELERATOR = 1 << 21, 1 << 26


class OrderlessModel(AnyOrderModel):
    """Base of models of every conditional p(x_i | x_O), i not in O, for all sets O at once.

    With a mask m of the observed dimensions, c = |m| of D, the network sees [x * m; m], and
    training minimises

        J(x) = D / (D - c) sum_{i: m_i = 0} -ln p(x_i | x_m, m),

    with c uniform on {0..D-1} and m uniform among the masks of c ones, drawn for each example: an
    unbiased estimate of -ln p(x) averaged over all D! orderings. Each ordering gives a joint
    distribution (`AnyOrderModel`). Scoring takes D steps.

    Since any set may be observed, `impute` draws the exact posterior of whatever is missing, and
    `log_marginal` scores any part of an event alone.

    A subclass defines `_logits`, `_observed_state` and `_width`, and calls `_rebuild` when built.

    Reference:
        Uria, Murray and Larochelle, "A Deep and Tractable Density Estimator", ICML 2014.
    """

    scores_in_autocast = False
    validation_is_estimate = True
    hyperparameters: OrderlessConfig

    def __init__(self, event: Event, hyperparameters: OrderlessConfig) -> None:
        super().__init__(event, hyperparameters)
        p = hyperparameters
        self.num_features = level_features.num_features(event, p.inputs) + p.mask_inputs
        self.num_logits = level_features.num_logits(event)
        self.num_members = p.num_orderings

    # -- the network

    @abc.abstractmethod
    def _logits(self, inputs: Tensor, condition: Tensor | None) -> Tensor:
        """Logits of all dimensions, (batch, D, logits), from inputs (batch, D, features)."""

    @abc.abstractmethod
    def _observed_state(self, batch: int, condition: Tensor | None) -> ObservedState:
        """The state in which nothing is observed yet."""

    @property
    @abc.abstractmethod
    def _width(self) -> int:
        """Floats per row of the widest layer."""

    @property
    def _rows_at_once(self) -> int:
        """Rows beyond which a longer part is scored no faster."""
        return FLOATS_AT_ONCE

    def _inputs(self, flat: Tensor, dimensions: Tensor | None = None) -> Tensor:
        """What a dimension shows where it is observed, (batch, D, features)."""
        p = self.hyperparameters
        features = level_features.encode(flat, self.event, p.inputs, self.dtype, dimensions)
        if p.mask_inputs:
            features = torch.cat([features, torch.ones_like(features[..., :1])], -1)
        return features

    def _distribution(self, logits: Tensor, dimension: int | None = None) -> Distribution:
        """Distributions of all dimensions (batch, D, logits), or of one of them."""
        return level_features.conditionals(logits, self.event, dimension)

    # -- training

    def _sample_training_noise(self, rows: int) -> Tensor:
        return draw_masks(rows, self.event.size, device=self.device)

    def forward(
        self, x: Tensor, condition: Tensor | None = None, scored: Tensor | None = None
    ) -> Tensor:
        """Return J(x), (batch,), in nats, under sampled masks or fresh ones.

        Of a table's row that is of its known cells; unknown ones are NaN.
        """
        self._check_shapes(x, condition, scored)
        observed = self._training_noise(len(x))
        return self._training_loss(x, observed, condition)

    def _training_loss(self, x: Tensor, observed: Tensor, condition: Tensor | None) -> Tensor:
        return self._masked_loss(x, observed, condition)

    def masked_loss(self, x: Tensor, observed: Tensor, condition: Tensor | None = None) -> Tensor:
        """Return J(x) under given masks, (batch,), in nats.

        Arguments:
            x: (batch, *event.shape) levels.
            observed: bool, of x's shape or of the event's; False somewhere in each row.
        """
        self._check(x, condition)
        mask = self._check_observed(x, observed).to(self.device).flatten(1)
        require(not bool(mask.all(1).any()), "observed", "a missing dimension in each row", "none")
        return self._masked_loss(x, mask, condition)

    def _masked_loss(self, x: Tensor, observed: Tensor, condition: Tensor | None) -> Tensor:
        flat, known = self._known_cells(x.flatten(1))
        shown = observed if known is None else observed & known
        with self._scoring_precision() if is_table(self.event) else nullcontext():
            logits = self._logits(self._inputs(flat) * shown[..., None], condition)
        return self._loss_of(logits, flat, observed, known)

    def _loss_of(
        self, logits: Tensor, flat: Tensor, observed: Tensor, known: Tensor | None = None
    ) -> Tensor:
        """J(x) of logits (batch, D, logits) of all dimensions, or of K known cells.

        A mask of all D cells leaves s of the K known ones with probability (D + 1) / (D (K + 1)),
        s < K, so that D (K + 1) / ((D + 1) (K - s)) weighs their terms without bias.
        """
        distribution = self._distribution(logits.to(self.dtype))
        terms = distribution.log_prob(self._as_value(flat))
        missing = ~observed if known is None else known & ~observed
        sums = summed(torch.where(missing, terms, 0))
        size, weight = self.event.size, missing.sum(1).double()
        if known is not None:
            weight = weight.clamp(min=1) * (size + 1) / (known.sum(1).double() + 1)
        return -sums * (size / weight).to(sums.dtype)

    def validation_loss(
        self, x: Tensor, condition: Tensor | None = None, scored: Tensor | None = None
    ) -> Tensor:
        """Return the mean of J(x) under a few fixed masks, (batch,), in nats.

        A row's masks are a function of its values alone. The loss estimates the
        average over orderings, at the cost of four passes instead of D.
        """
        flat, _ = self._known_cells(x)
        self._check(flat, condition)
        self._check_scored(scored, x)
        masks = for_each_row(
            flat, lambda generator: draw_masks(VALIDATION_MASKS, self.event.size, generator)
        )
        losses = [
            self._masked_loss(x, observed, condition)
            for observed in masks.to(self.device).unbind(1)
        ]
        return torch.stack(losses).mean(0)

    # -- scoring

    def _steps(
        self, x: Tensor, observed: Tensor | None, condition: Tensor | None
    ) -> Iterator[tuple[int, Tensor]]:
        """Each dimension in turn with its logits, given those before it that are observed."""
        inputs = self._inputs(x.flatten(1))
        if observed is not None:
            inputs = inputs * observed[..., None]
        state = self._observed_state(len(x), condition)
        for dimension in self._ordering.tolist():
            yield dimension, state.logits(dimension)
            state.observe(dimension, inputs[:, dimension])

    def _conditionals(self, x: Tensor, condition: Tensor | None) -> Distribution:
        parts = []
        for rows, part in self._parts(x):
            label = None if condition is None else condition[rows]
            with torch.autocast(self.device.type, enabled=False):
                logits = [logits for _, logits in self._steps(part, None, label)]
            parts.append(torch.stack(logits, 1)[:, self.position])
        shape = (len(x), *self.event.extents, self.num_logits)
        return self._distribution(torch.cat(parts).view(shape))

    def _log_prob(self, x: Tensor, condition: Tensor | None) -> Tensor:
        return self._log_marginal(x, None, condition)

    def log_marginal(self, x: Tensor, observed: Tensor, condition: Tensor | None = None) -> Tensor:
        """Return ln p(x_observed | condition), (batch,), in nats, as `AnyOrderModel` does."""
        mask = self._check_observed(x, observed).to(self.device)
        known = torch.where(mask, x.to(self.device), 0)
        self._check(known, condition)
        scores = self._log_marginal(known, mask.flatten(1), condition)
        require_scores(not bool(scores.isnan().any()))
        return scores

    def _log_marginal(self, x: Tensor, observed: Tensor | None, condition: Tensor | None) -> Tensor:
        totals = []
        for rows, part in self._parts(x):
            label = None if condition is None else condition[rows]
            mask = None if observed is None else observed[rows]
            wide = at_least_float32(self.dtype)
            total = torch.zeros(len(part), dtype=wide, device=self.device)
            values = self._as_value(part.flatten(1))
            with torch.autocast(self.device.type, enabled=False):
                for dimension, logits in self._steps(part, mask, label):
                    given = self._distribution(logits, dimension)
                    terms = given.log_prob(values[:, dimension])
                    total = total + (terms if mask is None else terms * mask[:, dimension])
            totals.append(total)
        return torch.cat(totals)

    def _parts(self, x: Tensor) -> list[tuple[slice, Tensor]]:
        floats = FLOATS_AT_ONCE if self.device.type == "cpu" else FLOATS_ON_ACCELERATOR
        width = max(self._width, self.event.size * self.num_features)  # of all inputs at once
        count = max(1, min(floats // width, self._rows_at_once))
        starts = range(0, max(len(x), 1), count)
        return [(slice(first, first + count), x[first : first + count]) for first in starts]

    # -- generation

    def _ask(
        self, x: Tensor, first: int, end: int, condition: Tensor | None, caches: list[Any]
    ) -> Tensor:
        observed = (self.position < first)[:, None]
        return self._logits(self._inputs(x) * observed, condition)[:, self.order[first:end]]

    def _decoder(self, batch: int, condition: Tensor | None) -> Decoder:
        return OrderlessDecoder(self, batch, condition)

    def _complete(
        self, x: Tensor, known: Tensor, condition: Tensor | None, options: SamplingOptions
    ) -> Tensor:
        if not known.any():
            return super()._complete(x, known, condition, options)
        x, state = x.clone(), self._observed_state(len(x), condition)
        inputs = self._inputs(x)
        for dimension in known.any(0).nonzero()[:, 0].tolist():
            state.observe(dimension, inputs[:, dimension] * known[:, dimension, None])
        missing = ~known
        for dimension in self._ordering[missing.any(0).cpu()[self._ordering]].tolist():
            given = self._distribution(state.logits(dimension), dimension)
            drawn = draw(given, options.generator, options.temperature).to(x.dtype)
            x[:, dimension] = torch.where(known[:, dimension], x[:, dimension], drawn)
            place = torch.full((1,), dimension, device=x.device)
            shown = self._inputs(x[:, dimension, None], place)[:, 0]
            state.observe(dimension, shown * missing[:, dimension, None])
        return x.view(len(x), *self.event.extents)


class OrderlessDecoder(Decoder):
    """Adds what is pushed to what is observed."""

    def __init__(self, model: OrderlessModel, batch: int, condition: Tensor | None) -> None:
        super().__init__(model.schedule, batch)
        self.model = model
        self.state = model._observed_state(batch, condition)
        self.dimensions = model._ordering.tolist()

    def _next(self, block: Tensor) -> Distribution:
        dimension = self.dimensions[self.position]
        logits = self.state.logits(dimension)
        return self.model._distribution(logits[:, None], dimension)

    def _push(self, block: Tensor, values: Tensor) -> None:
        shown = self.model._inputs(values, block)[:, 0]
        self.state.observe(self.dimensions[self.position], shown)
