"""The contract that every model keeps.

A model factorises p(x) = prod_b p(x_b | x_<b) over the blocks b of its schedule. Scoring is
parallel (`conditionals`, `log_prob`), generation incremental (`decoder`, `arcore.generation`).
"""

from __future__ import annotations

import abc
import math
from contextlib import AbstractContextManager, nullcontext
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.distributions import Distribution

from arcore import conditions, generation, units
from arcore.decoding import Decoder
from arcore.derived_buffers import DerivedBuffers
from arcore.distributions.drawing import SamplingOptions
from arcore.events import Event, Gray, Levels, is_levels, is_table
from arcore.hyperparameters import Hyperparameters
from arcore.primitives.checks import (
    require,
    require_dense,
    require_int,
    require_scores,
    require_seed,
)
from arcore.primitives.precision import require_finite, summed, without_autocast
from arcore.primitives.row_noise import BatchSlice
from arcore.primitives.transfer import outside_compiler

MOST_MEMBERS = 1024


class AutoregressiveModel(DerivedBuffers, abc.ABC):
    """An autoregressive density model over one kind of event.

    A subclass defines `Config` (its hyperparameters), `supports`, `schedule`, `_conditionals`
    and, where it can do better than recomputing everything, `_decoder`.

    Attributes:
        event: what is modelled.
        hyperparameters: the frozen dataclass that it was built from.
        exact: False where `log_prob` would only be a bound.
        condition_kind: what it is conditioned on, or None for an unconditional model.
        num_classes, num_symbols: of a condition that is a class, or a symbol per frame; else None.
        takes_uneven_levels: whether an event's dimensions may have different numbers of levels.
        hop: steps of an event that one frame of its condition lasts, 1 where there are none.
        changes_by_step: whether training steps differ by more than their rows (`set_step`).
        num_members: masks or orderings that it is trained for, whose mixture `ensemble` gives.
        max_members: members that such a mixture may have, None for any number.
        validation_is_estimate: whether `validation_loss` estimates what a member scores exactly.
        scores_parts: whether `scored` may say which part of an event counts.
        receptive_field: past steps that a conditional depends on, None for all.
        scores_in_autocast: whether `log_prob` follows autocast; where not, draws do neither.
        latent_levels: names of the levels of noise that `sample_varying` knows, from the top.
        generates: whether it has a schedule, conditionals and a decoder; a mixture has members.
        orders: "own" of a model with one order, "any" of one that was trained for whatever order
            `under` gives it, "other" where that is a distribution too, but an untrained one.
        gives_marginals: whether it has `log_marginal`.
        has_hidden: whether it has `hidden`.
    """

    Config: ClassVar[type[Hyperparameters]]
    supports: ClassVar[tuple[type[Event], ...]]
    takes_uneven_levels: ClassVar[bool] = False
    exact: bool = True
    changes_by_step: bool = False
    num_members: int = 1
    max_members: int | None = 1
    validation_is_estimate: bool = False
    scores_parts: bool = False
    receptive_field: int | None = None
    num_symbols: int | None = None
    hop: int = 1
    scores_in_autocast: bool = True
    latent_levels: tuple[str, ...] = ()
    generates: bool = True
    orders: str = "own"
    gives_marginals: bool = False
    has_hidden: bool = False

    def __init__(self, event: Event, hyperparameters: Hyperparameters) -> None:
        super().__init__()
        hyperparameters.require_numbers()
        # gray targets are scored in another way than levels, so a model must name them
        fits = not isinstance(event, Gray) or Gray in self.supports
        if not isinstance(event, self.supports) or not fits:
            wanted = " or ".join(kind.__name__ for kind in self.supports)
            raise ValueError(f"event: {type(self).__name__} expects {wanted}, got {event!r}")
        if isinstance(event, Levels) and event.uneven is not None and not self.takes_uneven_levels:
            name = type(self).__name__
            raise ValueError(f"event: {name} expects one number of levels, got {event!r}")
        self.event = event
        self.hyperparameters = hyperparameters
        self.condition_kind = conditions.condition_from(hyperparameters)
        self.num_classes: int | None = getattr(hyperparameters, "num_classes", None)
        self._sampled_noise: Tensor | None = None
        self._next_step, self._step_is_given = 0, False

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of the parameters."""
        return next(self.parameters()).dtype

    @property
    def device(self) -> torch.device:
        """The device of the parameters."""
        return next(self.parameters()).device

    @property
    @abc.abstractmethod
    def schedule(self) -> tuple[Tensor, ...]:
        """How dimensions are generated: blocks of indices into the flattened event.

        Each block is drawn in parallel given all earlier ones; together they partition range(D).
        """

    @property
    def num_evaluations(self) -> int | None:
        """Evaluations of networks to draw an event, None where they are as many as blocks."""
        return None

    def forward(
        self, x: Tensor, condition: Tensor | None = None, scored: Tensor | None = None
    ) -> Tensor:
        """Return the training loss of each example, (batch,), in nats: minus `log_prob`.

        A model that `changes_by_step` takes the next step at each call in training with gradients,
        unless `set_step` says which. Of an accelerator's integers only shapes are checked, which
        stalls no device.

        Arguments:
            x: (batch, *event.shape); integer levels (any dtype) or reals.
            condition: as of `log_prob`, for a conditional model.
            scored: as of `log_prob`, for a model that `scores_parts`.
        """
        self._check_shapes(x, condition, scored)
        own = self._begin_step()
        try:
            if scored is not None:
                return -self._part_log_prob(x, condition, scored)
            return -self._objective(x, condition)
        finally:
            self._end_step(own)

    def log_prob(
        self, x: Tensor, condition: Tensor | None = None, scored: Tensor | None = None
    ) -> Tensor:
        """Return ln p(x | condition), (batch,), in nats.

        Arguments:
            x: (batch, *event.shape); integer levels (any dtype) or reals.
            condition: as `arcore.conditions` describes the model's kind: (batch,) int64 class
                labels, (batch, size) vectors, (batch, channels, height, width) maps, (batch,
                frames) symbols, (batch, frames, size) frames, or None.
            scored: (batch, 2) int64, which part of each event counts, given all before it: the
                first step along the event's first dimension and the one after the last; None for
                all. Only for a model that `scores_parts`; best on the CPU, since the host reads it.

        Raises:
            ValueError: if an argument has another shape, values out of range, or is on another
                device; or weights with which a score is NaN.
        """
        scores = self._scores(x, condition, scored)
        require_scores(not bool(scores.isnan().any()))
        return scores

    def _scores(self, x: Tensor, condition: Tensor | None, scored: Tensor | None) -> Tensor:
        """Return ln p(x | condition) of a batch to be checked, with NaN where weights overflow."""
        self._check(x, condition)
        self._check_scored(scored, x)
        if scored is not None:
            return self._part_log_prob(x, condition, scored)
        return self._log_prob(x, condition)

    def member_log_probs(
        self, x: Tensor, condition: Tensor | None = None, scored: Tensor | None = None
    ) -> Tensor:
        """Return ln p_k(x | condition) of each member of an ensemble, (batch, members), in nats.

        A single model is its only member. Weights that overflow give NaN.
        """
        return self._scores(x, condition, scored)[:, None]

    def _part_log_prob(self, x: Tensor, condition: Tensor | None, scored: Tensor) -> Tensor:
        """Return ln p of the part that counts, (batch,): for a model that `scores_parts`."""
        raise ValueError(self._no_parts())

    def _log_estimate(self, x: Tensor, condition: Tensor | None) -> Tensor:
        """Return ln of what has p(x | condition) as its mean, (batch,): of that itself."""
        return self._log_prob(x, condition)

    def _log_prob(self, x: Tensor, condition: Tensor | None) -> Tensor:
        return summed(self._conditionals(x, condition).log_prob(self._as_value(x)))

    def bits_per_dim(self, x: Tensor, condition: Tensor | None = None) -> Tensor:
        """Return -log_prob(x | condition) in bits per dimension, (batch,).

        Of reals with a bin width these are bits of their levels, see `arcore.units`.

        Arguments:
            x: (batch, *event.shape); integer levels (any dtype) or reals.
            condition: as of `log_prob`, for a conditional model.
        """
        nats = -self.log_prob(x, condition)
        return units.nats_to_bits_per_dim(nats, self.event, size=math.prod(x.shape[1:]))

    def validation_loss(
        self, x: Tensor, condition: Tensor | None = None, scored: Tensor | None = None
    ) -> Tensor:
        """Return what training watches on held-out rows, (batch,), in nats.

        It is minus `log_prob` unless that is too slow or only bounded: orderless models give a
        masked estimate under fixed masks, latent-variable models a bound under fixed noise.
        """
        self._check(x, condition)
        self._check_scored(scored, x)
        if scored is not None:
            return -self._part_log_prob(x, condition, scored)
        return -self._objective(x, condition)

    def importance_weighted(
        self,
        x: Tensor,
        num_samples: int,
        condition: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Estimate ln p(x | condition), (batch,), in nats: `log_prob` itself where that is exact.

        Raises:
            ValueError: for a bound without latents to draw (an ensemble of bounds).
        """
        require_int(num_samples, "num_samples", 1)
        if not self.exact:
            raise ValueError(f"{type(self).__name__}: expected an exact model or one with latents")
        return self.log_prob(x, condition)

    def _objective(self, x: Tensor, condition: Tensor | None) -> Tensor:
        """What training maximises, (batch,) in nats: ln p of `scored_event`."""
        return self._log_prob(x, condition)

    @property
    def scored_event(self) -> Event:
        """The part of the event that the training loss counts: all of it, as a rule."""
        return self.event

    def conditionals(self, x: Tensor, condition: Tensor | None = None) -> Distribution:
        """Return all one-dimensional conditionals p(x_d | x_<d) at once, teacher-forced.

        Arguments:
            x: (batch, *event.shape); integer levels (any dtype) or reals.
            condition: as of `log_prob`, for a conditional model.

        Returns:
            A distribution of batch shape (batch, *event.shape); mixtures lack torch's `sample`.
        """
        self._check(x, condition)
        return self._conditionals(x, condition)

    @abc.abstractmethod
    def _conditionals(self, x: Tensor, condition: Tensor | None) -> Distribution:
        """Conditionals of a checked batch."""

    def _as_value(self, x: Tensor) -> Tensor:
        bits = isinstance(self.event, Levels) and self.event.num_levels == 2
        return x.to(self.dtype if bits else self._drawn_dtype)

    def _check_shapes(self, x: Tensor, condition: Tensor | None, scored: Tensor | None) -> None:
        """Check what a training call gets; an accelerator's levels and classes are not read."""
        Event.check(self.event, x)
        self._check_condition_shape(condition, x.shape[0])
        self._check_scored_shape(scored, x)
        if torch.compiler.is_compiling():
            return
        self._check_device(x, "x")
        is_here = x.device.type == "cpu"
        if is_levels(self.event) and (is_here or x.is_floating_point()):
            self.event.check(x if is_here else x[:1])  # images in [0, 1] show in one
        if condition is not None and self.condition_kind is not None:
            self._check_device(condition, "condition")
            if is_here and self.condition_kind.is_integer:
                self.condition_kind.check_values(condition)
        self._check_scored(scored, x)

    def _check_device(self, x: Tensor, name: str) -> None:
        require(x.device == self.device, name, f"a tensor on {self.device}", x.device)

    def _no_parts(self) -> str:
        return f"scored: expected None for {type(self).__name__}, which scores whole events"

    def _check_scored_shape(self, scored: Tensor | None, x: Tensor) -> None:
        if scored is None:
            return
        if not self.scores_parts:
            raise ValueError(f"{self._no_parts()}, got spans")
        is_tensor = isinstance(scored, Tensor)
        if is_tensor:
            require_dense(scored, "scored")
        got = (scored.dtype, tuple(scored.shape)) if is_tensor else scored
        fits = is_tensor and got == (torch.int64, (len(x), 2))
        require(fits, "scored", f"int64 spans of shape ({len(x)}, 2)", got)

    def _check_scored(self, scored: Tensor | None, x: Tensor) -> None:
        self._check_scored_shape(scored, x)
        if scored is not None:
            steps = self._num_steps(x)
            first, end = scored.unbind(1)
            fits = bool(((first >= 0) & (first <= end) & (end <= steps)).all())
            require(fits, "scored", f"0 <= first <= end <= {steps}", scored.tolist())

    def _num_steps(self, x: Tensor) -> int:
        """Steps of an event that `scored` counts."""
        return x.shape[1]

    def _check(self, x: Tensor, condition: Tensor | None) -> None:
        self.event.check(x)
        self._check_device(x, "x")
        require_finite(x, self.dtype, "x")
        self._check_condition(condition, x.shape[0])

    def _check_condition(self, condition: Tensor | None, batch: int) -> None:
        self._check_condition_shape(condition, batch)
        if condition is not None and self.condition_kind is not None:
            self._check_device(condition, "condition")
            self.condition_kind.check_values(condition)
            require_finite(condition, self.dtype, "condition")

    def _check_condition_shape(self, condition: Tensor | None, batch: int) -> None:
        if self.condition_kind is None:
            require(condition is None, "condition", "None for an unconditional model", condition)
        else:
            self.condition_kind.check_shape(condition, batch)

    def set_step(self, seed: int, step: int) -> None:
        """Choose what a training step draws for all rows (masks, warm-up), by (seed, step).

        It holds until the next call or `eval()`. Else each `forward` in training with gradients
        takes the next step of seed 0, from 0 or the last one given on; masks stay as they were.
        """
        require_seed(seed, "seed")
        require_int(step, "step", 0)
        self._next_step, self._step_is_given = step + 1, True
        self._set_step(seed, step)

    def _set_step(self, seed: int, step: int) -> None:  # noqa: B027
        """Change what `changes_by_step`; tensors are replaced, since a backward pass may come."""

    def _step_state(self) -> object:
        """Return what `_restore` needs to undo `_set_step`."""
        return ()

    def _restore(self, state: object) -> None:
        """Undo `_set_step`."""
        self._rebuild()

    def _kept_step(self) -> tuple[object, ...]:
        """Return what `_take_up_step` needs to undo that `eval()` forgets a step."""
        return self._step_state(), self._next_step, self._step_is_given, self._sampled_noise

    def _take_up_step(self, kept: tuple[Any, ...]) -> None:
        state, self._next_step, self._step_is_given, self._sampled_noise = kept
        if self.changes_by_step:
            self._restore(state)

    def _begin_step(self) -> object | None:
        """Take the next step, unless one is given; return what `_end_step` undoes it by."""
        counts = self.changes_by_step and self.training and not self._step_is_given
        if not counts or not torch.is_grad_enabled():
            return None
        return outside_compiler(_take_step, self)

    def _end_step(self, state: object | None) -> None:
        if state is not None:
            self._restore(state)

    def sample_training_noise(self, rows: BatchSlice) -> None:
        """Draw, by torch's global generator, what a training loss needs for each row.

        The draw is used for each batch of that number of rows until the next call or `eval()`.
        Without it `forward` draws by itself.
        """
        self._sampled_noise = rows.draw(self._sample_training_noise)

    def _sample_training_noise(self, rows: int) -> Tensor:
        """Draw what a training loss needs for a number of rows, (rows, ...): nothing by default."""
        return torch.empty(rows, 0)

    def _training_noise(self, rows: int) -> Tensor:
        """Return what `sample_training_noise` drew for a batch of n rows, or a fresh draw."""
        drawn = self._sampled_noise
        if drawn is None:
            drawn = self._sample_training_noise(rows)
        require(len(drawn) == rows, "x", f"{len(drawn)} rows, as drawn", rows)
        return drawn

    def train(self, mode: bool = True) -> AutoregressiveModel:
        """Switch between training and evaluation, which forgets what was drawn for a step."""
        super().train(mode)
        if not mode:
            self._sampled_noise, self._step_is_given = None, False
        return self

    def of_length(self, length: int) -> AutoregressiveModel:
        """Return the same model, sharing weights, for events of one length.

        Raises:
            ValueError: unless its own event has any length.
        """
        raise ValueError(f"length: expected a model of events of any length, got {self.event}")

    def ensemble(self, num_members: int) -> AutoregressiveModel:
        """Return the mixture of the model under its first `num_members` masks or orderings.

        Raises:
            ValueError: for more members than `max_members`, or than 1,024.
        """
        require_int(num_members, "num_members", 1)
        most = min(self.max_members or MOST_MEMBERS, MOST_MEMBERS)
        name = type(self).__name__
        require(num_members <= most, "num_members", f"at most {most} for {name}", num_members)
        return self

    # -- what some models have, see the attributes

    def under(self, order: Tensor) -> AutoregressiveModel:
        """Return the model under an ordering, (D,) int64, unless its `orders` are its own."""
        raise ValueError(f"order: expected none for {type(self).__name__}, which has its own")

    def log_marginal(self, x: Tensor, observed: Tensor, condition: Tensor | None = None) -> Tensor:
        """Return ln p(x_observed | condition), (batch,), in nats, of a model that can."""
        raise ValueError(f"model: expected one of any order, got {type(self).__name__}")

    def hidden(self, x: Tensor, condition: Tensor | None = None) -> Tensor:
        """Return the last hidden layer of a model that `has_hidden`, (batch, units).

        `arcore.inference.features.hidden_features` checks what it is given.
        """
        raise ValueError(f"model: expected NADE or MADE, got {type(self).__name__}")

    def first_layer(self) -> Tensor | None:
        """Return weights from each dimension to the first hidden units, (units, D), if dense."""
        return None

    def decoder(self, batch: int, condition: Tensor | None = None) -> Decoder:
        """Return the incremental form for `batch` events generated side by side.

        In training, dropout applies as in scores: switch to evaluation before it is made.

        Arguments:
            batch: events generated at the same time.
            condition: one row per event, as of `log_prob`, for a conditional model.
        """
        require_int(batch, "batch", 0)
        self._check_condition(condition, batch)
        with torch.no_grad(), self._scoring_precision():
            decoder = self._decoder(batch, condition)
        decoder.precision = self._scoring_precision
        return decoder

    def _decoder(self, batch: int, condition: Tensor | None) -> Decoder:
        """Make the decoder for a checked condition: by default one that recomputes everything."""
        return generation.RecomputingDecoder(self, batch, condition)

    # -- generation, see `arcore.generation`

    def sample(
        self,
        n: int,
        condition: Tensor | None = None,
        generator: torch.Generator | None = None,
        temperature: float = 1.0,
        *,
        batch: int | None = None,
        progress: bool = False,
    ) -> Tensor:
        """Draw n events, (n, *event.shape): int64 levels or reals; in training, too, undropped.

        On the CPU, steps of fewer than 2^26 products take one thread, whatever torch may use.

        Arguments:
            n: number of events, >= 1, of 2^32 dimensions at most.
            condition: of n rows, for a conditional model.
            generator: source of randomness, on the model's device; None uses torch's global one.
            temperature: scales the log-probabilities by 1 / temperature (> 0); only 1 for reals.
            batch: events drawn side by side, which bounds memory; None for as many as have 2^20
                dimensions. The same generator gives the same events for the same n and batch.
            progress: show a bar, which needs tqdm.

        Example:
            >>> import arcore
            >>> model = arcore.create_model("nade", arcore.events.Binary((3,)))
            >>> model.sample(2, generator=torch.Generator().manual_seed(0)).shape
            torch.Size([2, 3])
        """
        options = SamplingOptions(generator, temperature)
        return generation.sample(self, n, condition, options, batch, progress)

    def impute(
        self,
        x: Tensor,
        observed: Tensor,
        condition: Tensor | None = None,
        generator: torch.Generator | None = None,
        temperature: float = 1.0,
        *,
        batch: int | None = None,
    ) -> Tensor:
        """Draw the unobserved dimensions given the observed ones that precede them.

        That is the exact posterior where every observed dimension comes first in the schedule;
        elsewhere later observations do not inform earlier draws.

        Arguments:
            x: (batch, *event.shape); values where `observed` is False are ignored.
            observed: bool, of x's shape or of the event's.
            condition: one row per row of x, for a conditional model.
            generator: source of randomness, on the model's device; None uses torch's global one.
            temperature: scales the log-probabilities by 1 / temperature (> 0); only 1 for reals.
            batch: events completed side by side, which bounds memory; None for all. The same
                generator gives the same events as one call for each part.

        Returns:
            (batch, *event.shape) with the observed values as they are in the model's dtype.
        """
        options = SamplingOptions(generator, temperature)
        return generation.impute(self, x, observed, condition, options, batch)

    def sample_varying(
        self,
        n: int,
        level: str,
        condition: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Draw n events that differ by the noise of one of `latent_levels` alone.

        Raises:
            ValueError: for another level; a model without latents has none.
        """
        raise ValueError(f"level: expected one of {self.latent_levels}, got {level!r}")

    def _check_observed(self, x: Tensor, observed: Tensor, name: str = "observed") -> Tensor:
        """Check the shape of x and all of `observed`, which is returned in x's shape."""
        Event.check(self.event, x)
        if isinstance(observed, Tensor):
            require_dense(observed, name)
        fits = isinstance(observed, Tensor) and observed.dtype == torch.bool
        require(fits, name, "a bool tensor", getattr(observed, "dtype", observed))
        fits = observed.shape in (x.shape, x.shape[1:])
        require(fits, name, f"shape {tuple(x.shape)}", tuple(observed.shape))
        return observed.expand(x.shape)

    def _require_length(self) -> None:
        expected = "events of one length to generate (use model.of_length(length))"
        require(not self.event.is_open, "event", expected, self.event)

    def _scoring_precision(self) -> AbstractContextManager[object]:
        """Follow autocast where scores do, which need more than 8 bits of reals."""
        follows = self.scores_in_autocast and is_levels(self.event)
        return nullcontext() if follows else without_autocast(self.device)

    def _may_overflow(self) -> bool:
        """Tell whether draws are to be scored, since finite weights may overflow on the way."""
        return generation.may_overflow(list(self.parameters()))

    def _blank(self, n: int) -> Tensor:
        return torch.zeros(n, self.event.size, dtype=self._drawn_dtype, device=self.device)

    @property
    def _drawn_dtype(self) -> torch.dtype:
        """The dtype of events: bfloat16 cannot hold levels above 256, nor a file's reals."""
        if is_table(self.event):
            return torch.float64
        return torch.int64 if hasattr(self.event, "num_levels") else self.dtype

    def _complete(
        self, x: Tensor, known: Tensor, condition: Tensor | None, options: SamplingOptions
    ) -> Tensor:
        """Draw what is not known of flat rows (batch, D), (batch, *event.shape)."""
        return generation.complete(self, x, known, condition, options)

    def _decoder_after(self, x: Tensor, known: Tensor, condition: Tensor | None) -> Decoder:
        """Return a decoder that may have taken in blocks that are known already."""
        return self.decoder(x.shape[0], condition)

    def __repr__(self) -> str:
        """Name the model, its event and its size, not every layer."""
        count = sum(p.numel() for p in self.parameters())
        return f"{type(self).__name__}({self.event}, {self.hyperparameters}, parameters={count:,})"


def _take_step(model: AutoregressiveModel) -> object:
    state = model._step_state()
    model._set_step(0, model._next_step)
    model._next_step += 1
    return state
