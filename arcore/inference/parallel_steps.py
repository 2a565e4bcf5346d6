"""Draws of several dimensions at a time from models of any order, in the steps that cost least.

Reference:
    Hoogeboom et al., "Autoregressive Diffusion Models", ICLR 2022; Watson, Ho, Norouzi and Chan,
    "Learning to Efficiently Sample from Diffusion Probabilistic Models", 2021.

Example:
    >>> import torch, arcore
    >>> model = arcore.create_model("deep_nade", arcore.events.Binary((1, 4, 4)), hidden=[8])
    >>> losses = step_losses(model, torch.zeros(10, 1, 4, 4))  # of validation rows
    >>> fast = InSteps(model.member(1), split_steps(losses, 5))  # member 1 has a random order
    >>> fast.sample(2).shape, fast.num_evaluations
    (torch.Size([2, 1, 4, 4]), 5)
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import cast

import torch
from torch import Tensor
from torch.distributions import Distribution

from arcore import generation
from arcore.decoding import Decoder
from arcore.distributions.drawing import reshape
from arcore.events import Event, Levels
from arcore.families.any_order import AnyOrderModel
from arcore.layers import level_features
from arcore.model import AutoregressiveModel
from arcore.primitives.checks import require, require_int


@torch.no_grad()
def step_losses(
    model: AutoregressiveModel, x: Tensor, condition: Tensor | None = None, num_orders: int = 4
) -> Tensor:
    """Return L_t, the mean nats of a unit given t random others, (units,) float64.

    A unit is a dimension, or a patch of `any_order_transformer`. The mean is over rows x, members 1
    to `num_orders` of the model, random orders, and all units after the first t. As L_t cannot rise
    in t, noise that does is averaged out by least squares (isotonic regression). Each order takes
    two passes per unit, so that a hundred rows are many.
    """
    model = _any_order(model)
    require_int(num_orders, "num_orders", 1)
    require(len(Event.check(model.event, x)) > 0, "x", "a row at least", "none")
    units = model.event.size // model.places
    total = torch.zeros(units, dtype=torch.float64)
    for index, given in itertools.product(range(1, num_orders + 1), range(units)):
        member = model.member(index)
        split = InSteps(member, [given, units - given] if given else [units])
        with generation.drawing(member, len(x)):
            terms = split.conditionals(x, condition).log_prob(model._as_value(x)).double()
        left = terms.flatten(1).mean(0)[member.order].view(units, -1)[given:]
        total[given] -= left.sum(1).mean().cpu()
    return _non_increasing(total / num_orders)


def split_steps(losses: Tensor, steps: int) -> tuple[int, ...]:
    """Return the units of each of `steps` steps, in [1, units], whose cost is least.

    A step of k units from t on costs k * L_t; dynamic programming finds the least sum.

    Example:
        >>> split_steps(torch.tensor([3.0, 1.0, 1.0, 0.0]), 2)
        (1, 3)
    """
    _check_losses(losses)
    fits = type(steps) is int and 1 <= steps <= len(losses)
    require(fits, "steps", f"an integer in [1, {len(losses)}]", steps)
    cuts = [0]
    for _, ends in reversed(list(itertools.islice(_least(losses), steps))):
        cuts.append(int(ends[cuts[-1]]))
    return tuple(end - first for first, end in itertools.pairwise(cuts))


def lost_nats(losses: Tensor) -> Tensor:
    """Return what 1, 2, ... steps of `split_steps` cost more than a step per unit, (units,).

    Example:
        >>> lost_nats(torch.tensor([3.0, 1.0, 1.0, 0.0])).tolist()
        [7.0, 1.0, 0.0, 0.0]
    """
    _check_losses(losses)
    costs = [cost for cost, _ in itertools.islice(_least(losses), len(losses))]
    return torch.stack(costs) - costs[-1]


def _check_losses(losses: Tensor) -> None:
    fits = isinstance(losses, Tensor) and losses.dim() == 1 and len(losses) > 0
    fits = fits and bool(losses.isfinite().all())
    require(fits, "losses", "finite numbers, a tensor of one for each unit", losses)


def _least(losses: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield, for 1, 2, ... steps, the least cost and the end of the first step from each unit."""
    first, end = torch.arange(len(losses))[:, None], torch.arange(len(losses) + 1)
    cost = ((end - first) * losses.double().cpu()[:, None]).where(end > first, torch.inf)
    rest = torch.where(end < len(losses), torch.inf, 0.0).double()
    while True:
        least, ends = (cost + rest).min(1)
        rest = torch.cat([least, torch.full_like(least[:1], torch.inf)])
        yield least[0], ends


def _non_increasing(values: Tensor) -> Tensor:
    """Return min over a <= t of max over b >= t of the mean of values a to b."""
    sums = torch.cat([values.new_zeros(1), values.cumsum(0)])
    last = torch.arange(len(values))
    first = last[:, None]
    means = (sums[1:] - sums[:-1, None]) / (last - first + 1)
    most = means.where(last >= first, -torch.inf).flip(1).cummax(1).values.flip(1)
    return most.where(last >= first, torch.inf).amin(0)


class InSteps(AutoregressiveModel):
    """A model of any order, whose units are drawn in steps, independently given earlier steps.

        p(x) = prod over steps S and units u in S of p(x_u | x of the steps before S)

    It is exact, a density of its own with the model's weights and order; steps of one unit give
    the model. L_t is of random orders: take `model.member(1)`.

    Arguments:
        model: deep_nade, conv_nade or any_order_transformer, in an order of whole patches.
        sizes: units of each step, as of `split_steps`.
    """

    supports = (Levels,)
    takes_uneven_levels = True

    def __init__(self, model: AutoregressiveModel, sizes: Sequence[int]) -> None:
        model = _any_order(model)
        units = model.event.size // model.places
        is_list = isinstance(sizes, (list, tuple))
        fits = (
            is_list
            and all(type(size) is int and size >= 1 for size in sizes)
            and sum(sizes) == units
        )
        require(fits, "sizes", f"integers >= 1 of sum {units}", sizes)
        require(model.keeps_units, "model", "an order that keeps patches whole", model.order)
        super().__init__(model.event, model.hyperparameters)
        self.model, self.sizes = model, tuple(sizes)
        self.scores_in_autocast = model.scores_in_autocast
        self._rebuild()

    def _rebuild(self) -> None:
        steps = torch.tensor(self.sizes, device=self.device)
        self.register_buffer("steps", steps, persistent=False)  # a part of the fingerprint

    def __repr__(self) -> str:
        """Name the model and the steps."""
        return f"InSteps({self.model!r}, {list(self.sizes)})"

    @property
    def num_evaluations(self) -> int:
        """One per step."""
        return len(self.sizes)

    @property
    def schedule(self) -> tuple[Tensor, ...]:
        """A block per step, or per step and place of its patches."""
        units = self.model.order.view(-1, self.model.places)
        return tuple(block for step in units.split(self.sizes) for block in step.t().contiguous())

    def _logits(self, x: Tensor, condition: Tensor | None) -> Iterator[Tensor]:
        """Yield the logits of each block, (batch, block, k), given what x then has before it."""
        caches, model = self.model._caches(), self.model
        for size, end in zip(self.sizes, itertools.accumulate(self.sizes), strict=True):
            with self._scoring_precision():
                told = model._ask(x, end - size, end, condition, caches)
            for place in range(model.places):
                yield model._answer(told, x, end - size, end, place).to(self.dtype)

    def _conditionals(self, x: Tensor, condition: Tensor | None) -> Distribution:
        logits = torch.cat(list(self._logits(x.flatten(1).long(), condition)), 1)
        logits = logits[:, torch.cat(self.schedule).argsort()]
        return reshape(level_features.conditionals(logits, self.event), x.shape)

    def _decoder(self, batch: int, condition: Tensor | None) -> Decoder:
        return StepsDecoder(self, batch, condition)


class StepsDecoder(Decoder):
    """Asks the network once per step."""

    def __init__(self, model: InSteps, batch: int, condition: Tensor | None) -> None:
        super().__init__(model.schedule, batch)
        self.event, self.x = model.event, model._blank(batch)
        self.logits = model._logits(self.x, condition)

    def _next(self, block: Tensor) -> Distribution:
        if self._computed != self.position:
            self.following = next(self.logits)
        return level_features.conditionals(self.following, self.event, block)

    def _push(self, block: Tensor, values: Tensor) -> None:
        self.x[:, block] = values.to(self.x.dtype)


def _any_order(model: AutoregressiveModel) -> AnyOrderModel:
    expected = "deep_nade, conv_nade or any_order_transformer"
    require(isinstance(model, AnyOrderModel), "model", expected, type(model).__name__)
    return cast(AnyOrderModel, model)
