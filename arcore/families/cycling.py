"""Models of several masks or orders by the same weights, which training takes in turn."""

import abc
from typing import Any, Self

import torch

from arcore.derived_buffers import shared
from arcore.ensembles import Ensemble
from arcore.model import AutoregressiveModel
from arcore.primitives.checks import require, require_seed


class CyclingModel(AutoregressiveModel):
    """Base of models whose masks (and with them orders) are a function of a step.

    A step of training takes the next mask of a list, or a fresh draw of (seed, step). `member(i)`
    is the model under mask i, sharing the weights, and `ensemble(n)` mixes n of them as joints. The
    model itself scores and samples under the first. A subclass defines `_take`.
    """

    _own: tuple[Any, ...] = (0,)  # what `_take` is given for the model itself
    _taken: tuple[Any, ...] = _own

    def _set_members(self, count: int) -> None:
        """Cycle over a list of masks, or draw fresh ones where the count is 0."""
        self.num_members, self.max_members = max(1, count), count or None
        self.changes_by_step = count != 1

    @abc.abstractmethod
    def _take(self, index: int, seed: int | None = None) -> None:
        """Take mask `index` of the list, or the draw of (seed, index)."""

    @torch.inference_mode(False)  # training may follow what is evaluated
    def _follow(self, *taken: Any) -> None:
        self._taken = taken
        self._take(*taken)

    def _rebuild(self) -> None:
        self._follow(*self._own)

    def _set_step(self, seed: int, step: int) -> None:
        if self.changes_by_step:
            count = self.max_members
            self._follow(*((step, seed) if count is None else (step % count,)))

    def _step_state(self) -> object:
        return self._taken

    def _restore(self, state: Any) -> None:
        self._follow(*state)

    def train(self, mode: bool = True) -> Self:
        """Switch between training and evaluation, which restores the model's own mask."""
        super().train(mode)
        if not mode and self.changes_by_step:
            self._rebuild()
        return self

    def member(self, index: int) -> Self:
        """Return the model under mask `index` of the list; it shares this model's weights."""
        require_seed(index, "index")
        count = self.max_members
        require(count is None or index < count, "index", f"a mask in [0, {count})", index)
        return self._view(index)

    def _view(self, *own: Any) -> Self:
        view = shared(self)
        view._own, view.changes_by_step = own, False
        view._rebuild()
        return view

    def ensemble(self, num_members: int) -> AutoregressiveModel:
        """Return the mixture of the model under its first `num_members` masks."""
        super().ensemble(num_members)
        if self.max_members == 1:
            return self
        return Ensemble(self.member(index) for index in range(num_members))
