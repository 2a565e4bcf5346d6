"""Models that score exactly under any ordering of an event's dimensions, and their ensembles."""

from __future__ import annotations

import abc
import math
from typing import Any, ClassVar, Self

from torch import Tensor

from arcore.derived_buffers import shared
from arcore.ensembles import Ensemble
from arcore.events import Event, Levels, is_table
from arcore.families.ordered import OrderedModel
from arcore.primitives import orderings
from arcore.primitives.checks import require_seed


class AnyOrderModel(OrderedModel):
    """Base of models that have a joint distribution for each ordering, all by the same weights.

    `log_prob`, `conditionals` and `sample` follow the model's own ordering, `under(order)` is the
    model under another, and `ensemble(n)` averages n (EoNADE). Hyperparameters name the
    `num_orderings` that an evaluation takes, besides what `OrderedModel` has.

    A cell of a table may be NaN in training: `forward` and `validation_loss` are of the known cells
    of each row, exactly, since unknown ones may come last.

    A unit is what `arcore.inference.parallel_steps` draws several of at once: a dimension, or a
    patch of `places` dimensions.
    """

    places: int = 1

    supports: ClassVar[tuple[type[Event], ...]] = (Levels,)
    takes_uneven_levels = True
    max_members = None
    gives_marginals = True
    orders = "any"

    def under(self, order: Tensor) -> Self:
        """Return the model under an ordering, (D,) int64; it shares this model's weights."""
        orderings.require_permutation(order, self.event.size)
        view = shared(self)
        view._put_under(order)
        return view

    def member(self, index: int) -> Self:
        """Return the model under ordering `index`; it shares this model's weights.

        Ordering 0 is the named one; the others are random, functions of (ordering_seed, index).
        """
        require_seed(index, "index")
        if index == 0:
            return self.under(self._named_ordering())
        seed = self.hyperparameters.ordering_seed * 1_000_003 + index  # type: ignore[attr-defined]
        return self.under(self._random_ordering(seed))

    def _random_ordering(self, seed: int) -> Tensor:
        return orderings.random_ordering(self.event.size, seed)

    def ensemble(self, num_members: int) -> Ensemble:
        """Return the mixture of the model under its first `num_members` orderings."""
        super().ensemble(num_members)
        return Ensemble(self.member(index) for index in range(num_members))

    @property
    def keeps_units(self) -> bool:
        """Whether the model's order cuts no unit."""
        return True

    @abc.abstractmethod
    def log_marginal(self, x: Tensor, observed: Tensor, condition: Tensor | None = None) -> Tensor:
        """Return ln p(x_observed | condition), (batch,), in nats, whatever the rest may be.

        It is exact for orderings in which the observed dimensions come first, and in the model's
        own order among each other.

        Arguments:
            x: (batch, *event.shape); values where `observed` is False are ignored.
            observed: bool, of x's shape or of the event's.
        """

    def _known_cells(self, flat: Tensor) -> tuple[Tensor, Tensor | None]:
        """Split rows (batch, D) of a table into their cells, 0 for NaN, and which are known."""
        if not is_table(self.event):
            return flat, None
        return flat.nan_to_num(0.0, math.inf, -math.inf), ~flat.isnan()

    def _caches(self) -> list[Any]:
        """Return empty caches of what `_ask` has taken in, none for most models."""
        return []

    @abc.abstractmethod
    def _ask(
        self, x: Tensor, first: int, end: int, condition: Tensor | None, caches: list[Any]
    ) -> Tensor:
        """Return what one pass tells of units [first, end) of the order given those before.

        Arguments:
            x: (batch, D) levels.
            caches: of all units before earlier values of `first`, which come in order.
        """

    def _answer(self, told: Tensor, x: Tensor, first: int, end: int, place: int) -> Tensor:
        """Return the logits of a place of these units, (batch, units, k), given earlier places."""
        return told
