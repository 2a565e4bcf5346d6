"""Logarithmic pools: models of one schedule, whose conditionals are multiplied, and the weights."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

import torch
from torch import Tensor
from torch.distributions import Bernoulli, Distribution

from arcore.decoding import Decoder
from arcore.distributions.discrete import Bits, Softmax
from arcore.distributions.drawing import DISCRETE, DISCRETE_NAMES
from arcore.ensembles import Combination, condition_for, register_weights, require_compatible
from arcore.events import Event, Levels
from arcore.mixtures import Create, describe_members, new_members
from arcore.model import AutoregressiveModel
from arcore.primitives.checks import require, require_int, require_levels

SWEEPS = 1000  # over the weights, in the quadratic problem of one of Newton's steps
HALVINGS = 30
RIDGE = 1e-9  # of the mean curvature: weights that change nothing stay
SETTLED = 1e-12  # weights that change by less have been found
VALUES_AT_ONCE = 1 << 21  # double-precision logits of which derivatives are taken together


class Pool(Combination):
    """A product of conditionals: p(x_d | x_<d) = prod_k p_k(x_d | x_<d)^w_k / Z_d(x_<d).

    Members share a schedule, so that each conditional is normalised over its own levels alone, and
    the pool keeps the whole contract: exact likelihoods, a decoder, the coder. It may score an
    event above all of its members, where a `Mixture` is never above the best. A member that takes
    no condition is not given what others take.

    Reference:
        Genest and Zidek, "Combining probability distributions", Statistical Science 1, 1986;
        Klakow, "Log-linear interpolation of language models", ICSLP 1998, of conditionals.

    Arguments:
        members: at least one exact model; all over the same levels of one length, with one
            schedule.
        weights: (members,) finite, not negative, of any sum; None for equal ones of sum 1. They are
            saved.

    Raises:
        ValueError: as for `Mixture`, and for events without levels, or members of different
            schedules.

    Example:
        >>> import torch, arcore
        >>> event = arcore.events.Binary((3,))
        >>> pair = [arcore.create_model(name, event) for name in ("nade", "made")]
        >>> pool = arcore.Pool(pair, torch.tensor([0.5, 0.7]))
        >>> pool.log_prob(torch.zeros(2, 3)).shape, pool.sample(4).shape
        (torch.Size([2]), torch.Size([4, 3]))
    """

    weights: Tensor
    sum_to_one = False

    def __init__(
        self, members: Iterable[AutoregressiveModel], weights: Tensor | None = None
    ) -> None:
        members = require_compatible(members)
        event = members[0].event
        require(isinstance(event, Levels), "members", "models over levels", event)
        require(not event.is_open, "members", "models over events of one length", event)
        for member in members:
            require(member.exact, "members", "models with an exact likelihood", member)
        self._combine(members, describe_members(members, [1] * len(members)))
        fields = [member.receptive_field for member in members]
        known = [field for field in fields if field is not None]
        self.receptive_field = max(known) if len(known) == len(fields) else None
        self._require_one_schedule()
        register_weights(self, weights)

    def _require_one_schedule(self) -> None:
        for member in self:
            fits = _is_same(member.schedule, self.schedule)
            require(fits, "members", "models of one schedule (the same ordering)", member)

    @property
    def schedule(self) -> tuple[Tensor, ...]:
        """The schedule that all members have."""
        return next(iter(self)).schedule

    @property
    def num_evaluations(self) -> int | None:
        """Evaluations of all members' networks; None where each has as many as there are blocks."""
        each = [member.num_evaluations for member in self]
        if not any(each):
            return None
        return sum(count or len(self.schedule) for count in each)

    def member_logits(self, x: Tensor, condition: Tensor | None = None) -> Tensor:
        """Return ln p_k(v | x_<d) + c of each member, (batch, *event.shape, levels, members).

        What `fit_pool` fits weights to. The constants c are the same for all levels v.
        """
        self._check(x, condition)
        each = [_log_odds(one, self._is_binary) for one in self._each(x, condition)]
        logits = torch.stack(each, -1)
        if not self._is_binary:
            return logits
        return torch.stack([torch.zeros_like(logits), logits], -2)

    def _conditionals(self, x: Tensor, condition: Tensor | None) -> Distribution:
        return self.pooled(self._each(x, condition))

    def _each(self, x: Tensor, condition: Tensor | None) -> list[Distribution]:
        return [member._conditionals(x, condition_for(member, condition)) for member in self]

    def pooled(self, each: Sequence[Distribution]) -> Distribution:
        """Return the normalised product of the members' conditionals, one distribution a member."""
        logits = sum(
            weight * _log_odds(one, self._is_binary)
            for weight, one in zip(self.weights, each, strict=True)
        )
        if self._is_binary:
            return Bits(logits=logits, validate_args=False)  # type: ignore[arg-type]
        return Softmax(logits)  # type: ignore[arg-type]

    @property
    def _is_binary(self) -> bool:
        assert isinstance(self.event, Levels)
        return self.event.num_levels == 2

    def _decoder(self, batch: int, condition: Tensor | None) -> Decoder:
        return PoolDecoder(self, batch, condition)

    def _may_overflow(self) -> bool:
        enlarge = bool(self.weights.sum() > 2)  # what has a headroom of e^8
        return enlarge or any(member._may_overflow() for member in self)

    def _rebuild(self) -> None:
        super()._rebuild()
        self._require_one_schedule()


def create(event: Event, hyperparameters: Mapping[str, object], create_member: Create) -> Pool:
    """Pool new models with equal weights; see `MixtureConfig.members`."""
    members, counts = new_members("pool", event, hyperparameters, create_member)
    symmetries = hyperparameters.get("symmetries")
    require(symmetries is None, "symmetries", "none of a pool (its members draw in one order)",
            symmetries)  # fmt: skip
    require(counts == [1] * len(counts), "num_members", "1 for each member of a pool", counts)
    return Pool(members)


class PoolDecoder(Decoder):
    """Has each member's decoder compute its conditional, and pools them."""

    def __init__(self, pool: Pool, batch: int, condition: Tensor | None) -> None:
        super().__init__(pool.schedule, batch)
        self.pool = pool
        self.members = [m.decoder(batch, condition_for(m, condition)) for m in pool]

    def _next(self, block: Tensor) -> Distribution:
        return self.pool.pooled([member.next() for member in self.members])

    def _push(self, block: Tensor, values: Tensor) -> None:
        for member in self.members:
            member.push(values)


def _log_odds(conditional: Distribution, is_binary: bool) -> Tensor:
    """Return ln p(v) + c, (*batch, levels); of two levels ln p(1) - ln p(0), (*batch,)."""
    kind = type(conditional)
    require(kind in DISCRETE, "conditionals", DISCRETE_NAMES, kind.__name__)
    logits: Tensor = conditional.logits  # type: ignore[attr-defined]
    if is_binary and not issubclass(kind, Bernoulli):
        return logits[..., 1] - logits[..., 0]
    return logits


def _is_same(schedule: Sequence[Tensor], other: Sequence[Tensor]) -> bool:
    if [block.shape for block in schedule] != [block.shape for block in other]:
        return False
    is_known = all(block.device.type != "meta" for block in (*schedule, *other))
    return not is_known or all(map(torch.equal, schedule, other))


@torch.no_grad()
def fit_pool(
    batches: Sequence[tuple[Tensor, Tensor]], tolerance: float = 1e-9, max_iterations: int = 50
) -> tuple[Tensor, list[float]]:
    """Fit a pool's weights to held-out rows by Newton's method, none below zero.

    Minus ln p is convex in the weights:

        d/dw_k = E_p[ln p_k] - ln p_k(x_d),    d2/dw_j dw_k = Cov_p[ln p_j, ln p_k].

    A step goes to the minimum of the quadratic on weights that are not negative, found by
    coordinates, and is halved until it is no step up.

    Arguments:
        batches: of (logits, x): (..., levels, members) as from `Pool.member_logits`, and the (...)
            levels of the rows.
        tolerance: ends when a step gains less, in nats for a conditional.
        max_iterations: ends anyway.

    Returns:
        (members,) float64 weights, and the mean nats of a conditional before each step and last.

    Example:
        >>> logits = torch.tensor([[0.0, 2.0], [0.0, 2.0], [0.0, 2.0]])[..., None]
        >>> weights, nats = fit_pool([(logits, torch.tensor([1, 1, 0]))])  # p(1) = 2/3
        >>> round(float(weights), 4), round(nats[-1], 4)
        (0.3466, 0.6365)
    """
    require(bool(batches), "batches", "at least one", len(batches))
    require_int(max_iterations, "max_iterations", 1)
    count = batches[0][0].shape[-1]
    for logits, x in batches:
        fits = logits.ndim > 2 and logits.shape[-1] == count and x.shape == logits.shape[:-2]
        expected = f"(..., levels, {count}) logits and (...) levels"
        require(fits, "batches", expected, (tuple(logits.shape), tuple(x.shape)))
        require(x.numel() > 0, "batches", "a row at least in each", "none")
        require_levels(x, logits.shape[-2], "batches")
        require(bool(logits.isfinite().all()), "batches", "finite logits", "others")
    weights = torch.full((count,), 1 / count, dtype=torch.float64, device="cpu")
    nats, gradient, curvature = _derivatives(batches, weights)
    history = [nats]
    for _ in range(max_iterations):
        goal = _minimum(weights, gradient, curvature)
        for halving in range(HALVINGS):
            tried = weights + (goal - weights) / 2**halving
            found = _derivatives(batches, tried)
            if found[0] <= nats:
                break
        else:
            break
        weights, (nats, gradient, curvature) = tried, found
        history.append(nats)
        if history[-2] - nats < tolerance:
            break
    return weights, history


def _derivatives(
    batches: Sequence[tuple[Tensor, Tensor]], weights: Tensor
) -> tuple[float, Tensor, Tensor]:
    """Return the mean nats of a conditional, and its first and second derivatives."""
    nats, total = 0.0, 0
    gradient = torch.zeros_like(weights)
    curvature = weights.new_zeros(len(weights), len(weights))
    for features, levels in _parts(batches):
        log_p = torch.log_softmax(features @ weights, -1)
        p = log_p.exp()
        mean = torch.einsum("nv,nvk->nk", p, features)
        seen = features[torch.arange(len(levels), device=levels.device), levels]
        centred = features - mean[:, None]
        nats -= float(log_p.gather(1, levels[:, None]).sum())
        gradient += (mean - seen).sum(0)
        curvature += torch.einsum("nv,nvj,nvk->jk", p, centred, centred)
        total += len(levels)
    return nats / total, gradient / total, curvature / total


def _parts(batches: Sequence[tuple[Tensor, Tensor]]) -> Iterator[tuple[Tensor, Tensor]]:
    """Give (conditionals, levels, members) logits of mean zero over levels, with those seen."""
    for logits, x in batches:
        flat, levels = logits.flatten(0, -3), x.flatten().long().cpu()
        count = max(1, VALUES_AT_ONCE // flat[0].numel())
        for part, seen in zip(flat.split(count), levels.split(count), strict=True):
            features = part.double().cpu()
            yield features - features.mean(1, keepdim=True), seen


def _minimum(start: Tensor, gradient: Tensor, curvature: Tensor) -> Tensor:
    """Minimise g (w - start) + (w - start) H (w - start) / 2 over w >= 0, by coordinates."""
    smallest = torch.finfo(curvature.dtype).tiny
    ridge = RIDGE * curvature.diagonal().mean() + smallest
    curvature = curvature.clone()
    curvature.diagonal().add_(ridge)
    weights = start.clone()
    for _ in range(SWEEPS):
        before = weights.clone()
        for k in range(len(weights)):
            slope = gradient[k] + curvature[k] @ (weights - start)
            weights[k] = (weights[k] - slope / curvature[k, k]).clamp_min(0)
        if float((weights - before).abs().max()) < SETTLED:
            break
    return weights
