"""PixelCNN's residual block on a processor, with fewer passes over memory.

There its pointwise steps take as long as its products. So convolutions apply a relu before they
write, the last one adds onto the block's input in place, relus of bfloat16 compare integers, and
the rows of zeros above an image are there from the first map on, not padded on and cut off again.
In float32 it gives what the layers give one by one, bit by bit. Gradients differ by rounding: those
of the first weight, and, of many pixels, what 1 x 1 convolutions hand back, since products of
matrices take 0.7 of their time there.
"""

import functools
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from arcore.layers.convolutions import CausalConv2d
from arcore.primitives.activation_checkpointing import checkpoints_blocks
from arcore.primitives.products import has_fast_onednn

LEAST_PIXELS = 10_000  # for products of matrices
LEAST_IMAGES = 16  # of fewer in float32, torch takes another library than oneDNN in one thread


def has_residual_conv(u: Tensor) -> bool:
    """Whether `residual_conv` takes these maps: they record gradients and are oneDNN's."""
    if torch.compiler.is_compiling() or not torch.is_grad_enabled() or checkpoints_blocks():
        return False  # a checkpointed block reads its input again
    if u.is_leaf or u._base is not None or not torch.backends.mkldnn.enabled:
        return False  # neither may be written over: a hook's maps are a view
    many = u.dtype == torch.float32 and len(u) >= LEAST_IMAGES
    fits = u.device.type == "cpu" and (many or u.dtype == torch.bfloat16) and u.numel() > 0
    return fits and u.is_contiguous(memory_format=torch.channels_last) and _has_onednn(u.dtype)


def residual_conv(
    u: Tensor, reduce: CausalConv2d, core: CausalConv2d, expand: CausalConv2d
) -> Tensor:
    """Return u + expand(relu(core(relu(reduce(relu(u)))))), written over u.

    That is what the layers give one by one, but bfloat16's last sum is rounded once. Gradients
    have no gradients of their own, and hooks of the three layers are not called.
    """
    columns, right, above, _ = core.padding
    if columns != right:
        raise ValueError(f"core: expected columns padded alike, got {columns} and {right}")
    layers = (reduce, core, expand)
    weights = [w for layer in layers for w in (layer.masked_weight(), layer.bias)]
    return _ResidualConv.apply(u, above, columns, *weights)  # type: ignore[no-untyped-call]


@functools.cache
def _has_onednn(dtype: torch.dtype) -> bool:
    mkldnn = torch.ops.mkldnn
    asked = ("_is_mkldnn_bf16_supported", "_convolution_pointwise", "_convolution_pointwise_")
    known = torch.backends.mkldnn.is_available() and all(hasattr(mkldnn, name) for name in asked)
    return known and (dtype == torch.float32 or bool(mkldnn._is_mkldnn_bf16_supported()))


class _ResidualConv(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, u: Tensor, above: int, columns: int, *weights: Tensor) -> Tensor:
        own = [_nhwc(w.to(u.dtype)) for w in weights]
        reduce, reduce_bias, core, core_bias, expand, expand_bias = own
        batch, maps, height, width = u.shape
        size = (batch, maps, above + height, width)
        a = torch.empty(size, dtype=u.dtype, memory_format=torch.channels_last)
        a[:, :, :above].zero_()
        torch.clamp_min(_bits(u), 0, out=_bits(a[:, :, above:]))
        b = _convolve(a, reduce, reduce_bias, 0)
        b[:, :, :above].zero_()  # where the reduction has left its bias
        c = _convolve(b, core, core_bias, columns)
        add: tuple[Any, ...] = ([0, 0], [1, 1], [1, 1], 1, "add", 1.0, None, [], None)
        torch.ops.mkldnn._convolution_pointwise_.binary(u, c, expand, expand_bias, *add)
        ctx.mark_dirty(u)
        ctx.save_for_backward(a, b, c, reduce, core, expand)
        ctx.above, ctx.columns = above, columns
        return u

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        a, b, c, reduce, core, expand = ctx.saved_tensors
        c_grad, *expand_grads = _convolve_backward(_nhwc(grad), c, expand, 0)
        b_grad, *core_grads = _convolve_backward(_relu_backward(c_grad, c), b, core, ctx.columns)
        a_grad, *reduce_grads = _convolve_backward(_relu_backward(b_grad, b), a, reduce, 0)
        inside = slice(ctx.above, None)
        u_grad = torch.add(_relu_backward(a_grad[:, :, inside], a[:, :, inside]), grad)
        return u_grad, None, None, *reduce_grads, *core_grads, *expand_grads


def _nhwc(x: Tensor) -> Tensor:
    return x.contiguous(memory_format=torch.channels_last) if x.dim() == 4 else x


def _convolve(x: Tensor, weight: Tensor, bias: Tensor, columns: int) -> Tensor:
    """Convolve with columns of zeros on both sides; apply a relu."""
    options: tuple[Any, ...] = ([0, columns], [1, 1], [1, 1], 1, "relu", [], "")
    return torch.ops.mkldnn._convolution_pointwise(x, weight, bias, *options)


def _convolve_backward(
    grad: Tensor, x: Tensor, weight: Tensor, columns: int
) -> tuple[Tensor, Tensor, Tensor]:
    pixels = grad.numel() // grad.shape[1]
    is_product = x.dtype == torch.float32 and not has_fast_onednn()
    if is_product and weight[0, 0].numel() == 1 and pixels >= LEAST_PIXELS:
        rows, seen = (maps.movedim(1, -1).flatten(0, 2) for maps in (grad, x))
        x_grad = torch.mm(rows, weight.flatten(1)).view(x.movedim(1, -1).shape).movedim(-1, 1)
        return x_grad, torch.mm(rows.t(), seen).view(weight.shape), rows.sum(0)
    options = ([1, 1], [0, columns], [1, 1], False, [0, 0], 1, [True, True, True])
    return torch.ops.aten.convolution_backward(grad, x, weight, [len(weight)], *options)


def _relu_backward(grad: Tensor, y: Tensor) -> Tensor:
    """Set a gradient of y = relu(x) to zero, in place, where y is."""
    torch.ops.aten.threshold_backward.grad_input(_bits(grad), _bits(y), 0, grad_input=_bits(grad))
    return grad


def _bits(x: Tensor) -> Tensor:
    """Read bfloat16 as integers, which have the same signs and are compared three times as fast."""
    return x.view(torch.int16) if x.dtype == torch.bfloat16 else x
