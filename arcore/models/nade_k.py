"""NADE-k, an orderless NADE that refines its guess of what is missing in several steps."""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor, nn

from arcore.events import Event
from arcore.families.orderless import ObservedState, OrderlessConfig, OrderlessModel
from arcore.layers import level_features
from arcore.layers.incremental_mlp import IncrementalMLP


@dataclasses.dataclass(frozen=True, kw_only=True)
class NADEkConfig(OrderlessConfig):
    """Hyperparameters of NADE-k, and all of `OrderlessConfig`.

    Arguments:
        steps: k, how often the missing dimensions are guessed before one is scored.
        annealing_steps: training steps over which the weight of the mean of all k guesses' losses
            falls linearly from 1 to 0; what remains is the loss of the last guess.
    """

    steps: int = 5
    annealing_steps: int = 0
    least = {"annealing_steps": 0}


class NADEk(OrderlessModel):
    """An orderless perceptron that is applied k times, each time to its own guess of the missing.

        v_0 = m * x + (1 - m) * e(a),  h_t = g(W v_{t-1} + U m + b),
        v_t = m * x + (1 - m) * e(c + V h_t),  p(x_i | x_m, m) = softmax(c_i + V_i h_k),

    where e gives the features of a level that are expected under a softmax (a sigmoid, for binary
    events): probabilities, or means if `inputs` is scaled. Further hidden layers stand between h_t
    and V; all weights serve all steps. The first guess is learnt, in place of the paper's mean of
    the training data. U m is as in Deep NADE; the paper is without, as `mask_inputs` false. The
    paper trains on the mean of all steps' losses first and on the last one then, between which
    `annealing_steps` changes slowly. Scoring an ordering costs k times as many passes as Deep NADE.

    Reference:
        Raiko, Yao, Cho and Bengio, "Iterative Neural Autoregressive Distribution Estimator
        (NADE-k)", NIPS 2014.

    Example:
        >>> import torch, arcore
        >>> model = arcore.create_model("nade_k", arcore.events.Binary((1, 3, 3)), hidden=[8])
        >>> x = torch.zeros(2, 1, 3, 3)
        >>> model(x).shape, model.ensemble(4).log_prob(x).shape  # nats
        (torch.Size([2]), torch.Size([2]))
    """

    Config = NADEkConfig
    hyperparameters: NADEkConfig
    averaged: Tensor

    def __init__(self, event: Event, hyperparameters: NADEkConfig) -> None:
        super().__init__(event, hyperparameters)
        p = hyperparameters
        self.dense = IncrementalMLP(
            event.size, self.num_features, self.num_logits,
            p.hidden, p.activation, p.dropout, p.condition_rows,
        )  # fmt: skip
        self.first_guess = nn.Parameter(torch.zeros(event.size, self.num_logits))
        self.changes_by_step = p.annealing_steps > 0
        self.register_buffer("averaged", torch.zeros(()), persistent=False)
        self._rebuild()

    def _rebuild(self) -> None:
        super()._rebuild()
        self.averaged = torch.zeros_like(self.averaged, device=self.device)

    def train(self, mode: bool = True) -> NADEk:
        """Switch between training and evaluation, which ends the annealing."""
        super().train(mode)
        if not mode:
            self.averaged = torch.zeros_like(self.averaged)
        return self

    def _set_step(self, seed: int, step: int) -> None:
        """Set the weight of the mean of all steps' losses."""
        weight = max(0.0, 1 - step / max(self.hyperparameters.annealing_steps, 1))
        self.averaged = torch.full_like(self.averaged, weight)

    def _step_state(self) -> Tensor:
        return self.averaged

    def _restore(self, state: object) -> None:
        assert isinstance(state, Tensor)
        self.averaged = state

    def _inputs(self, flat: Tensor, dimensions: Tensor | None = None) -> Tensor:
        """What a dimension shows where it is observed, and last that it is, whoever is told."""
        inputs = super()._inputs(flat, dimensions)
        told = self.hyperparameters.mask_inputs
        return inputs if told else nn.functional.pad(inputs, (0, 1), value=1.0)

    def _guess(self, logits: Tensor, dimensions: Tensor | slice) -> Tensor:
        """Features that missing dimensions are expected to have."""
        encoding = self.hyperparameters.inputs
        return level_features.expected(logits, self.event, encoding, dimensions)

    def _each_logits(self, inputs: Tensor, condition: Tensor | None) -> list[Tensor]:
        """Logits of all dimensions after each of the k steps, each (batch, D, logits)."""
        every, missing = slice(None), 1 - inputs[..., -1:]
        known = self.dense.shown_at(
            self.dense.start(len(inputs), condition), every, inputs[..., : self.num_features]
        )
        guess = self._guess(self.first_guess, every)
        enter = self.dense.input_weight[:, : guess.shape[-1]].flatten(0, 1)
        logits: list[Tensor] = []
        for _ in range(self.hyperparameters.steps):
            a = (guess * missing).flatten(1) @ enter + known
            logits.append(self.dense.outputs(a, every, condition))
            guess = self._guess(logits[-1], every)
        return logits

    def _logits(self, inputs: Tensor, condition: Tensor | None) -> Tensor:
        return self._each_logits(inputs, condition)[-1]

    def _training_loss(self, x: Tensor, observed: Tensor, condition: Tensor | None) -> Tensor:
        flat = x.flatten(1)
        logits = self._each_logits(self._inputs(flat) * observed[..., None], condition)
        losses = [self._loss_of(one, flat, observed) for one in logits]
        return torch.lerp(losses[-1], torch.stack(losses).mean(0), self.averaged)

    def _observed_state(self, batch: int, condition: Tensor | None) -> ObservedState:
        return GuessedState(self, batch, condition)

    @property
    def _width(self) -> int:
        return max(self.event.size * self.num_logits, *self.hyperparameters.hidden)


class GuessedState(ObservedState):
    """Keeps the first layer's activations of what is observed, and which dimensions are missing."""

    def __init__(self, model: NADEk, batch: int, condition: Tensor | None) -> None:
        self.model, self.dense, self.condition = model, model.dense, condition
        self.activations = model.dense.start(batch, condition)
        self.missing = torch.ones(
            batch, model.event.size, 1, dtype=model.dtype, device=model.device
        )
        self.rest = torch.arange(model.event.size, device=model.device)  # missing in some row

    def observe(self, dimension: int, inputs: Tensor) -> None:
        """Add the dimension's columns, in the rows that show it."""
        self.activations = self.dense.shown(
            self.activations, dimension, inputs[:, : self.model.num_features]
        )
        self.missing[:, dimension] -= inputs[:, -1:]
        on_cpu = self.missing.device.type == "cpu"  # elsewhere, to look would be to wait
        if on_cpu and not bool(self.missing[:, dimension].any()):
            self.rest = self.rest[self.rest != dimension]

    def logits(self, dimension: int) -> Tensor:
        """Guess what is missing k times, the last time this dimension alone."""
        missing = self.missing[:, self.rest]
        given = self.model.first_guess[self.rest]
        for step in range(self.model.hyperparameters.steps):
            guess = self.model._guess(given, self.rest) * missing
            a = self.dense.shown_at(self.activations, self.rest, guess)
            if step < self.model.hyperparameters.steps - 1:
                given = self.dense.outputs(a, self.rest, self.condition)
        return self.dense.output(a, dimension, self.condition)
