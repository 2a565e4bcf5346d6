"""A stack of dilated causal convolutions, over sequences (batch, T, channels) or by queues."""

from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.functional import linear, pad

from arcore.primitives.gating import gated
from arcore.primitives.precision import at_least_float32, product_dtype
from arcore.primitives.products import scored_linear


def delayed(x: Tensor, steps: int) -> Tensor:
    """Shift a sequence (batch, T, channels) by a number of steps, with zeros at the front."""
    steps = min(steps, x.shape[1])  # all that is ever read of a longer delay
    return pad(x, (0, 0, steps, 0))[:, : x.shape[1]] if steps else x


class GatedLayer(nn.Module):
    """One gated layer with its residual connection (R has no bias, as the next layer has one).

        a[t] = sum_j W_j h[t - (k - 1 - j) d] + b + g + V y[t],
        z = tanh(a^f) . sigm(a^g),    h' = h + R z,

    where h is zero before the first step, k is `kernel`, d `dilation`, and y has `local_width`.
    """

    def __init__(
        self,
        width: int,
        gate_width: int,
        kernel: int,
        dilation: int,
        local_width: int,
        is_last: bool,
    ) -> None:
        super().__init__()
        self.kernel, self.dilation = kernel, dilation
        self.taps = nn.Linear(kernel * width, 2 * gate_width)
        self.residual = None if is_last else nn.Linear(gate_width, width, bias=False)
        self.local = nn.Linear(local_width, 2 * gate_width, bias=False) if local_width else None

    def forward(self, h: Tensor, given: Tensor | None, local: Tensor | None) -> tuple[Tensor, ...]:
        """Return z and h'."""
        steps = range((self.kernel - 1) * self.dilation, -1, -self.dilation)
        weight = self.taps.weight
        if torch.compiler.is_compiling():
            seen = torch.cat([delayed(h.to(product_dtype(h)), step) for step in steps], -1)
        else:
            seen, h = _Taps.apply(h, steps)  # type: ignore[no-untyped-call]
        if self.local is not None and local is not None:  # one product for both
            seen = torch.cat([seen, local.to(seen.dtype)], -1)
            weight = torch.cat([weight, self.local.weight], 1)
        a = linear(seen, weight, self.taps.bias)
        if given is not None:
            a = a + given.to(a.dtype)
        z = gated(a)
        return z, h if self.residual is None else h + self.residual(z)


class _Taps(torch.autograd.Function):
    """Delays of h, (batch, T, w), side by side, and h itself for the residual connection."""

    @staticmethod
    def forward(ctx: Any, h: Tensor, steps: range) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        ctx.steps = [min(step, h.shape[1]) for step in steps]
        size, width = (*h.shape[:2], len(steps) * h.shape[2]), h.shape[2]
        seen = torch.empty(size, dtype=product_dtype(h), device=h.device)
        for step, tap in zip(ctx.steps, seen.split(width, -1), strict=True):
            tap[:, :step].zero_()
            tap[:, step:] = h[:, : h.shape[1] - step]
        return seen, h.view_as(h)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, seen: Tensor, h: Tensor) -> tuple[Tensor, None]:  # type: ignore[override]
        newest, *taps = reversed(seen.split(h.shape[2], -1))
        total = h + newest if seen.dtype == h.dtype else newest.clone()
        for step, tap in zip(reversed(ctx.steps[:-1]), taps, strict=True):
            total[:, : h.shape[1] - step] += tap[:, step:]
        return total if seen.dtype == h.dtype else h + total, None


class Upsampler(nn.Module):
    """Brings a sequence of symbols or features at a lower rate to one vector per sample.

    Unless frames are repeated, a chain of transposed convolutions whose kernels are as long as
    their `strides`, y[s f + i] = A_i y[f]: a sample's vector depends on its own frame and its place
    there.
    """

    def __init__(
        self,
        num_symbols: int | None,
        num_features: int | None,
        width: int,
        strides: tuple[int, ...],
        repeat: bool,
    ) -> None:
        super().__init__()
        self.embed: nn.Module
        if num_symbols is not None:
            self.embed = nn.Embedding(num_symbols, width)
        else:
            assert num_features is not None
            self.embed = nn.Linear(num_features, width, bias=False)
        self.strides, self.width = strides, width
        self.stages = None
        if not repeat:
            stages = (nn.Linear(width, stride * width, bias=False) for stride in strides)
            self.stages = nn.ModuleList(stages)

    def forward(self, frames: Tensor, length: int) -> Tensor:
        """Map symbols (batch, F) or features (batch, F, num_features) to (batch, length, width)."""
        y = cast(Tensor, self.embed(frames))
        for number, stride in enumerate(self.strides):
            if self.stages is None:
                y = y.repeat_interleave(stride, 1)
            else:
                y = self.stages[number](y).unflatten(-1, (stride, self.width)).flatten(1, 2)
        return y[:, :length]


class DilatedQueues:
    """A stack of dilated convolutions at one sample after the other, O(layers) per sample.

    A layer's queue holds, for each of the next (k - 1) d samples (of T at most), what is known of
    its gates' arguments: bias, conditions and the taps that have been seen. A step adds the newest
    tap to the head of the queue, takes it, and puts there what is known of the sample (k - 1) d
    steps on. Weights are arranged once: tanh(f) = 2 sigm(2 f) - 1, so that one sigmoid s serves
    both gates, and z / 2 = s_f s_g - s_g / 2 is read as two parts. Both cancel, hence float32 or
    more.

    Reference:
        Le Paine et al., "Fast Wavenet Generation Algorithm", 2016.

    Arguments:
        layers: the stack, of which all but the last have a residual connection.
        head: linear layers that read all z side by side, with a rectifier between them.
        input_bias: (width,), of the first layer's input.
        batch, length: sequences side by side, and their length T.
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
        length: int,
        given: Tensor | None,
        local: Tensor | None,
    ) -> None:
        self.kernel, self.time = layers[0].kernel, 0
        self.found: Tensor | None = None
        gate_width = layers[0].taps.out_features // 2
        bias = input_bias.to(at_least_float32(input_bias.dtype)).expand(batch, -1)
        self.local = None if local is None else local.to(bias.dtype)
        self.h, self.bias = bias.clone(), bias.clone()
        self.pending = [bias.clone() for _ in range(self.kernel)]
        factors = bias.new_ones(2 * gate_width)
        factors[:gate_width] = 2
        self.gates = bias.new_zeros(batch, len(layers), 2 * gate_width)  # [s_f s_g | s_g]
        self.z = bias.new_zeros(batch, len(layers), gate_width)
        self.local_now = bias.new_zeros(batch, len(layers) * 2 * gate_width)
        local_now = self.local_now.chunk(len(layers), 1)
        if self.local is not None:
            self.local_at = self.local[:, 0].clone()
            weights = [cast(nn.Linear, layer.local).weight.t() * factors for layer in layers]
            self.local_weight = torch.cat(weights, 1)
        self.queues = []
        for number, (layer, gates) in enumerate(zip(layers, self.gates.unbind(1), strict=True)):
            base = layer.taps.bias.expand(batch, -1)
            if given is not None:
                base = base + given[:, number]
            base = (base * factors).contiguous()
            taps = [
                (tap.t() * factors).contiguous() for tap in layer.taps.weight.chunk(self.kernel, 1)
            ]
            size = min((self.kernel - 1) * layer.dilation, length)
            middle = [
                (j * layer.dilation, taps[self.kernel - 1 - j])
                for j in range(1, self.kernel - 1)
                if j * layer.dilation < length
            ]
            slots = base.repeat(size, 1, 1).unbind()
            residual = None
            if layer.residual is not None:
                weight = layer.residual.weight.t().to(bias.dtype)
                residual = torch.cat([2 * weight, -weight])
            local_gates = None if self.local is None else local_now[number]
            f, g = gates.chunk(2, 1)
            newest, oldest = taps[-1], taps[0]
            queue = (
                slots, size, base, newest, oldest, middle, residual, gates, f, g, local_gates,
            )  # fmt: skip
            self.queues.append(queue)
        self.head = [
            (layer.weight.t().to(bias.dtype).contiguous().t(), layer.bias.to(bias.dtype))
            for layer in head  # columns in a run: what both libraries are fastest with
        ]
        self.head[0] = (self.head[0][0] * 2, self.head[0][1])

    def _advance(self) -> Tensor:
        """Evaluate the layers and the head at the next sample."""
        t, h = self.time, self.h
        h.copy_(self.pending[0])
        for earlier, later in zip(self.pending, [*self.pending[1:], self.bias], strict=True):
            earlier.copy_(later)
        if self.local is not None:
            torch.mm(self.local_at, self.local_weight, out=self.local_now)
        for slots, size, base, newest, oldest, middle, residual, gates, f, g, local in self.queues:
            a = slots[t % size]
            a.addmm_(h, newest)
            if local is not None:
                a.add_(local)
            torch.sigmoid(a, out=gates)
            f.mul_(g)
            for steps, tap in middle:
                slots[(t + steps) % size].addmm_(h, tap)
            torch.addmm(base, h, oldest, out=a)
            if residual is not None:
                h.addmm_(gates, residual)
        torch.sub(*self.gates.chunk(2, 2), alpha=0.5, out=self.z)
        out = self.z.flatten(1)
        for number, (weight, bias) in enumerate(self.head):
            out = scored_linear(out if number == 0 else out.relu_(), weight, bias)
        return out

    def outputs(self) -> Tensor:
        """Return the head's outputs for the next sample, (batch, num_outputs)."""
        if self.found is None:
            if self.local is not None:
                self.local_at.copy_(self.local[:, self.time])
            self.found = self._advance()
        return self.found

    def push(self, taps: Sequence[Tensor]) -> None:
        """Take in the next sample: what each tap of the first convolution adds, (batch, width)."""
        self.outputs()
        for pending, tap in zip(self.pending, taps, strict=True):
            pending.add_(tap)
        self.time += 1
        self.found = None
