"""What models share that draw one dimension after the other in an ordering of their own."""

import torch
from torch import Tensor

from arcore.events import Event
from arcore.hyperparameters import Hyperparameters
from arcore.model import AutoregressiveModel
from arcore.primitives import orderings


class OrderedModel(AutoregressiveModel):
    """Base of models whose hyperparameters name an `ordering` and an `ordering_seed`.

    A subclass calls `_rebuild` when its parameters are there.

    Attributes:
        order: (D,) the dimension drawn at each step.
        position: (D,) its inverse, the step of each dimension.
    """

    order: Tensor
    position: Tensor

    def __init__(self, event: Event, hyperparameters: Hyperparameters) -> None:
        super().__init__(event, hyperparameters)
        self._ordering = self._named_ordering()

    def _named_ordering(self) -> Tensor:
        p = self.hyperparameters
        return orderings.make_ordering(p.ordering, self.event.extents, p.ordering_seed)  # type: ignore[attr-defined]

    def _rebuild(self) -> None:
        places = orderings.inverse(self._ordering)
        for name, buffer in (("order", self._ordering), ("position", places)):
            self.register_buffer(name, buffer.to(self.device), persistent=False)

    @torch.inference_mode(False)  # training may follow
    def _put_under(self, order: Tensor) -> None:
        """Take another ordering, (D,) integers."""
        self._ordering = order.long().cpu().clone()
        self._rebuild()

    @property
    def schedule(self) -> tuple[Tensor, ...]:
        """One block per dimension, in the model's ordering."""
        return tuple(self.order.split(1))
