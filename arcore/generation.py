"""Generation: everything sequential, written once on top of a model's decoder."""

import abc
import math
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch
from torch import Tensor
from torch.distributions import Distribution

from arcore.decoding import Decoder
from arcore.derived_buffers import DerivedBuffers
from arcore.distributions.drawing import SamplingOptions, select
from arcore.events import Event, is_levels, is_table
from arcore.primitives.checks import (
    require,
    require_dense,
    require_int,
    require_positive,
    require_scores,
)
from arcore.primitives.dropout import without_dropout
from arcore.primitives.precision import without_autocast
from arcore.primitives.progress import progress_bar
from arcore.process_tuning import one_thread

SAMPLE_DIMENSIONS = 1 << 20
SCORED_DIMENSIONS = 1 << 17
PRODUCTS_FOR_THREADS = 1 << 26  # below, another thread gains less than it may have to wait
MOST_DRAWN = 1 << 32  # dimensions that one call draws
HEADROOM = 8.0  # of levels as inputs, in units of ln
LARGE = 1000.0  # numbers of a condition, which the headroom also holds


class GenerativeModel(DerivedBuffers, abc.ABC):
    """What draws events block by block: sampling and imputing, given a schedule and a decoder.

    Attributes:
        event: what is modelled.
        scores_in_autocast: whether `log_prob` follows autocast; where not, draws do neither.
        latent_levels: names of the levels of noise that `sample_varying` knows, from the top.
    """

    event: Event
    scores_in_autocast: bool = True
    latent_levels: tuple[str, ...] = ()

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

    @abc.abstractmethod
    def decoder(self, batch: int, condition: Tensor | None = None) -> Decoder:
        """Return the incremental form for `batch` events generated side by side."""

    @abc.abstractmethod
    def _check(self, x: Tensor, condition: Tensor | None) -> None:
        """Refuse an invalid batch or condition."""

    @abc.abstractmethod
    def _check_condition(self, condition: Tensor | None, batch: int) -> None:
        """Refuse an invalid condition of a batch."""

    def _check_number(self, n: int) -> None:
        """Refuse a number of events to draw that is none, or beyond any memory."""
        self._require_length()
        require_int(n, "n", 1)
        most = MOST_DRAWN // self.event.size
        require(n <= most, "n", f"at most {most:,} events of {self.event.size:,} dimensions", n)

    def _require_length(self) -> None:
        expected = "events of one length to generate (use model.of_length(length))"
        require(not self.event.is_open, "event", expected, self.event)

    @torch.no_grad()
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
        self._check_number(n)
        self._check_condition(condition, n)
        self._check_temperature(temperature)
        self._check_generator(generator)
        self._require_finite_weights()
        size = self.event.size
        batch = max(1, SAMPLE_DIMENSIONS // size) if batch is None else batch
        require_int(batch, "batch", 1)
        parts = []
        steps = -(-n // batch) * len(self.schedule) if progress else 0
        bar = progress_bar(progress, steps, "sampling")
        with self._drawing(min(n, batch)), bar as advance:
            for start in range(0, n, batch):
                rows = slice(start, min(start + batch, n))
                blank = self._blank(rows.stop - start)
                nothing = torch.zeros_like(blank, dtype=torch.bool)
                part = None if condition is None else condition[rows]
                options = SamplingOptions(generator, temperature, advance)
                drawn = self._complete(blank, nothing, part, options)
                self._require_scores(drawn, part)
                parts.append(drawn)
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    @torch.no_grad()
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
        self._require_length()
        mask = self._check_observed(x, observed).to(self.device).flatten(1)
        known = torch.where(mask.view(x.shape), x.to(self.device), 0)
        self._check(known, condition)
        self._check_generator(generator)
        self._require_finite_weights()
        batch = max(1, len(x)) if batch is None else batch
        require_int(batch, "batch", 1)
        known = known.to(self._blank(1).dtype).flatten(1)
        options, parts = SamplingOptions(generator, temperature), []
        with self._drawing(min(max(1, len(x)), batch)):
            for start in range(0, max(1, len(x)), batch):
                rows = slice(start, start + batch)
                part = None if condition is None else condition[rows]
                parts.append(self._complete(known[rows], mask[rows], part, options))
                self._require_scores(parts[-1], part)
        return parts[0] if len(parts) == 1 else torch.cat(parts)

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

    def _check_temperature(self, temperature: float) -> None:
        require_positive(temperature, "temperature")

    def _check_generator(self, generator: torch.Generator | None) -> None:
        fits = generator is None or (
            isinstance(generator, torch.Generator) and generator.device.type == self.device.type
        )
        expected = f"a torch.Generator on {self.device.type}, or None"
        got = getattr(generator, "device", generator)
        require(fits, "generator", expected, got)

    @contextmanager
    def _drawing(self, rows: int) -> Iterator[None]:
        """Drop nothing, draw in the precision of scores, and small steps of rows in one thread."""
        weights = sum(weight.numel() for weight in self.parameters())
        products = rows * weights * self.event.size // len(self.schedule)  # of a step, about
        small = self.device.type == "cpu" and products < PRODUCTS_FOR_THREADS
        with without_dropout(self), self._scoring_precision(), one_thread(small):
            yield

    def _scoring_precision(self) -> AbstractContextManager[object]:
        """Follow autocast where scores do, which need more than 8 bits of reals."""
        follows = self.scores_in_autocast and is_levels(self.event)
        return nullcontext() if follows else without_autocast(self.device)

    def _require_finite_weights(self) -> None:
        """Refuse weights that are not finite: once, one wait for an accelerator in all."""
        require(self.device.type != "meta", "weights", "numbers", "none, on the meta device")
        extremes = [torch.stack(weight.aminmax()) for weight in self.parameters() if weight.numel()]
        if extremes and not bool(torch.stack(extremes).isfinite().all()):
            raise ValueError("weights: expected finite numbers, got NaN or infinity")

    def _require_scores(self, x: Tensor, condition: Tensor | None) -> None:
        """Refuse draws from NaN, which look like levels: finite weights may overflow on the way.

        Scored are those of models whose weights are large enough that they may, or given large
        conditions.
        """
        require_scores(not x.is_floating_point() or bool(x.isfinite().all()))
        real = condition is not None and condition.is_floating_point()
        is_large = real and bool((condition.abs() > LARGE).any())  # type: ignore[union-attr]
        if not is_large and not self._may_overflow():
            return
        rows = max(1, SCORED_DIMENSIONS // self.event.size)
        for start in range(0, len(x), rows):
            part = None if condition is None else condition[start : start + rows]
            self.log_prob(x[start : start + rows], part)

    def _may_overflow(self) -> bool:
        """Tell whether a bound on what layers make of numbers of size 1 is beyond the dtype.

        The product of 1 + the largest sum of absolute weights into, or out of, a unit; activations
        and gates enlarge nothing.
        """
        limit = math.log(torch.finfo(self.dtype).max) - HEADROOM
        weights = [weight.detach() for weight in self.parameters() if weight.numel()]
        shapes = [(len(weight) if weight.dim() else 1, weight.numel()) for weight in weights]
        largest = torch.stack([torch.stack(weight.aminmax()).abs().max() for weight in weights])
        most = [max(rows, number // rows) for rows, number in shapes]  # values in a sum
        counts = torch.tensor(most, dtype=torch.float64, device=self.device)
        rough = torch.log1p(largest.double() * counts).sum()
        if bool(rough < limit):  # what the sums below cannot pass, without a pass of their own
            return False
        bound = torch.zeros((), dtype=torch.float64, device=self.device)
        for weight, (rows, _) in zip(weights, shapes, strict=True):
            size = weight.abs().reshape(rows, -1)
            sums = torch.maximum(size.sum(1).max(), size.sum(0).max())
            bound = bound + torch.log1p(sums.double())
        return not bool(bound < limit)

    @abc.abstractmethod
    def _conditionals(self, x: Tensor, condition: Tensor | None) -> Distribution:
        """Return the conditionals of x, which was checked."""

    @abc.abstractmethod
    def log_prob(self, x: Tensor, condition: Tensor | None = None) -> Tensor:
        """Score events, (batch,) in nats; refuse weights that lead to NaN."""

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
        self._check_temperature(options.temperature)
        x, is_blank = x.clone(), not bool(known.any())
        decoder = self._decoder_after(x, known, condition)
        blocks = decoder.blocks[decoder.position :]
        if is_blank:
            parts = decoder.draw_rest(options)
        else:
            parts = []
            for block in blocks:
                drawn = decoder.draw(options.generator, options.temperature).to(x.dtype)
                parts.append(torch.where(known[:, block], x[:, block], drawn))
                decoder.push(parts[-1])
                options.advance(1)
        if parts:
            x[:, torch.cat(blocks)] = torch.cat(parts, 1).to(x.dtype)
        return x.view(x.shape[0], *self.event.extents)

    def _decoder_after(self, x: Tensor, known: Tensor, condition: Tensor | None) -> Decoder:
        """Return a decoder that may have taken in blocks that are known already."""
        return self.decoder(x.shape[0], condition)


class RecomputingDecoder(Decoder):
    """The slow, obviously right decoder: a full pass of `conditionals` for every block."""

    def __init__(self, model: GenerativeModel, batch: int, condition: Tensor | None = None) -> None:
        super().__init__(model.schedule, batch)
        self.model = model
        self.condition = condition
        self.x = model._blank(batch)

    def _next(self, block: Tensor) -> Distribution:
        x = self.x.view(-1, *self.model.event.extents)
        return select(self.model._conditionals(x, self.condition), self.x.shape, block)

    def _push(self, block: Tensor, values: Tensor) -> None:
        self.x[:, block] = values.to(self.x.dtype)
