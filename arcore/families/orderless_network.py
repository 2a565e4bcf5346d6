"""Networks of orderless models: hyperparameters, and what is kept of observed dimensions."""

from __future__ import annotations

import abc
import dataclasses

from torch import Tensor

from arcore.hyperparameters import Hyperparameters
from arcore.layers import level_features
from arcore.layers.incremental_mlp import ACTIVATIONS
from arcore.primitives import orderings
from arcore.primitives.checks import (
    require_bool,
    require_dropout,
    require_int,
    require_one_of,
    require_sizes,
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class OrderlessConfig(Hyperparameters):
    """Hyperparameters that orderless models share.

    Arguments:
        hidden: units of each hidden layer of the dense network.
        activation: relu or tanh.
        dropout: probability of dropping a hidden unit in training.
        mask_inputs: tell the network which dimensions are observed, by a second input for each.
        ordering: a name of `arcore.orderings.ORDERINGS`, under which the model scores and samples
            (training takes all orderings alike); `ordering_seed` serves `random` and the members.
        num_orderings: orderings whose mixture is scored where an evaluation asks for all.
        inputs: scaled (one weight per dimension) or one_hot (one weight per level but the lowest).
        num_classes: classes of an optional condition, which shifts the first hidden layer and
            the outputs.
        condition_size: length of a vector that is the condition instead.
    """

    hidden: tuple[int, ...] = (500, 500)
    activation: str = "relu"
    dropout: float = 0.0
    mask_inputs: bool = True
    ordering: str = "random"
    ordering_seed: int = 0
    num_orderings: int = 1
    inputs: str = "scaled"
    num_classes: int | None = None
    condition_size: int | None = None

    @property
    def condition_rows(self) -> int | None:
        """Numbers of a condition: classes, or the length of a vector; None without one."""
        return self.num_classes or self.condition_size

    def __post_init__(self) -> None:
        require_sizes(self.hidden, "hidden", empty=True)
        require_one_of(self.activation, "activation", ACTIVATIONS)
        require_dropout(self.dropout)
        require_bool(self.mask_inputs, "mask_inputs")
        orderings.require_ordering(self.ordering, self.ordering_seed)
        require_int(self.num_orderings, "num_orderings", 1)
        level_features.require_encoding(self.inputs)


class ObservedState(abc.ABC):
    """What an orderless model keeps of the observed dimensions, so that one more is cheap."""

    @abc.abstractmethod
    def observe(self, dimension: int, inputs: Tensor) -> None:
        """Observe one dimension, its inputs (batch, features); zeros leave it missing."""

    @abc.abstractmethod
    def logits(self, dimension: int) -> Tensor:
        """Return the logits of one dimension given those observed, (batch, logits)."""
