"""Averages of models over orderings, masks or separate trainings."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.distributions import Categorical, Distribution

from arcore import generation
from arcore.conditions import Condition
from arcore.decoding import Decoder
from arcore.distributions.drawing import SamplingOptions, draw
from arcore.events import Gray
from arcore.hyperparameters import Hyperparameters
from arcore.model import AutoregressiveModel
from arcore.primitives.checks import require, require_dense
from arcore.primitives.dropout import without_dropout

SHOWN = 4


class Combination(AutoregressiveModel):
    """A model of several models of the same event, its members."""

    members: nn.ModuleList
    sum_to_one: bool = True  # what weights of members do

    def _combine(
        self, members: Sequence[AutoregressiveModel], hyperparameters: Hyperparameters
    ) -> None:
        """Build the model from members that `require_compatible` has checked."""
        event = members[0].event
        self.supports = (type(event),)  # type: ignore[misc]
        super().__init__(event, hyperparameters)
        for member in members:
            if member.condition_kind is not None:
                self.condition_kind, self.hop = member.condition_kind, member.hop
                self.num_classes, self.num_symbols = member.num_classes, member.num_symbols
                break
        self.exact = all(member.exact for member in members)
        self.members = nn.ModuleList(members)

    def __len__(self) -> int:
        """Return the number of members."""
        return len(self.members)

    def __iter__(self) -> Iterator[AutoregressiveModel]:
        """Iterate over the members."""
        for member in self.members:
            assert isinstance(member, AutoregressiveModel)
            yield member

    def _rebuild(self) -> None:
        for member in self.members:
            member._rebuild()  # type: ignore[operator]


class Ensemble(Combination):
    """The uniform mixture of its members: ln p(x) = logsumexp_k ln p_k(x) - ln K, per example.

    Averaging logits, conditionals or log-likelihoods would not be the likelihood of any model.
    Members share an event but no schedule, so there are no joint conditionals and no decoder; a
    sample is drawn from one member, chosen for each example. Where members' likelihoods are only
    bounded, `log_prob` is the mean of their bounds, a bound too.

    Reference:
        Uria, Murray and Larochelle, "A Deep and Tractable Density Estimator", ICML 2014, sec. 4.

    Arguments:
        members: at least one model; all over the same event and kind of condition, in one
            dtype. They may share weights.

    Raises:
        ValueError: for no members, or members over different events or conditions.

    Example:
        >>> import torch, arcore
        >>> event = arcore.events.Binary((3,))
        >>> pair = [arcore.create_model("nade", event, ordering=o) for o in ("raster", "reverse")]
        >>> arcore.Ensemble(pair).log_prob(torch.zeros(2, 3)).shape
        torch.Size([2])
    """

    takes_uneven_levels = True  # as its members do
    generates = False

    def __init__(self, members: Iterable[AutoregressiveModel]) -> None:
        compatible = require_compatible(members, same_condition=True)
        self._combine(compatible, compatible[0].hyperparameters)

    def _combine(
        self, members: Sequence[AutoregressiveModel], hyperparameters: Hyperparameters
    ) -> None:
        super()._combine(members, hyperparameters)
        self.scores_parts = all(member.scores_parts for member in members)
        self.gives_marginals = all(member.gives_marginals for member in members)

    def member_log_probs(
        self, x: Tensor, condition: Tensor | None = None, scored: Tensor | None = None
    ) -> Tensor:
        """Return ln p_k(x | condition) of each member, (batch, members), in nats."""
        self._check(x, condition)
        self._check_scored(scored, x)
        return self._member_log_probs(x, condition, scored)

    def _member_log_probs(
        self, x: Tensor, condition: Tensor | None, scored: Tensor | None = None
    ) -> Tensor:
        pairs = [(member, condition_for(member, condition)) for member in self]
        if scored is None:
            each = [self._score(member, x, own) for member, own in pairs]
        else:
            each = [member._part_log_prob(x, own, scored) for member, own in pairs]
        return torch.stack(each, 1)

    def _score(self, member: AutoregressiveModel, x: Tensor, condition: Tensor | None) -> Tensor:
        """Return what is averaged of a member over whole events, (batch,)."""
        return member._log_prob(x, condition)

    def _num_steps(self, x: Tensor) -> int:
        counts = {member._num_steps(x) for member in self}
        require(len(counts) == 1, "scored", "None of members with other steps", sorted(counts))
        return counts.pop()

    def log_marginal(self, x: Tensor, observed: Tensor, condition: Tensor | None = None) -> Tensor:
        """Return ln p(x_observed | condition), (batch,), in nats, as `AnyOrderModel` does."""
        require(self.gives_marginals, "model", "members of any order", self)
        return self._averaged(self._evidence(x, observed, condition))

    def _evidence(self, x: Tensor, observed: Tensor, condition: Tensor | None) -> Tensor:
        """Return ln p_k(x_observed | condition) of each member, (batch, members)."""
        pairs = [(cast(Any, member), condition_for(member, condition)) for member in self]
        return torch.stack([member.log_marginal(x, observed, own) for member, own in pairs], 1)

    def _part_log_prob(self, x: Tensor, condition: Tensor | None, scored: Tensor) -> Tensor:
        """What counts is given all before it, which says how probable each member is.

        A window of a longer event is exact only if it begins with the event.
        """
        first, end = scored.unbind(1)
        until, before = (torch.stack([torch.zeros_like(cut), cut], 1) for cut in (end, first))
        whole = self._averaged(self._member_log_probs(x, condition, until))
        if not bool(first.any()):
            return whole
        return whole - self._averaged(self._member_log_probs(x, condition, before))

    def _log_prob(self, x: Tensor, condition: Tensor | None) -> Tensor:
        return self._averaged(self._member_log_probs(x, condition))

    def _averaged(self, each: Tensor) -> Tensor:
        """Return ln of the average of members' probabilities, (batch, members) to (batch,)."""
        if not self.exact:
            return each.mean(1)
        return torch.logsumexp(self._weighted(each), 1) - math.log(len(self))

    def _weighted(self, each: Tensor) -> Tensor:
        """Return ln of members' probabilities times their weights, but for a constant."""
        return each

    def of_length(self, length: int) -> Ensemble:
        """Return the ensemble of the members for events of one length."""
        return Ensemble(member.of_length(length) for member in self)

    def __repr__(self) -> str:
        """Name the members, one per line; the middle ones of many are left out."""
        lines = [f"  ({index}): {member!r}" for index, member in enumerate(self)]
        if len(lines) > 2 * SHOWN:
            left_out = f"  ... {len(lines) - 2 * SHOWN} more"
            lines = [*lines[:SHOWN], left_out, *lines[-SHOWN:]]
        return "\n".join([f"{type(self).__name__}({self.event}, members={len(self)},", *lines, ")"])

    def _refuse(self) -> ValueError:
        return ValueError(
            f"an ensemble of {len(self)} members has no schedule in common, hence no joint "
            "conditionals and no decoder; expected a single member, e.g. ensemble.members[0]"
        )

    def _conditionals(self, x: Tensor, condition: Tensor | None) -> Distribution:
        raise self._refuse()

    @property
    def schedule(self) -> tuple[Tensor, ...]:
        """Refused: members share no schedule."""
        raise self._refuse()

    def _decoder(self, batch: int, condition: Tensor | None) -> Decoder:
        raise self._refuse()

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
        """Draw n events, each from one member drawn by its weight; a bar is a member's."""
        generation.check_number(self, n)
        self._check_condition(condition, n)
        generation.check_generator(generator, self.device)
        drawn = self._blank(n).view(n, *self.event.extents)
        for member, rows in self._shares(self._draw_members(n, generator)):
            part = condition_for(member, condition, rows)
            drawn[rows] = member.sample(
                len(rows), part, generator, temperature, batch=batch, progress=progress
            )
        return drawn

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
        """Complete each example by a member drawn by its weight (see `AutoregressiveModel.impute`).

        Members of any order are drawn by their evidence for what is observed too, which gives the
        mixture's posterior. Of others this marginal is not tractable. Members are drawn for all
        rows first, so that parts of a batch alone give other draws.
        """
        observed = self._check_observed(x, observed).to(self.device)
        x = x.to(self.device)
        n = len(x)
        self._check_condition(condition, n)
        generation.check_options(self, SamplingOptions(generator, temperature))
        completed = self._blank(n).view(n, *self.event.extents)
        with without_dropout(self), self._scoring_precision():
            choice = self._choose(x, observed, condition, generator)
        for member, rows in self._shares(choice):
            part = condition_for(member, condition, rows)
            completed[rows] = member.impute(
                x[rows], observed[rows], part, generator, temperature, batch=batch
            )
        return completed

    def _choose(
        self,
        x: Tensor,
        observed: Tensor,
        condition: Tensor | None,
        generator: torch.Generator | None,
    ) -> Tensor:
        """Draw which member completes each example, (batch,)."""
        if not self.gives_marginals:
            return self._draw_members(len(x), generator)
        evidence = self._weighted(self._evidence(x, observed, condition))
        return draw(Categorical(logits=evidence, validate_args=False), generator)

    def _draw_members(self, n: int, generator: torch.Generator | None) -> Tensor:
        return torch.randint(len(self), (n,), generator=generator, device=self.device)

    def _shares(self, choice: Tensor) -> list[tuple[AutoregressiveModel, Tensor]]:
        shares = [(member, (choice == k).nonzero()[:, 0]) for k, member in enumerate(self)]
        return [(member, rows) for member, rows in shares if len(rows)]


def require_compatible(
    members: Iterable[AutoregressiveModel], *, same_condition: bool = False
) -> list[AutoregressiveModel]:
    """Return the members as a list if they model one event, in one dtype on one device.

    `same_condition` refuses members without a condition next to members with one.
    """
    require(isinstance(members, Iterable), "members", "models", members)
    members = list(members)
    require(bool(members), "members", "at least one model", members)
    for member in members:
        require(isinstance(member, AutoregressiveModel), "members", "models", member)
    first = members[0]
    conditions = [
        _condition_of(m) for m in members if m.condition_kind is not None or same_condition
    ]
    wanted = "models of likelihoods, which gray targets have not"
    require(not isinstance(first.event, Gray), "members", wanted, first)
    for member in members:
        require(member.event == first.event, "members", f"models over {first.event}", member.event)
        require(member.dtype == first.dtype, "members", f"{first.dtype}", member.dtype)
        require(member.device == first.device, "members", f"{first.device}", member.device)
        own = _condition_of(member)
        fits = own in conditions[:1] or (member.condition_kind is None and not same_condition)
        require(fits, "members", f"models given {conditions[:1]}", own)
    return members


def _condition_of(model: AutoregressiveModel) -> tuple[Condition | None, int]:
    """Return what a model takes as its condition, and the steps that a frame of it lasts."""
    return model.condition_kind, model.hop


def condition_for(
    member: AutoregressiveModel, condition: Tensor | None, rows: Tensor | None = None
) -> Tensor | None:
    """Return the condition (of some rows), or None for a member that takes none."""
    if condition is None or member.condition_kind is None:
        return None
    return condition if rows is None else condition[rows.to(condition.device)]


def register_weights(model: Combination, weights: Tensor | None) -> None:
    """Keep one weight per member with a model's own weights; equal ones of sum 1 for None."""
    if weights is None:
        weights = torch.full((len(model),), 1 / len(model))
    elif isinstance(weights, Tensor):
        require_dense(weights, "weights")
    require_weights(weights, model)
    weights = weights.detach().to(model.device, model.dtype).clone()
    require_weights(weights, model)
    model.register_buffer("weights", weights)


def require_weights(weights: Tensor, model: Combination, where: str = "weights") -> None:
    """Refuse weights that are not one per member; in a mixture they sum to 1."""
    count, sum_to_one = len(model), model.sum_to_one
    wanted = f"({count},) {'of sum 1' if sum_to_one else 'finite'}, none negative"
    fits = isinstance(weights, Tensor) and weights.shape == (count,)
    require(fits, where, wanted, getattr(weights, "shape", weights))
    require(weights.is_floating_point(), where, "floating point", weights.dtype)
    if weights.device.type == "meta":
        return
    fits = bool((weights.isfinite() & (weights >= 0)).all())
    if sum_to_one:
        off = abs(float(weights.double().sum()) - 1)
        fits = fits and off < max(1e-4, torch.finfo(weights.dtype).eps)
    require(fits, where, wanted, weights.tolist())
