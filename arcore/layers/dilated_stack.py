"""WaveNet's layers in training on a processor, all in one, with fewer passes over memory.

There their pointwise steps take as long as their products. So maps are kept channel by channel,
(channels, T * batch) with time before the batch: a delay is then a range of columns, gates are
contiguous, and a row of ones carries biases. Products add onto what is there, so that taps are not
copied side by side. Values and gradients differ from the layers' own by the order of sums.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from arcore.layers.dilated import GatedLayer
from arcore.primitives.activation_checkpointing import checkpoints_blocks
from arcore.primitives.gating import PIECE, SMALL, product_backward, twice_less_one_
from arcore.primitives.precision import at_least_float32, product_dtype


def has_stack(h: Tensor) -> bool:
    """Whether `stacked_skips` takes these maps: they record gradients and are not few or coarse."""
    if torch.compiler.is_compiling() or checkpoints_blocks() or h.device.type != "cpu":
        return False  # elsewhere kernels are better few than small
    return h.requires_grad and h.numel() > SMALL and at_least_float32(h.dtype) == product_dtype(h)


def stacked_skips(h: Tensor, layers: Sequence[GatedLayer], skip: nn.Linear) -> Tensor:
    """Return relu(skip(all z)), (T * batch, S), of layers without conditions, for h (batch, T, w).

    Gradients have no gradients of their own, and hooks of the layers are not called.
    """
    taps = torch.stack([layer.taps.weight for layer in layers])
    bias = torch.stack([layer.taps.bias for layer in layers])
    residuals = [layer.residual.weight for layer in layers if layer.residual is not None]
    steps = [layer.dilation * len(h) for layer in layers]
    columns = h.permute(2, 1, 0).flatten(1)
    rows: Tensor = _Stack.apply(columns, steps, taps, bias, skip.weight, skip.bias, *residuals)  # type: ignore[no-untyped-call]
    return rows


class _Stack(torch.autograd.Function):
    @staticmethod
    def forward(  # type: ignore[override]
        ctx: Any, h: Tensor, steps: list[int], taps: Tensor, bias: Tensor, *others: Tensor
    ) -> Tensor:
        skip, skip_bias, *residuals = others
        (width, length), gates = h.shape, taps.shape[1] // 2
        factors = taps.new_ones(2 * gates, 1)
        factors[:gates] = 2  # tanh(x) = 2 sigm(2 x) - 1
        older = (taps * factors).unflatten(2, (-1, width)).unbind(2)
        newest = torch.cat([older[-1], bias[..., None] * factors], 2)
        h = torch.cat([h, h.new_ones(1, length)])
        inputs, values, z = [h], [], h.new_empty(len(taps), gates, length)
        for layer, step in enumerate(steps):
            a = torch.mm(newest[layer], h)
            for number, tap in enumerate(reversed(older[:-1]), 1):
                delay = min(number * step, length)
                a[:, delay:].addmm_(tap[layer], h[:width, : length - delay])
            t, s = a.sigmoid_().split(gates)
            torch.mul(twice_less_one_(t), s, out=z[layer])
            values.append(a)
            if layer < len(residuals):
                h = h.clone()
                h[:width].addmm_(residuals[layer], z[layer])
                inputs.append(h)
        rows = torch.addmm(skip_bias, z.flatten(0, 1).t(), skip.t()).relu_()
        ctx.steps = steps
        ctx.save_for_backward(rows, z, taps, skip, *residuals, *inputs, *values)
        return rows

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:  # type: ignore[override]
        rows, z, taps, skip, *kept = ctx.saved_tensors
        steps, count = ctx.steps, len(taps)
        residuals, kept = kept[: count - 1], kept[count - 1 :]
        width, length = len(kept[0]) - 1, z.shape[2]
        grad = torch.ops.aten.threshold_backward(grad, rows, 0)
        dz = torch.mm(skip.t(), grad.t()).view_as(z)
        dh, da = z.new_zeros(width, length), torch.empty_like(kept[-1])
        by_tap, dbias = taps.unflatten(2, (-1, width)), taps.new_empty(taps.shape[:2])
        dtaps, dresiduals = torch.empty_like(by_tap), [dh] * (count - 1)
        few = max(1, PIECE // length)
        for layer in reversed(range(count)):
            h, a = kept[layer][:width], kept[count + layer]
            if layer < count - 1:
                dresiduals[layer] = torch.mm(dh, z[layer].t())
                dz[layer].addmm_(residuals[layer].t(), dh)
            halves = (half.split(few) for half in (dz[layer], *a.chunk(2), *da.chunk(2)))
            for parts in zip(*halves, strict=True):  # which fit the cache
                product_backward(*parts)
            torch.sum(da, 1, out=dbias[layer])
            for number in range(by_tap.shape[2]):
                delay = min(number * steps[layer], length)
                late = da[:, delay:]
                dtaps[layer, :, -1 - number] = torch.mm(late, h[:, : length - delay].t())
                dh[:, : length - delay].addmm_(by_tap[layer, :, -1 - number].t(), late)
        dskip = torch.mm(grad.t(), z.flatten(0, 1).t())
        return dh, None, dtaps.flatten(2), dbias, dskip, grad.sum(0), *dresiduals
