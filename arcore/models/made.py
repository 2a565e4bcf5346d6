"""MADE, the masked autoencoder for distribution estimation."""

from __future__ import annotations

import dataclasses
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.distributions import Distribution
from torch.nn.functional import linear

from arcore.decoding import Decoder
from arcore.events import Event, Levels, Table
from arcore.families.cycling import CyclingModel
from arcore.hyperparameters import CheckedHyperparameters
from arcore.layers import level_features
from arcore.layers.level_features import condition_weight, shifted
from arcore.layers.masked_linear import MaskedLinear
from arcore.primitives import masks, orderings
from arcore.primitives.checks import require
from arcore.primitives.dropout import dropout
from arcore.primitives.transfer import to_device

ACTIVATIONS = ("relu", "tanh", "sigmoid")


@dataclasses.dataclass(frozen=True, kw_only=True)
class MADEConfig(CheckedHyperparameters):
    """Hyperparameters of MADE.

    Arguments:
        hidden: units of each hidden layer.
        activation: relu, tanh or sigmoid.
        ordering: a name of `arcore.orderings.ORDERINGS`, the order of every mask that is not
            order-agnostic; `ordering_seed` serves `random`.
        num_masks: 1 trains one network with evenly spread degrees; K > 1 cycles over a list of K
            masks, one per minibatch; 0 draws fresh masks for every minibatch.
        order_agnostic: each mask of several has a random ordering of its own.
        connectivity_agnostic: each mask of several has random hidden degrees of its own.
        mask_seed: seed of the list of masks.
        direct: connect inputs to outputs directly, for 0.1 to 0.6 nats less on digits of 8 x 8; a
            training step of 500 units takes 1.3 to 1.5 times as long.
        conditioning_weights: tell units which inputs their mask shows them.
        dropout: probability of dropping a hidden unit in training.
        inputs: scaled (one weight per dimension) or one_hot (one weight per level but the lowest).
        num_classes: classes of an optional condition, which shifts the first hidden layer and
            the outputs.
        condition_size: length of a vector that is the condition instead.
    """

    hidden: tuple[int, ...] = (500,)
    activation: str = "relu"
    ordering: str = "raster"
    ordering_seed: int = 0
    num_masks: int = 1
    order_agnostic: bool = False
    connectivity_agnostic: bool = True
    mask_seed: int = 0
    direct: bool = True
    conditioning_weights: bool = False
    dropout: float = 0.0
    inputs: str = "scaled"
    num_classes: int | None = None
    condition_size: int | None = None
    choices = {"activation": ACTIVATIONS}
    least = {"num_masks": 0}

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.num_masks != 1:
            agnostic = self.order_agnostic or self.connectivity_agnostic
            what = "order_agnostic or connectivity_agnostic, for masks that differ"
            require(agnostic, "num_masks", f"1 without {what}", self.num_masks)
        elif self.order_agnostic:
            require(False, "num_masks", "0 or > 1 with order_agnostic", self.num_masks)


class MADE(CyclingModel):
    """Masked autoencoder over binary or k-level events, or rows of tables; log p(x) takes one pass.

    Input d has degree m0(d), its position 1..D in the ordering; hidden units draw degrees

        m_l(k') in [min m_{l-1}, D-1],  h_l = g(b_l + (W_l * M_l) h_{l-1}),
        M_l[k', k] = 1[m_l(k') >= m_{l-1}(k)],
        logits = c + (V * M_V) h_L + (A * M_A) x,  M_V[d, k] = 1[m0(d) > m_L(k)],

    and likewise for direct connections A. With several masks each call in training takes the
    next (see `set_step`), `member(i)` is the network under mask i (sharing the weights), and
    `ensemble(n)` averages the probabilities of n members. The model itself scores and samples under
    mask 0. One that was trained order-agnostically serves any ordering, `under(order)`.

    Reference:
        Germain, Gregor, Murray and Larochelle, "MADE: Masked Autoencoder for Distribution
        Estimation", ICML 2015, eq. 8-13 and section 4 (with orthogonal initial weights).

    Example:
        >>> import torch, arcore
        >>> model = arcore.create_model("made", arcore.events.Binary((6,)), hidden=[8], num_masks=4)
        >>> model.ensemble(4).log_prob(torch.zeros(2, 6)).shape  # nats
        torch.Size([2])
    """

    Config = MADEConfig
    supports = (Levels, Table)
    takes_uneven_levels = True
    has_hidden = True
    hyperparameters: MADEConfig
    order: Tensor

    def __init__(self, event: Event, hyperparameters: MADEConfig) -> None:
        super().__init__(event, hyperparameters)
        p = hyperparameters
        size, conditioning = event.size, p.conditioning_weights
        self.num_features = level_features.num_features(event, p.inputs)
        self.num_logits = level_features.num_logits(event)
        widths = [size * self.num_features, *p.hidden]
        self.hidden_layers = nn.ModuleList(
            MaskedLinear(a, b, conditioning) for a, b in zip(widths, widths[1:], strict=False)
        )
        self.output = MaskedLinear(widths[-1], size * self.num_logits, conditioning)
        if p.direct:
            self.direct = MaskedLinear(widths[0], size * self.num_logits, conditioning, bias=False)
        rows = p.num_classes or p.condition_size
        self.class_hidden = condition_weight(rows, widths[1])
        self.class_output = condition_weight(rows, size * self.num_logits)
        self._set_members(p.num_masks)
        if p.order_agnostic and p.num_masks == 0:  # each step of training had another one
            self.orders = "any"
        self._rebuild()

    def _hidden(self) -> list[MaskedLinear]:
        return cast(list[MaskedLinear], list(self.hidden_layers))

    # -- masks

    def under(self, order: Tensor) -> MADE:
        """Return the model under an ordering, (D,) int64; it shares this model's weights.

        Hidden units keep the degrees of its own mask, so that `member(i)` is the member
        under its own ordering. Every ordering gives a distribution that sums to 1, but one that no
        mask had in training a poor one where masks were few: with 8 of them, 106 and 114 nats of
        digits instead of 92. With fresh masks (num_masks 0) all orderings are alike.
        """
        what = "True, for a model that serves any ordering"
        is_agnostic = self.hyperparameters.order_agnostic
        require(is_agnostic, "order_agnostic", what, is_agnostic)
        orderings.require_permutation(order, self.event.size)
        return self._view(self._own[0], None, order.long().cpu())

    def _rebuild(self) -> None:
        self.degrees: list[Tensor] = []  # all masks are made again
        super()._rebuild()

    def _masked_layers(self) -> list[MaskedLinear]:
        direct = [self.direct] if self.hyperparameters.direct else []
        return [*self._hidden(), self.output, *direct]

    def _step_state(self) -> object:
        kept = [(layer.mask, layer.reaches) for layer in self._masked_layers()]
        return self.order, self.positions, self.degrees, kept

    def _restore(self, state: Any) -> None:
        self.order, self.positions, self.degrees, kept = state
        for layer, (mask, reaches) in zip(self._masked_layers(), kept, strict=True):
            layer.mask, layer.reaches = mask, reaches

    def _take(self, index: int, seed: int | None = None, given: Tensor | None = None) -> None:
        """Set the masks of draw `index`, of a given order if any, on every rank the same."""
        p, size, present = self.hyperparameters, self.event.size, self.degrees
        seed = p.mask_seed if seed is None else seed
        generator = torch.Generator().manual_seed(seed * 1_000_003 + index)
        several = p.num_masks != 1
        order = orderings.make_ordering(p.ordering, self.event.extents, p.ordering_seed)
        if several and p.order_agnostic:
            order = order[torch.randperm(size, generator=generator, device=orderings.CPU)]
        if given is not None:
            order = given
        source = generator if several and p.connectivity_agnostic else None
        here = to_device(order, self.output.weight.device)
        self.register_buffer("order", here, persistent=False)
        self.positions = orderings.inverse(order) + 1
        self.degrees = masks.hidden_degrees(size, p.hidden, source)
        inputs = self.positions.repeat_interleave(self.num_features)
        outputs = self.positions.repeat_interleave(self.num_logits)
        even = source is None
        below = inputs
        stays = False  # whether the present masks have the degrees of the layer below
        for depth, (layer, degrees) in enumerate(zip(self._hidden(), self.degrees, strict=True)):
            same = bool(present) and torch.equal(present[depth], degrees)
            if not (stays and same and layer.mask_fits):
                sorted_rows = even and bool((below.diff() >= 0).all())
                layer.set_mask(masks.hidden_mask(degrees, below), sorted_rows)
            below, stays = degrees, same
        ordered = bool((outputs.diff() >= 0).all())
        self.output.set_mask(masks.output_mask(outputs, below), even and ordered)
        if p.direct:
            self.direct.set_mask(masks.output_mask(outputs, inputs), ordered)

    # -- features

    def hidden(self, x: Tensor, condition: Tensor | None = None) -> Tensor:
        """Return the last hidden layer, (batch, units)."""
        inputs = self.hyperparameters.inputs
        h = level_features.encode(x.flatten(1), self.event, inputs, self.dtype).flatten(1)
        for depth, layer in enumerate(self._hidden()):
            a: Tensor = layer(h)
            h = self._activate(shifted(a, self.class_hidden, condition) if depth == 0 else a)
        return h

    def first_layer(self) -> Tensor:
        """Return the masked weights of each dimension's highest level, (units, D)."""
        layer = self._hidden()[0]
        masked = layer.masked(layer.weight)
        return masked.view(len(masked), self.event.size, -1)[..., -1]

    # -- scoring

    def _activate(self, a: Tensor) -> Tensor:
        activation = self.hyperparameters.activation
        return (
            torch.relu(a) if activation == "relu" else cast(Tensor, getattr(torch, activation)(a))
        )

    def _conditionals(self, x: Tensor, condition: Tensor | None) -> Distribution:
        with self._scoring_precision():
            logits = self._logits(x, condition).to(self.dtype)
        shape = (len(x), *self.event.extents, self.num_logits)
        return level_features.conditionals(logits.view(shape), self.event)

    def _logits(self, x: Tensor, condition: Tensor | None) -> Tensor:
        p = self.hyperparameters
        features = level_features.encode(x.flatten(1), self.event, p.inputs, self.dtype).flatten(1)
        h = features
        for depth, layer in enumerate(self.hidden_layers):
            a = shifted(layer(h), self.class_hidden if depth == 0 else None, condition)
            h = dropout(self._activate(a), p.dropout, self.training)
        logits = self.output(h)
        if p.direct:
            logits = logits + self.direct(features)
        return shifted(logits, self.class_output, condition)

    # -- generation

    @property
    def schedule(self) -> tuple[Tensor, ...]:
        """One block per dimension, in the ordering of the present mask."""
        return tuple(self.order.split(1))

    def _decoder(self, batch: int, condition: Tensor | None) -> Decoder:
        return MADEDecoder(self, batch, condition)


class MADEDecoder(Decoder):
    """At step t, computes the hidden units of degree t and the outputs of the t-th dimension."""

    def __init__(self, model: MADE, batch: int, condition: Tensor | None) -> None:
        super().__init__(model.schedule, batch)
        self.model = model
        layers = [*model._hidden(), model.output]
        self.weights = [layer.masked(layer.weight) for layer in layers]
        zero = model.output.weight.new_zeros(())
        self.offsets = [
            (zero if (offset := layer.offset()) is None else offset).expand(
                batch, len(layer.weight)
            )
            for layer in layers
        ]
        self.direct = None
        if model.hyperparameters.direct:
            self.direct = model.direct.masked(model.direct.weight)
            if (offset := model.direct.offset()) is not None:
                self.offsets[-1] = self.offsets[-1] + offset
        self.offsets[0] = shifted(self.offsets[0], model.class_hidden, condition)
        self.offsets[-1] = shifted(self.offsets[-1], model.class_output, condition)
        self.values = [self.weights[0].new_zeros(batch, w.shape[1]) for w in self.weights]
        size = model.event.size
        self.units = [_by_degree(degrees, size, model.device) for degrees in model.degrees]

    def _next(self, block: Tensor) -> Distribution:
        model, last = self.model, len(self.units)
        for depth, units in enumerate(self.units):
            if len(new := units[self.position]):
                a = linear(self.values[depth], self.weights[depth][new])
                h = model._activate(a + self.offsets[depth][:, new])
                self.values[depth + 1][:, new] = h
        rows = _columns(block, model.num_logits)
        logits = linear(self.values[last], self.weights[last][rows]) + self.offsets[last][:, rows]
        if self.direct is not None:
            logits = logits + linear(self.values[0], self.direct[rows])
        return level_features.conditionals(logits[:, None], model.event, block)

    def _push(self, block: Tensor, values: Tensor) -> None:
        model = self.model
        inputs = model.hyperparameters.inputs
        dtype = self.values[0].dtype
        features = level_features.encode(values, model.event, inputs, dtype, block)
        self.values[0][:, _columns(block, model.num_features)] = features.flatten(1)


def _columns(block: Tensor, width: int) -> Tensor:
    return (block[:, None] * width + torch.arange(width, device=block.device)).flatten()


def _by_degree(degrees: Tensor, size: int, device: torch.device) -> list[Tensor]:
    """Return the units of each degree."""
    counts = degrees.bincount(minlength=size)
    return list(degrees.argsort(stable=True).to(device).split(counts.tolist()))
