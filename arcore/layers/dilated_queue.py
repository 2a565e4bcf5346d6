"""A stack of dilated convolutions evaluated one sample at a time, with one queue per layer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn

from arcore.layers.dilated import GatedLayer


class DilatedQueues:
    """O(layers) per sample, whatever the receptive field.

    A layer's queue holds, for each of the next (k - 1) d samples, what is known of its gates'
    arguments: bias, conditions and the taps that have been seen. A step adds the newest tap to the
    head of the queue, takes it, and puts there what is known of the sample (k - 1) d steps on.

    Weights are arranged once: sigm(a) = (1 + tanh(a / 2)) / 2, so that one tanh serves both gates,
    with a / 2 from halved weights and the outer half in the weights that read z; and the sum of
    skips is one product. All buffers are allocated here, since small operations cost mostly their
    overhead.

    Reference:
        Le Paine et al., "Fast Wavenet Generation Algorithm", 2016.

    Arguments:
        layers: the stack, of which all but the last have a residual connection.
        head: linear layers that read all z side by side, with a rectifier between them.
        input_bias: (width,), of the first layer's input.
        batch: sequences side by side.
        given: (batch, layers, 2 gate_width), what a global condition adds to the gates, or None.
        local: (batch, T, local_width), the local condition, or None.
    """

    @torch.no_grad()
    def __init__(
        self,
        layers: Sequence[GatedLayer],
        head: Sequence[nn.Linear],
        input_bias: Tensor,
        batch: int,
        given: Tensor | None,
        local: Tensor | None,
    ) -> None:
        self.kernel, self.time, self.ready, self.local = layers[0].kernel, 0, False, local
        gate_width = layers[0].taps.out_features // 2
        bias = input_bias.expand(batch, -1)
        self.h, self.bias = bias.clone(), bias.clone()
        self.pending = [bias.clone() for _ in range(self.kernel)]
        halves = bias.new_ones(2 * gate_width)
        halves[gate_width:] = 0.5
        self.z = bias.new_zeros(batch, len(layers) * gate_width)
        self.local_now = bias.new_zeros(batch, len(layers) * 2 * gate_width)
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
            taps = [
                (tap.t() * halves).contiguous() for tap in layer.taps.weight.chunk(self.kernel, 1)
            ]
            size = (self.kernel - 1) * layer.dilation
            middle = [
                (j * layer.dilation, taps[self.kernel - 1 - j]) for j in range(1, self.kernel - 1)
            ]
            slots = [(slot, *slot.chunk(2, 1)) for slot in base.repeat(size, 1, 1).unbind()]
            residual = None
            if layer.residual is not None:
                residual = (layer.residual.weight.t() / 2).contiguous()
            local_gates = None if self.local is None else local_now[number]
            queue = (slots, size, base, taps[-1], taps[0], middle, residual, z, local_gates)
            self.queues.append(queue)
        self.head = [(layer.weight.t().contiguous(), layer.bias) for layer in head]
        self.head[0] = (self.head[0][0] / 2, self.head[0][1])

    def _advance(self) -> None:
        """Evaluate the layers at the next sample."""
        t, h = self.time, self.h
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

    def outputs(self) -> Tensor:
        """Return the head's outputs for the next sample, (batch, num_outputs)."""
        if not self.ready:
            self._advance()
        out = self.z
        for number, (weight, bias) in enumerate(self.head):
            out = torch.addmm(bias, out if number == 0 else out.relu_(), weight)
        return out

    def push(self, taps: Sequence[Tensor]) -> None:
        """Take in the next sample: what each tap of the first convolution adds, (batch, width)."""
        if not self.ready:
            self._advance()
        for steps, tap in enumerate(taps, start=1):
            self.pending[(self.time + steps) % self.kernel].add_(tap)
        self.time += 1
        self.ready = False
