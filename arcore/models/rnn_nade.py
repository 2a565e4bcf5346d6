"""RNN-NADE: a recurrent network over time, with NADE over the dimensions of each step."""

from __future__ import annotations

import copy
import dataclasses
from typing import cast

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from arcore.decoding import Decoder
from arcore.distributions.drawing import SamplingOptions
from arcore.events import Event, Levels, resized
from arcore.layers import level_features
from arcore.model import AutoregressiveModel
from arcore.models.nade import NADE, NADEConfig, NADEDecoder
from arcore.primitives.checks import require, require_int
from arcore.primitives.dropout import dropout
from arcore.primitives.transfer import to_device


@dataclasses.dataclass(frozen=True, kw_only=True)
class RNNNADEConfig(NADEConfig):
    """Hyperparameters of RNN-NADE, and all of `NADEConfig`, for a step.

    Arguments:
        recurrent: units of the LSTM.
        dropout: of what enters the LSTM and of what leaves it.
    """

    recurrent: int = 200
    dropout: float = 0.0


class RNNNADE(AutoregressiveModel):
    """NADE over each step of a sequence, whose biases an LSTM over earlier steps gives.

    The last dimension of an event, of K values, is a step, and all others are time. With u_0 = 0,

        u_t = LSTM(u_{t-1}, phi(x_{t-1})),
        c_t = c + A u_t,  b_t = b + B u_t,
        p(x_t | x_<t) = NADE(x_t; W, V, c_t, b_t),

    where phi encodes levels, W and V are the weights of `nade`, and c and b its biases. A condition
    shifts c. Each step has the same `ordering`. The paper's recurrent network is a plain one.

    The length of an event may be open, as in `Binary((None, 88))`. Such a model scores sequences of
    any length, and batches of several lengths by `scored`. `of_length` gives the same model for one
    length, which samples.

    Reference:
        Boulanger-Lewandowski, Bengio and Vincent, "Modeling Temporal Dependencies in
        High-Dimensional Sequences", ICML 2012, section 5.

    Example:
        >>> import torch, arcore
        >>> model = arcore.create_model("rnn_nade", arcore.events.Binary((None, 6)), hidden=8)
        >>> model.log_prob(torch.zeros(2, 9, 6)).shape  # nats
        torch.Size([2])
        >>> model.of_length(4).sample(2).shape
        torch.Size([2, 4, 6])
    """

    Config = RNNNADEConfig
    supports = (Levels,)
    scores_in_autocast = False
    scores_parts = True
    hyperparameters: RNNNADEConfig

    def __init__(self, event: Event, hyperparameters: RNNNADEConfig) -> None:
        super().__init__(event, hyperparameters)
        p, shape = hyperparameters, event.shape
        fits = None not in shape[1:] and (len(shape) > 1 or not event.is_open)
        require(fits, "event", "a shape of which the first of several may be open", event)
        assert isinstance(event, Levels)
        own = {one.name: getattr(p, one.name) for one in dataclasses.fields(NADEConfig)}
        self.nade = NADE(resized(event, shape[-1:]), NADEConfig(**own))
        step = self.nade.event
        features = step.size * level_features.num_features(step, p.inputs)
        self.lstm = nn.LSTM(features, p.recurrent, batch_first=True)
        self.hidden_shift = nn.Linear(p.recurrent, p.hidden, bias=False)
        self.output_shift = nn.Linear(p.recurrent, self.nade.output_bias.numel(), bias=False)

    @property
    def schedule(self) -> tuple[Tensor, ...]:
        """One block per dimension: a step after the other, each in the ordering of a step."""
        self._require_length()
        size = self.nade.event.size
        first = torch.arange(self.event.size // size, device=self.device) * size
        return (first[:, None] + self.nade.order).flatten().split(1)

    def of_length(self, length: int) -> RNNNADE:
        """Return the same model, sharing weights, for events of one length."""
        require_int(length, "length", 1)
        assert isinstance(self.event, Levels)
        if not self.event.is_open:
            return cast(RNNNADE, super().of_length(length))
        twin = copy.copy(self)
        twin.event = resized(self.event, (length, *self.event.shape[1:]))
        return twin

    def _conditionals(self, x: Tensor, condition: Tensor | None) -> Distribution:
        logits = self.nade._logits(*self._by_step(x, condition))
        return level_features.conditionals(logits.view(*x.shape, logits.shape[-1]), self.event)

    def _num_steps(self, x: Tensor) -> int:
        return x.shape[1] if x.dim() > 2 else 1

    def _part_log_prob(self, x: Tensor, condition: Tensor | None, scored: Tensor) -> Tensor:
        """Spans are of the first dimension; NADE is evaluated at what counts alone."""
        rows, start, bias = self._by_step(x, condition)
        number, spans = self._num_steps(x), scored.cpu()
        time = torch.arange(number, device="cpu")
        mask = (time >= spans[:, :1]) & (time < spans[:, 1:])
        mask = mask.repeat_interleave(rows.shape[0] // max(1, mask.numel()), 1)
        places = to_device(mask.flatten().nonzero()[:, 0], x.device)
        rows = rows[places]
        logits = self.nade._logits(rows, start[places], bias[places])
        terms = level_features.conditionals(logits, self.nade.event).log_prob(self._as_value(rows))
        every = terms.new_zeros(mask.numel()).index_copy(0, places, terms.sum(1))
        return every.view(mask.shape).sum(1)

    def _by_step(self, x: Tensor, condition: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        """Return all steps as rows of NADE (n, K), with their a_1 (n, H) and b_t (n, K, logits)."""
        steps = x.flatten(1).unflatten(1, (-1, self.nade.event.size))
        rows, count = steps.flatten(0, 1), steps.shape[1]
        features = self._encode(rows).unflatten(0, (len(x), count))
        states = self._states(features).flatten(0, 1)
        start = self.nade._start(len(x), condition).repeat_interleave(count, 0)
        return rows, start + self.hidden_shift(states), self._bias(states)

    def _encode(self, rows: Tensor) -> Tensor:
        """Return the features of steps (n, K), (n, K * F)."""
        inputs = self.hyperparameters.inputs
        return level_features.encode(rows, self.nade.event, inputs, self.dtype).flatten(1)

    def _states(self, features: Tensor) -> Tensor:
        """Return u_t for the features of all steps, (batch, T, recurrent)."""
        rate = self.hyperparameters.dropout
        first = features.new_zeros(len(features), 1, self.hyperparameters.recurrent)
        if features.shape[1] == 1 or len(features) == 0:  # of which LSTMs take none
            return first.expand(-1, features.shape[1], -1)
        features = dropout(features[:, :-1], rate, self.training)
        with torch.autocast(features.device.type, enabled=False):
            later, _ = self.lstm(features)
        return dropout(torch.cat([first, later], 1), rate, self.training)

    def _bias(self, states: Tensor) -> Tensor:
        """Return b_t of steps in NADE's ordering, (n, K, logits), for their states."""
        bias = self.nade.output_bias
        return bias + self.output_shift(states).view(len(states), *bias.shape)

    def _decoder(self, batch: int, condition: Tensor | None) -> Decoder:
        return RNNNADEDecoder(self, batch, condition)


class RNNNADEDecoder(Decoder):
    """Keeps the LSTM's state, the values of a step, and NADE's decoder of it."""

    def __init__(self, model: RNNNADE, batch: int, condition: Tensor | None) -> None:
        super().__init__(model.schedule, batch)
        self.model, self.start = model, model.nade._start(batch, condition)
        self.h = self.start.new_zeros(1, batch, model.hyperparameters.recurrent)
        self.c = self.h
        self._begin()

    def _begin(self) -> None:
        model = self.model
        (state,) = self.h
        start = self.start + model.hidden_shift(state)
        self.step = NADEDecoder(model.nade, start, model._bias(state).transpose(0, 1))
        self.parts: list[Tensor] = []

    def _next(self, block: Tensor) -> Distribution:
        return self.step.next()

    def _push(self, block: Tensor, values: Tensor) -> None:
        self.step.push(values)
        self._take([values])

    def _take(self, parts: list[Tensor]) -> None:
        """Note values of a step; where it is complete, begin the next, if there is one."""
        self.parts += parts
        nade = self.model.nade
        if len(self.parts) < nade.event.size or self.position + len(parts) == len(self.blocks):
            return
        rows = torch.cat(self.parts, 1)[:, nade.position]
        features = self.model._encode(rows)[:, None]
        _, (self.h, self.c) = self.model.lstm(features, (self.h, self.c))
        self._begin()

    def draw_rest(self, options: SamplingOptions) -> list[Tensor]:
        """Draw the rest, a step of NADE at once."""
        drawn: list[Tensor] = []
        while self.position < len(self.blocks):
            parts = self.step.draw_rest(options)
            with torch.no_grad(), self.precision():
                self._take(parts)
            self.position += len(parts)
            drawn += parts
        return drawn
