"""NADE, the neural autoregressive distribution estimator."""

from __future__ import annotations

import copy
import dataclasses
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.distributions import Distribution
from torch.nn.functional import pad

from arcore.decoding import Decoder
from arcore.distributions.drawing import SamplingOptions
from arcore.events import Binary, Event, Levels, Table
from arcore.families.ordered import OrderedModel
from arcore.hyperparameters import CheckedHyperparameters
from arcore.layers import level_features
from arcore.layers.hidden_states import (
    HiddenStates,
    activate_,
    activation_gradient_,
    block_size,
    padded,
)
from arcore.layers.level_features import condition_weight, shifted
from arcore.primitives import orderings
from arcore.primitives.precision import DRAWN_IN
from arcore.primitives.transfer import outside_compiler

ACTIVATIONS = ("sigmoid", "relu")


@dataclasses.dataclass(frozen=True, kw_only=True)
class NADEConfig(CheckedHyperparameters):
    """Hyperparameters of NADE.

    Arguments:
        hidden: number of hidden units H.
        activation: sigmoid (the paper's) or relu.
        ordering: a name of `arcore.orderings.ORDERINGS`; `ordering_seed` serves `random`.
        inputs: scaled (one weight per dimension) or one_hot (one weight per level but the lowest).
        num_classes: classes of an optional condition, which shifts the hidden bias.
        condition_size: length of a vector that is the condition instead.
        block: most dimensions handled at once; memory per datum grows with H * (D / block + block).
    """

    hidden: int = 500
    activation: str = "sigmoid"
    ordering: str = "raster"
    ordering_seed: int = 0
    inputs: str = "scaled"
    num_classes: int | None = None
    condition_size: int | None = None
    block: int = 32
    choices = {"activation": ACTIVATIONS}


class NADE(OrderedModel):
    """Neural autoregressive distribution estimator over bits, levels or rows of tables.

    With an ordering o and hidden activations shared across dimensions,

        a_1 = c,  h_d = g(a_d),  p(x_od | x_o<d) = softmax(b_od + V_od h_d),
        a_{d+1} = a_d + W[:, od] phi(x_od),

    where phi encodes a level (zero for level 0) and the softmax is a sigmoid for binary events.
    `under(order)` is the model under another ordering. Scoring and its gradient take O(D H) per
    datum and store the activations of every `block`-th dimension only. Since level 0 leaves a
    unchanged, g is evaluated once for each run of zeros (on an accelerator for each dimension).

    Reference:
        Larochelle and Murray, "The Neural Autoregressive Distribution Estimator", AISTATS 2011,
        eq. 6-8 and algorithm 1.

    Example:
        >>> import torch, arcore
        >>> model = arcore.create_model("nade", arcore.events.Binary((1, 4, 4)), hidden=8)
        >>> model.log_prob(torch.zeros(3, 1, 4, 4)).shape  # nats
        torch.Size([3])
    """

    Config = NADEConfig
    supports = (Levels, Table)
    scores_in_autocast = False
    takes_uneven_levels = True
    orders = "other"
    has_hidden = True
    hyperparameters: NADEConfig

    def __init__(self, event: Event, hyperparameters: NADEConfig) -> None:
        super().__init__(event, hyperparameters)
        p = hyperparameters
        size, hidden = event.size, p.hidden
        features, logits = (
            level_features.num_features(event, p.inputs),
            level_features.num_logits(event),
        )
        self.input_weight = nn.Parameter(torch.empty(size, features, hidden))
        self.output_weight = nn.Parameter(torch.empty(size, logits, hidden))
        self.hidden_bias = nn.Parameter(torch.zeros(hidden))
        self.output_bias = nn.Parameter(torch.zeros(size, logits))
        nn.init.normal_(self.input_weight, std=0.01)
        nn.init.normal_(self.output_weight, std=0.01)
        self.class_bias = condition_weight(p.num_classes or p.condition_size, hidden)
        self._rebuild()

    def _start(self, batch: int, condition: Tensor | None) -> Tensor:
        return shifted(self.hidden_bias, self.class_bias, condition).expand(batch, -1)

    def _conditionals(self, x: Tensor, condition: Tensor | None) -> Distribution:
        logits = self._logits(x.flatten(1), self._start(len(x), condition), self.output_bias)
        shape = (len(x), *self.event.extents, logits.shape[-1])
        return level_features.conditionals(logits.view(shape), self.event)

    def _logits(self, x: Tensor, start: Tensor, bias: Tensor) -> Tensor:
        """Return the outputs of all dimensions, (batch, D, logits), for rows (batch, D).

        Weights are stored in the ordering: row t belongs to the t-th dimension drawn, as does
        row t of `bias`, (D, logits) or (batch, D, logits). `start` is a_1, (batch, H).
        """
        p = self.hyperparameters
        ordered = x[:, self.order]
        columns, weights = level_features.encode_sparsely(
            ordered, self.event, p.inputs, self.dtype, self.order
        )
        given = (columns, weights, self.input_weight, self.output_weight, start)
        logits = outside_compiler(_NADELogits.apply, *given, p.block, p.activation)
        return (logits + bias)[:, self.position]

    @torch.no_grad()
    def under(self, order: Tensor) -> NADE:
        """Return the model under another ordering, (D,) int64, with copies of W, V and b.

        W and V belong to dimensions, not to places in the ordering, so that any ordering gives a
        distribution that sums to 1, but the model was not trained for it.
        """
        orderings.require_permutation(order, self.event.size)
        view, places = copy.copy(self), self.position[order.long().to(self.device)]
        view._buffers, view._parameters = dict(self._buffers), dict(self._parameters)
        for name in ("input_weight", "output_weight", "output_bias"):
            view._parameters[name] = nn.Parameter(getattr(self, name)[places])
        view._put_under(order)
        return view

    def hidden(self, x: Tensor, condition: Tensor | None = None) -> Tensor:
        """Return the hidden units after the last dimension, (batch, hidden)."""
        inputs = self.hyperparameters.inputs
        shown = level_features.encode(x.flatten(1), self.event, inputs, self.dtype)
        sums = torch.einsum("bdf,dfh->bh", shown[:, self.order], self.input_weight)
        return activate_(sums + self._start(len(x), condition), self.hyperparameters.activation)

    def first_layer(self) -> Tensor:
        """Return the weights of each dimension's highest level, (hidden, D)."""
        return self.input_weight[self.position, -1].T

    def _decoder(self, batch: int, condition: Tensor | None) -> Decoder:
        return NADEDecoder(self, self._start(batch, condition), self.output_bias[:, None])


class NADEDecoder(Decoder):
    """Keeps a_d, which is `start` at first, and adds one column of W at each push.

    Arguments:
        model: whose weights these are.
        start: a_1, (batch, H).
        bias: of the outputs in the ordering, (D, 1, logits) or (D, batch, logits).
    """

    def __init__(self, model: NADE, start: Tensor, bias: Tensor) -> None:
        super().__init__(model.schedule, len(start))
        self.model, self.bias = model, bias
        self.activation = model.hyperparameters.activation
        self.activations = start.clone()
        self.input_weights = model.input_weight.unbind()
        self.output_weights = model.output_weight.transpose(1, 2).unbind()

    def _next(self, block: Tensor) -> Distribution:
        t, hidden = self.position, activate_(self.activations.clone(), self.activation)
        logits = torch.addmm(self.bias[t], hidden, self.output_weights[t])
        return level_features.conditionals(logits[:, None], self.model.event, block)

    def _push(self, block: Tensor, values: Tensor) -> None:
        event, inputs = self.model.event, self.model.hyperparameters.inputs
        features = level_features.encode(values, event, inputs, self.activations.dtype, block)
        self.activations.addmm_(features.flatten(1), self.input_weights[self.position])

    def draw_rest(self, options: SamplingOptions) -> list[Tensor]:
        """Draw the rest; binary events in four kernels a step, on a CPU with the same numbers.

        x = 1 where u < sigm(b + V h): where logit(u) - b < V h, whose left side comes for all at
        once.
        """
        a, first = self.activations, self.position
        fits = isinstance(self.model.event, Binary) and options.temperature == 1
        if not fits or a.dtype not in DRAWN_IN:
            return super().draw_rest(options)
        shape = (len(self.blocks) - first, self.batch, 1)
        uniform = torch.rand(shape, generator=options.generator, device=a.device, dtype=a.dtype)
        thresholds = torch.logit(uniform) - self.bias[first:]
        drawn, hidden, logit = (torch.empty_like(x) for x in (uniform, a, a[:, :1]))
        is_sigmoid = self.activation == "sigmoid"
        weights = (w[first:] for w in (self.output_weights, self.input_weights))
        for threshold, x, v, w in zip(thresholds, drawn, *weights, strict=True):
            if is_sigmoid:
                torch.sigmoid(a, out=hidden)
            else:
                torch.clamp_min(a, 0, out=hidden)
            torch.mm(hidden, v, out=logit)
            torch.lt(threshold, logit, out=x)
            a.addcmul_(x, w)
            options.advance(1)
        self.position = len(self.blocks)
        return list(drawn.long().unbind())


class _NADELogits(torch.autograd.Function):
    """V_d h_d for all d, (batch, D, logits), without storing the hidden states.

    Forward keeps a at the first dimension of each block. Backward goes through the blocks from
    the last to the first with da, the gradient at the block's end: dV_d = sum db_d h_d;
    dh_d = V_d' db_d; dW_d = phi(x_d) (gradient of all later a); da += sum of the block's own.
    """

    @staticmethod
    def forward(
        ctx: Any,
        columns: Tensor,
        weights: Tensor,
        w: Tensor,
        v: Tensor,
        start: Tensor,
        block: int,
        activation: str,
    ) -> Tensor:
        size, outputs, hidden = v.shape
        block = block_size(size, block)
        w, v = padded(w, block), padded(v, block)
        start = pad(start, (0, w.shape[-1] - hidden))
        starts, parts = [], []
        with torch.autocast(columns.device.type, enabled=False):
            runs = HiddenStates(columns, weights, w.shape[1], block)
            for index, (w_part, v_part) in enumerate(
                zip(w.split(block), v.split(block), strict=True)
            ):
                starts.append(start)
                states = runs.block(index)
                a = states.sums(w_part.flatten(0, 1), start)
                start = a[states.last]
                parts.append(states.outputs(activate_(a, activation), v_part))
        ctx.save_for_backward(w, v, torch.stack(starts))
        ctx.runs, ctx.block, ctx.activation, ctx.hidden = runs, block, activation, hidden
        return torch.cat(parts, 1)[:, :size]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        w, v, starts = ctx.saved_tensors
        size, runs, block, activation = gradient.shape[1], ctx.runs, ctx.block, ctx.activation
        gradient = pad(gradient, (0, 0, 0, len(w) - size))
        dw, dv = torch.empty_like(w), torch.empty_like(v)
        da = torch.zeros_like(starts[0])
        with torch.autocast(gradient.device.type, enabled=False):
            for index in range(len(starts) - 1, -1, -1):
                part = slice(index * block, (index + 1) * block)
                states, by_output = runs.block(index), gradient[:, part].contiguous()
                a = states.sums(w[part].flatten(0, 1), starts[index])
                h = activate_(a, activation)[: states.states]
                dv[part] = states.sum_by_output(by_output, h)
                dh = activation_gradient_(states.sum_by_state(by_output, v[part]), h, activation)
                dh[states.last] += da
                later = states.later(dh)
                dw[part] = states.sum_by_input(later).view_as(w[part])
                da = later[states.first]
        kept = slice(ctx.hidden)
        return None, None, dw[:size, :, kept], dv[:size, :, kept], da[:, kept], None, None
