"""Generating with a stack of dilated convolutions, a queue a layer."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from arcore.layers.dilated import GatedLayer
from arcore.model import Decoder

if TYPE_CHECKING:
    from arcore.models.wavenet import WaveNet


class QueueDecoder(Decoder):
    """Generates with a queue a layer: O(layers) a sample, whatever the receptive field.

    A layer's queue holds, for each of the next (k - 1) d samples, what is known of its gates'
    arguments: bias, conditions and the taps that have been seen. A step adds the newest tap to the
    head of the queue, takes it, and puts there what is known of the sample (k - 1) d steps on.

    Weights are arranged once: sigm(a) = (1 + tanh(a / 2)) / 2, so that one tanh serves both gates,
    with a / 2 from halved weights and the outer half in the weights that read z; and the sum of
    skips is one product. All buffers are allocated here, since small operations cost mostly their
    overhead.

    Arguments:
        model: whose event has a fixed length.
        batch: sequences decoded side by side.
        condition: of so many rows, or None.
    """

    @torch.no_grad()
    def __init__(self, model: WaveNet, batch: int, condition: Tensor | None) -> None:
        super().__init__(model.schedule, batch)
        p = model.hyperparameters
        self.model, self.kernel = model, p.kernel
        self.ready = False
        given, self.local = model._given(condition, len(self.blocks))
        bias = model.input_bias.expand(batch, -1)
        self.h, self.bias = bias.clone(), bias.clone()
        self.pending = [bias.clone() for _ in range(p.kernel)]
        layers = cast(list[GatedLayer], list(model.layers))
        halves = bias.new_ones(2 * p.gate_width)
        halves[p.gate_width :] = 0.5
        self.z = bias.new_zeros(batch, len(layers) * p.gate_width)
        self.local_now = bias.new_zeros(batch, len(layers) * 2 * p.gate_width)
        local_now = self.local_now.chunk(len(layers), 1)
        if self.local is not None:
            weights = [cast(nn.Linear, layer.local).weight.t() * halves for layer in layers]
            self.local_weight = torch.cat(weights, 1)
        self.queues = []
        for number, (layer, z) in enumerate(zip(layers, self.z.chunk(len(layers), 1), strict=True)):
            base = layer.taps.bias.expand(batch, -1)
            if given is not None:
                base = base + given[:, number]
            base = (base * halves).contiguous()
            taps = [(tap.t() * halves).contiguous() for tap in layer.taps.weight.chunk(p.kernel, 1)]
            size = (p.kernel - 1) * layer.dilation
            middle = [(j * layer.dilation, taps[p.kernel - 1 - j]) for j in range(1, p.kernel - 1)]
            slots = [(slot, *slot.chunk(2, 1)) for slot in base.repeat(size, 1, 1).unbind()]
            residual = None
            if layer.residual is not None:
                residual = (layer.residual.weight.t() / 2).contiguous()
            local = None if self.local is None else local_now[number]
            queue = (slots, size, base, taps[-1], taps[0], middle, residual, z, local)
            self.queues.append(queue)
        self.head = [
            (layer.weight.t().contiguous(), layer.bias)
            for layer in (model.skip, model.hidden_head, model.output)
        ]
        self.head[0] = (self.head[0][0] / 2, self.head[0][1])

    def _advance(self) -> None:
        """Evaluate the layers at the next sample."""
        t, h = self.position, self.h
        pending = self.pending[t % self.kernel]
        h.copy_(pending)
        pending.copy_(self.bias)
        if self.local is not None:
            torch.mm(self.local[:, t], self.local_weight, out=self.local_now)
        for slots, size, base, newest, oldest, middle, residual, z, local in self.queues:
            a, f, g = slots[t % size]
            a.addmm_(h, newest)
            if local is not None:
                a.add_(local)
            a.tanh_()
            torch.addcmul(f, f, g, out=z)
            for steps, tap in middle:
                slots[(t + steps) % size][0].addmm_(h, tap)
            torch.addmm(base, h, oldest, out=a)
            if residual is not None:
                h.addmm_(z, residual)
        self.ready = True

    @torch.no_grad()
    def _next(self, block: Tensor) -> Distribution:
        if not self.ready:
            self._advance()
        out = self.z
        for number, (weight, bias) in enumerate(self.head):
            out = torch.addmm(bias, out if number == 0 else out.relu_(), weight)
        return self.model._distribution(out[:, None], block.new_zeros(len(out), 1))

    @torch.no_grad()
    def _push(self, block: Tensor, values: Tensor) -> None:
        if not self.ready:
            self._advance()
        taps = self.model._encode(values.long())[:, 0].chunk(self.kernel, 1)
        for steps, tap in enumerate(taps, start=1):
            self.pending[(self.position + steps) % self.kernel].add_(tap)
        self.ready = False
