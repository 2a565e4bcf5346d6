"""A stack of dilated causal convolutions with gated units, over sequences (batch, T, channels)."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.functional import linear, pad

from arcore.primitives.gating import gated
from arcore.primitives.precision import product_dtype


def delayed(x: Tensor, steps: int) -> Tensor:
    """Shift a sequence (batch, T, channels) by a number of steps, with zeros at the front."""
    steps = min(steps, x.shape[1])  # all that is ever read of a longer delay
    return pad(x, (0, 0, steps, 0))[:, : x.shape[1]] if steps else x


class GatedLayer(nn.Module):
    """One gated layer with its residual connection.

        a[t] = sum_j W_j h[t - (k - 1 - j) d] + b + g + V y[t],
        z = tanh(a^f) . sigm(a^g),    h' = h + R z,

    where h is zero before the first step, whatever the layer. R has no bias, as the next layer has
    one.

    Arguments:
        width: channels of h.
        gate_width: channels of z.
        kernel: taps k.
        dilation: steps d between taps.
        local_width: channels of y, 0 without one.
        is_last: whether nothing reads h'.
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
        coarse = h.to(product_dtype(h))  # once, not once a tap
        seen, weight = [delayed(coarse, step) for step in steps], self.taps.weight
        if self.local is not None and local is not None:  # one product for both
            seen.append(local.to(coarse.dtype))
            weight = torch.cat([weight, self.local.weight], 1)
        a = linear(torch.cat(seen, -1), weight, self.taps.bias)
        if given is not None:
            a = a + given.to(a.dtype)
        z = gated(a)
        return z, h if self.residual is None else h + self.residual(z)


class Upsampler(nn.Module):
    """Brings a sequence of symbols or features at a lower rate to one vector per sample.

    `transposed` is a chain of transposed convolutions whose kernels are as long as their strides,
    y[s f + i] = A_i y[f], so that a sample's vector depends on its own frame and its place in the
    frame alone, and a window that begins with a frame sees what the whole sequence sees.

    Arguments:
        num_symbols: symbols in [0, num_symbols), or None for real features.
        num_features: features per frame, where there are no symbols.
        width: channels of the vectors.
        strides: their product is the number of samples per frame.
        repeat: repeat each frame's vector instead.
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
