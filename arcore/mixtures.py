"""Weighted mixtures of different models over the same event, and their weights."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, cast

import torch
from torch import Tensor

from arcore.ensembles import Ensemble, register_weights, require_compatible
from arcore.events import Event
from arcore.hyperparameters import CONDITION_FIELDS, Hyperparameters, build_hyperparameters
from arcore.model import AutoregressiveModel
from arcore.models import name_of
from arcore.primitives.checks import require, require_int
from arcore.primitives.precision import at_least_float32
from arcore.symmetries import IDENTITY, Transformed, require_symmetries

Create = Callable[..., AutoregressiveModel]  # as `arcore.create_model`


@dataclasses.dataclass(frozen=True, kw_only=True)
class MixtureConfig(Hyperparameters):
    """What a mixture, or a pool, is rebuilt from.

    Attributes:
        members: of each, `name`, its hyperparameters, and `num_members`: under how many of its
            masks or orderings it joins (1 where that is left out, and in a pool; None for as many
            as it has).
        symmetries: under which of `arcore.symmetries.SYMMETRIES` each member joins.
    """

    members: tuple[Mapping[str, Any], ...] = ()
    symmetries: tuple[str, ...] = IDENTITY

    def asked_conditions(self) -> dict[str, Any]:
        """Return the conditions that any of the members asks for."""
        given: dict[str, Any] = {}
        for member in self.members:
            asked = {name: member.get(name) for name in CONDITION_FIELDS}
            given |= {name: value for name, value in asked.items() if value is not None}
        return given

    def to_dict(self) -> dict[str, Any]:
        """Return plain types, without symmetries where there is none but the identity."""
        described = super().to_dict()
        return described if self.symmetries != IDENTITY else {"members": described["members"]}


class Mixture(Ensemble):
    """A mixture of models: ln p(x) = logsumexp_k (ln p_k(x) + ln w_k), per example, in nats.

    Members may be of any kind, and ensembles of one model's masks or orderings. A member that takes
    no condition is not given the one that others take. As in any `Ensemble` there is no decoder,
    and a sample is drawn from a member, here by the weights.

    Of a member with latents, p(x | z) p(z) / q(z | x) for one draw of z stands for p_k(x), which is
    its mean: `log_prob` is then a bound. (A mixture of ELBOs could lie above.)

    Reference:
        Smyth and Wolpert, "Linearly combining density estimators via stacking", Machine Learning
        36, 1999.

    Arguments:
        members: at least one model; all over the same event.
        weights: (members,) not negative, of sum 1; None for equal ones. They are saved. With
            several symmetries there is one for each of the first member, then of the second, ...
        num_members: for each member, under how many of its masks or orderings it joins (None: as
            many as it has); None for the models themselves.
        symmetries: of images, under which each member joins (see `arcore.Transformed`): with
            identity and mirror, p(x) and p(mirror x) of each are mixed.

    Raises:
        ValueError: for no members, members over different events, given different conditions or of
            different dtypes, weights that are none, or symmetries that the event does not have.

    Example:
        >>> import torch, arcore
        >>> event = arcore.events.Binary((3,))
        >>> pair = [arcore.create_model(name, event) for name in ("nade", "made")]
        >>> arcore.Mixture(pair, torch.tensor([0.25, 0.75])).log_prob(torch.zeros(2, 3)).shape
        torch.Size([2])
    """

    weights: Tensor

    def __init__(
        self,
        members: Iterable[AutoregressiveModel],
        weights: Tensor | None = None,
        num_members: Sequence[int | None] | None = None,
        symmetries: Sequence[str] = IDENTITY,
    ) -> None:
        members = require_compatible(members)
        require_symmetries(symmetries, members[0].event)
        fits = num_members is None or isinstance(num_members, Sequence)
        require(fits, "num_members", "a number for each member", num_members)
        given = [1] * len(members) if num_members is None else list(num_members)
        require(len(given) == len(members), "num_members", f"{len(members)} numbers", given)
        counts = [
            member.num_members if count is None else count
            for member, count in zip(members, given, strict=True)
        ]
        for member, count in zip(members, counts, strict=True):
            require_int(count, "num_members", 1)
            if count > 1:
                member.ensemble(count)
        described = describe_members(members, counts)
        self.counts, self.symmetries = tuple(counts), tuple(symmetries)
        self._combine(members, dataclasses.replace(described, symmetries=self.symmetries))
        register_weights(self, weights)

    def __len__(self) -> int:
        """Return the number of weights: one for each member under each symmetry."""
        return len(self.members) * len(self.symmetries)

    def __iter__(self) -> Iterator[AutoregressiveModel]:
        """Iterate over what is mixed: members, or their ensembles, under each symmetry."""
        for member, count in zip(self.members, self.counts, strict=True):
            assert isinstance(member, AutoregressiveModel)
            one = member if count == 1 else member.ensemble(count)
            for name in self.symmetries:
                yield one if name == "identity" else Transformed(one, name)

    def member_log_probs(
        self, x: Tensor, condition: Tensor | None = None, scored: Tensor | None = None
    ) -> Tensor:
        """Return ln p(x | condition), (batch, 1): members of unequal weight are no ensemble's."""
        return self._scores(x, condition, scored)[:, None]

    def _score(self, member: AutoregressiveModel, x: Tensor, condition: Tensor | None) -> Tensor:
        return member._log_estimate(x, condition)

    def _averaged(self, each: Tensor) -> Tensor:
        return torch.logsumexp(self._weighted(each), 1).to(each.dtype)

    def _weighted(self, each: Tensor) -> Tensor:
        weights = self.weights.to(at_least_float32(self.weights.dtype))  # of sum 1 but for rounding
        return each + weights.log() - weights.sum().log()

    def _draw_members(self, n: int, generator: torch.Generator | None) -> Tensor:
        if n == 0:
            return torch.zeros(0, dtype=torch.int64, device=self.device)
        weights = self.weights.to(at_least_float32(self.weights.dtype))
        return torch.multinomial(weights, n, True, generator=generator)

    def of_length(self, length: int) -> Mixture:
        """Return the mixture of the members for events of one length."""
        members = [cast(AutoregressiveModel, member).of_length(length) for member in self.members]
        return Mixture(members, self.weights, self.counts, self.symmetries)


def create(event: Event, hyperparameters: Mapping[str, object], create_member: Create) -> Mixture:
    """Mix new models with equal weights; see `MixtureConfig.members`."""
    members, counts = new_members("mixture", event, hyperparameters, create_member)
    symmetries = cast(Sequence[str], hyperparameters.get("symmetries", IDENTITY))
    return Mixture(members, num_members=counts, symmetries=symmetries)


def new_members(
    name: str, event: Event, hyperparameters: Mapping[str, object], create_member: Create
) -> tuple[list[AutoregressiveModel], list[int | None]]:
    """Create the members of a mixture or a pool, and return them with their numbers of members."""
    config = build_hyperparameters(MixtureConfig, hyperparameters, name)
    described = config.to_dict()["members"]
    require(isinstance(described, (list, tuple)), "members", "a list of models", described)
    members, counts = [], []
    for member in described:
        fits = isinstance(member, Mapping) and isinstance(member.get("name"), str)
        fits = fits and all(isinstance(key, str) and key != "event" for key in member)
        require(fits, "members", "mappings of a name and hyperparameters", member)
        fields = dict(member)
        counts.append(fields.pop("num_members", 1))
        members.append(create_member(fields.pop("name"), event, **fields))
    return members, counts


@torch.no_grad()
def fit_weights(
    log_probs: Tensor, tolerance: float = 1e-8, max_iterations: int = 10_000
) -> tuple[Tensor, list[float]]:
    """Fit a mixture's weights to held-out rows by expectation maximisation.

    Each iteration sets w_k to the mean over rows of w_k p_k(x) / sum_j w_j p_j(x). The likelihood
    is concave in the weights, so that what it climbs to is the maximum.

    Reference:
        Smyth and Wolpert, Machine Learning 36, 1999.

    Arguments:
        log_probs: (rows, members) ln p_k of each row, in nats, finite.
        tolerance: ends when an iteration gains less, in nats for a row.
        max_iterations: ends anyway.

    Returns:
        (members,) float64 weights, and the mean nats before each iteration and at the end.

    Example:
        >>> weights, nats = fit_weights(torch.tensor([[-1.0, -2.0], [-3.0, -1.0]]))
        >>> round(float(weights.sum()), 6), nats[-1] <= nats[0]
        (1.0, True)
    """
    fits = log_probs.ndim == 2 and min(log_probs.shape) > 0 and bool(log_probs.isfinite().all())
    require(fits, "log_probs", "finite (rows, members)", tuple(log_probs.shape))
    require_int(max_iterations, "max_iterations", 1)
    log_probs = log_probs.double()
    weights = torch.full_like(log_probs[0], 1 / log_probs.shape[1])
    history: list[float] = []
    for iteration in range(max_iterations + 1):
        joint = log_probs + weights.log()
        total = torch.logsumexp(joint, 1)
        history.append(-float(total.mean()))
        gained = history[-2] - history[-1] if iteration else math.inf
        if gained < tolerance or iteration == max_iterations:
            break
        weights = (joint - total[:, None]).exp().mean(0)
        weights /= math.fsum(weights.tolist())
    return weights, history


def describe_members(
    members: Sequence[AutoregressiveModel], counts: Sequence[int]
) -> MixtureConfig:
    """Return what the members are rebuilt from; `counts` are their masks or orderings."""
    described = []
    for member, count in zip(members, counts, strict=True):
        name = name_of(type(member)) or type(member).__name__
        fields = member.hyperparameters.to_dict()
        described.append({"name": name, "num_members": count, **fields})
    return MixtureConfig(members=tuple(described))
