"""Generation: everything sequential, written once on top of a model's decoder."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol, cast

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from arcore.decoding import Decoder
from arcore.distributions.drawing import SamplingOptions, select
from arcore.events import Event
from arcore.primitives.checks import require, require_int, require_positive, require_scores
from arcore.primitives.dropout import without_dropout
from arcore.primitives.progress import progress_bar
from arcore.process_tuning import one_thread

SAMPLE_DIMENSIONS = 1 << 20
SCORED_DIMENSIONS = 1 << 17
PRODUCTS_FOR_THREADS = 1 << 26  # below, another thread gains less than it may have to wait
MOST_DRAWN = 1 << 32  # dimensions that one call draws
HEADROOM = 8.0  # of levels as inputs, in units of ln
LARGE = 1000.0  # numbers of a condition, which the headroom also holds


class Generates(Protocol):
    """What a model has that is drawn from, see `arcore.model.AutoregressiveModel`."""

    @property
    def event(self) -> Event:
        """What is drawn."""

    @property
    def device(self) -> torch.device:
        """Where it is drawn."""

    @property
    def schedule(self) -> tuple[Tensor, ...]:
        """The blocks, in turn."""

    def parameters(self) -> Iterator[nn.Parameter]:
        """Return the weights."""

    def log_prob(self, x: Tensor, condition: Tensor | None = None) -> Tensor:
        """Score what was drawn; refuse NaN."""

    def _check(self, x: Tensor, condition: Tensor | None) -> None: ...
    def _check_condition(self, condition: Tensor | None, batch: int) -> None: ...
    def _check_observed(self, x: Tensor, observed: Tensor) -> Tensor: ...
    def _require_length(self) -> None: ...
    def _conditionals(self, x: Tensor, condition: Tensor | None) -> Distribution: ...
    def _scoring_precision(self) -> AbstractContextManager[object]: ...
    def _may_overflow(self) -> bool: ...
    def _blank(self, n: int) -> Tensor: ...
    def _complete(
        self, x: Tensor, known: Tensor, condition: Tensor | None, options: SamplingOptions
    ) -> Tensor: ...
    def _decoder_after(self, x: Tensor, known: Tensor, condition: Tensor | None) -> Decoder: ...


@torch.no_grad()
def sample(
    model: Generates,
    n: int,
    condition: Tensor | None,
    options: SamplingOptions,
    batch: int | None,
    progress: bool,
) -> Tensor:
    """Draw n events part by part, see `AutoregressiveModel.sample`."""
    check_number(model, n)
    model._check_condition(condition, n)
    check_options(model, options)
    require_finite_weights(model)
    size = model.event.size
    batch = max(1, SAMPLE_DIMENSIONS // size) if batch is None else batch
    require_int(batch, "batch", 1)
    parts = []
    steps = -(-n // batch) * len(model.schedule) if progress else 0
    bar = progress_bar(progress, steps, "sampling")
    with drawing(model, min(n, batch)), bar as advance:
        for start in range(0, n, batch):
            rows = slice(start, min(start + batch, n))
            blank = model._blank(rows.stop - start)
            nothing = torch.zeros_like(blank, dtype=torch.bool)
            part = None if condition is None else condition[rows]
            counted = SamplingOptions(options.generator, options.temperature, advance)
            drawn = model._complete(blank, nothing, part, counted)
            _require_drawn(model, drawn, part)
            parts.append(drawn)
    return parts[0] if len(parts) == 1 else torch.cat(parts)


@torch.no_grad()
def impute(
    model: Generates,
    x: Tensor,
    observed: Tensor,
    condition: Tensor | None,
    options: SamplingOptions,
    batch: int | None,
) -> Tensor:
    """Draw unobserved dimensions part by part, see `AutoregressiveModel.impute`."""
    model._require_length()
    mask = model._check_observed(x, observed).to(model.device).flatten(1)
    known = torch.where(mask.view(x.shape), x.to(model.device), 0)
    model._check(known, condition)
    check_options(model, options)
    require_finite_weights(model)
    batch = max(1, len(x)) if batch is None else batch
    require_int(batch, "batch", 1)
    known = known.to(model._blank(1).dtype).flatten(1)
    parts = []
    with drawing(model, min(max(1, len(x)), batch)):
        for start in range(0, max(1, len(x)), batch):
            rows = slice(start, start + batch)
            part = None if condition is None else condition[rows]
            parts.append(model._complete(known[rows], mask[rows], part, options))
            _require_drawn(model, parts[-1], part)
    return parts[0] if len(parts) == 1 else torch.cat(parts)


def complete(
    model: Generates,
    x: Tensor,
    known: Tensor,
    condition: Tensor | None,
    options: SamplingOptions,
) -> Tensor:
    """Draw what is not known of flat rows (batch, D), block by block, (batch, *event.shape)."""
    x, is_blank = x.clone(), not bool(known.any())
    decoder = model._decoder_after(x, known, condition)
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
    return x.view(x.shape[0], *model.event.extents)


@contextmanager
def drawing(model: Generates, rows: int) -> Iterator[None]:
    """Drop nothing, draw in the precision of scores, and small steps of rows in one thread."""
    weights = sum(weight.numel() for weight in model.parameters())
    products = rows * weights * model.event.size // len(model.schedule)  # of a step, about
    small = model.device.type == "cpu" and products < PRODUCTS_FOR_THREADS
    with without_dropout(cast(nn.Module, model)), model._scoring_precision(), one_thread(small):
        yield


# -- checks


def check_number(model: Generates, n: int) -> None:
    """Refuse a number of events to draw that is none, or beyond any memory."""
    model._require_length()
    require_int(n, "n", 1)
    most = MOST_DRAWN // model.event.size
    require(n <= most, "n", f"at most {most:,} events of {model.event.size:,} dimensions", n)


def check_options(model: Generates, options: SamplingOptions) -> None:
    """Refuse a temperature that is none, and a generator of another device."""
    require_positive(options.temperature, "temperature")
    check_generator(options.generator, model.device)


def check_generator(generator: torch.Generator | None, device: torch.device) -> None:
    """Refuse what is no generator on a kind of device, nor None."""
    fits = generator is None or (
        isinstance(generator, torch.Generator) and generator.device.type == device.type
    )
    expected = f"a torch.Generator on {device.type}, or None"
    require(fits, "generator", expected, getattr(generator, "device", generator))


def require_finite_weights(model: Generates) -> None:
    """Refuse weights that are not finite: once, one wait for an accelerator in all."""
    require(model.device.type != "meta", "weights", "numbers", "none, on the meta device")
    extremes = [torch.stack(weight.aminmax()) for weight in model.parameters() if weight.numel()]
    if extremes and not bool(torch.stack(extremes).isfinite().all()):
        raise ValueError("weights: expected finite numbers, got NaN or infinity")


def _require_drawn(model: Generates, x: Tensor, condition: Tensor | None) -> None:
    """Refuse draws from NaN, which look like levels: finite weights may overflow on the way.

    Draws are scored where the weights are large enough that they may, or a condition is large.
    """
    require_scores(not x.is_floating_point() or bool(x.isfinite().all()))
    real = condition is not None and condition.is_floating_point()
    is_large = real and bool((condition.abs() > LARGE).any())  # type: ignore[union-attr]
    if not is_large and not model._may_overflow():
        return
    rows = max(1, SCORED_DIMENSIONS // model.event.size)
    for start in range(0, len(x), rows):
        part = None if condition is None else condition[start : start + rows]
        model.log_prob(x[start : start + rows], part)


def may_overflow(weights: Sequence[Tensor]) -> bool:
    """Tell whether a bound on what layers make of numbers of size 1 is beyond the dtype.

    The product of 1 + the largest sum of absolute weights into, or out of, a unit; activations and
    gates enlarge nothing.
    """
    limit = math.log(torch.finfo(weights[0].dtype).max) - HEADROOM
    weights = [weight.detach() for weight in weights if weight.numel()]
    shapes = [(len(weight) if weight.dim() else 1, weight.numel()) for weight in weights]
    largest = torch.stack([torch.stack(weight.aminmax()).abs().max() for weight in weights])
    most = [max(rows, number // rows) for rows, number in shapes]  # values in a sum
    counts = torch.tensor(most, dtype=torch.float64, device=weights[0].device)
    rough = torch.log1p(largest.double() * counts).sum()
    if bool(rough < limit):  # what the sums below cannot pass, without a pass of their own
        return False
    bound = torch.zeros((), dtype=torch.float64, device=weights[0].device)
    for weight, (rows, _) in zip(weights, shapes, strict=True):
        size = weight.abs().reshape(rows, -1)
        sums = torch.maximum(size.sum(1).max(), size.sum(0).max())
        bound = bound + torch.log1p(sums.double())
    return not bool(bound < limit)


class RecomputingDecoder(Decoder):
    """The slow, obviously right decoder: a full pass of `conditionals` for every block."""

    def __init__(self, model: Generates, batch: int, condition: Tensor | None = None) -> None:
        super().__init__(model.schedule, batch)
        self.model = model
        self.condition = condition
        self.x = model._blank(batch)

    def _next(self, block: Tensor) -> Distribution:
        x = self.x.view(-1, *self.model.event.extents)
        return select(self.model._conditionals(x, self.condition), self.x.shape, block)

    def _push(self, block: Tensor, values: Tensor) -> None:
        self.x[:, block] = values.to(self.x.dtype)
