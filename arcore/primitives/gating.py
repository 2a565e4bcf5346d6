"""Gates: products of sigmoids and tanhs, with backward passes written out.

On a processor torch's sigmoid takes a ninth of the time of its tanh, but ten times as long as it
where the values that lie in a run are fewer than two vectors, as those of a few maps are. So one
sigmoid goes over all gates as they lie, a tanh is computed as 2 sigm(2 x) - 1, and both in
float32, since 2 sigm - 1 would lose a bfloat16's small values. Pieces of a batch that fit the cache
are taken one after the other.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from arcore.primitives.precision import at_least_float32

PIECE, SMALL = 1 << 16, 1 << 12  # values of a gate taken at once; too few to care


def tanh_(x: Tensor) -> Tensor:
    """Apply tanh in place; x is contiguous and at least float32."""
    return twice_less_one_(x.mul_(2).sigmoid_())


def gated(a: Tensor) -> Tensor:
    """Return tanh(f) sigm(g) of a = [f | g]."""
    if torch.compiler.is_compiling() or a.numel() <= SMALL:
        f, g = a.chunk(2, -1)
        return torch.tanh(f) * torch.sigmoid(g)
    return _Gated.apply(a)  # type: ignore[no-untyped-call]


def multiplicative(h: Tensor, gates: Tensor) -> Tensor:
    """Return sigm(g1) tanh(sigm(g2) h + sigm(g3) tanh(u)) of gates [g1 | g2 | g3 | u]."""
    if torch.compiler.is_compiling() or gates.numel() <= SMALL:
        g1, g2, g3, u = gates.chunk(4, -1)
        g1, g2, g3 = torch.sigmoid(g1), torch.sigmoid(g2), torch.sigmoid(g3)
        return g1 * torch.tanh(g2 * h + g3 * torch.tanh(u))
    return _Multiplicative.apply(h, gates)  # type: ignore[no-untyped-call]


def lstm_cell(gates: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
    """Advance a cell: c' = f c + i tanh(g), h' = o tanh(c'), gates o, f, i through a sigmoid."""
    if torch.compiler.is_compiling() or gates.numel() <= SMALL:
        width = c.shape[-1]
        o, f, i = torch.sigmoid(gates[..., : 3 * width]).split(width, -1)
        c = f * c + i * torch.tanh(gates[..., 3 * width :])
        return (o * torch.tanh(c)).to(gates.dtype), c
    return _LSTMCell.apply(gates, c)  # type: ignore[no-untyped-call]


class _Gated(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, a: Tensor) -> Tensor:  # type: ignore[override]
        shape, a = (*a.shape[:-1], a.shape[-1] // 2), a.reshape(-1, a.shape[-1])
        out, values = a.new_empty(len(a), shape[-1]), torch.empty_like(a)
        for rows in _pieces(out):
            t, s = _squashed(a[rows], 2, 0, values[rows]).chunk(2, -1)
            _multiply(t, s, out[rows])
        ctx.save_for_backward(values)
        return out.view(shape)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Tensor:  # type: ignore[override]
        (values,) = ctx.saved_tensors
        da, flat = torch.empty_like(values), grad.reshape(len(values), -1)
        for rows in _pieces(flat):
            dboth = _workspace(da[rows])
            (t, s), (df, dg) = _wide(values[rows]).chunk(2, -1), dboth.chunk(2, -1)
            product_backward(_wide(flat[rows]), t, s, df, dg)
            _store(dboth, da[rows])
        return da.view(*grad.shape[:-1], -1)


class _Multiplicative(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, h: Tensor, gates: Tensor) -> Tensor:  # type: ignore[override]
        shape, gates = h.shape, gates.reshape(-1, gates.shape[-1])
        flat = h.reshape(-1, shape[-1])
        out, last = gates.new_empty(flat.shape), gates.new_empty(flat.shape)
        values = torch.empty_like(gates)
        for rows in _pieces(flat):
            g1, g2, g3, u = _squashed(gates[rows], 4, 3, values[rows]).chunk(4, -1)
            t = tanh_((u * g3).addcmul_(g2, _wide(flat[rows])))
            last[rows] = t
            _multiply(t, g1, out[rows])
        ctx.save_for_backward(flat, values, last)
        return out.view(shape)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        flat, values, last = ctx.saved_tensors
        dgates, dh = torch.empty_like(values), torch.empty_like(flat)
        shape, grad = grad.shape, grad.reshape(flat.shape)
        for rows in _pieces(flat):
            four, t, dfour = _wide(values[rows]), _wide(last[rows]), _workspace(dgates[rows])
            (g1, g2, g3, u), (d1, d2, d3, du) = four.chunk(4, -1), dfour.chunk(4, -1)
            dv = torch.empty_like(t)
            product_backward(_wide(grad[rows]), t, g1, dv, d1)
            product_backward(dv, u, g3, du, d3)
            dh[rows] = dv.mul_(g2)
            dv.mul_(flat[rows])
            torch.addcmul(dv, dv, g2, value=-1, out=d2)
            _store(dfour, dgates[rows])
        return dh.view(shape), dgates.view(*shape[:-1], -1)


class _LSTMCell(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, gates: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        shape, gates = c.shape, gates.reshape(-1, gates.shape[-1])
        before = c.reshape(-1, shape[-1])
        h, c = gates.new_empty(before.shape), torch.empty_like(before)
        last, values = gates.new_empty(before.shape), torch.empty_like(gates)
        for rows in _pieces(before):
            o, f, i, g = _squashed(gates[rows], 4, 3, values[rows]).chunk(4, -1)
            now = (i * g).addcmul_(f, _wide(before[rows]))
            c[rows] = now
            t = tanh_(now)
            last[rows] = t
            _multiply(t, o, h[rows])
        ctx.save_for_backward(before, values, last)
        return h.view(shape), c.view(shape)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dh: Tensor, dc: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        before, values, last = ctx.saved_tensors
        dgates, dbefore = torch.empty_like(values), torch.empty_like(before)
        shape, dh, dc = dh.shape, dh.reshape(before.shape), dc.reshape(before.shape)
        for rows in _pieces(before):
            four, t, dfour = _wide(values[rows]), _wide(last[rows]), _workspace(dgates[rows])
            (o, f, i, g), (do, df, di, dg) = four.chunk(4, -1), dfour.chunk(4, -1)
            dnow = torch.empty_like(t)
            product_backward(_wide(dh[rows]), t, o, dnow, do)
            dnow.add_(dc[rows])
            product_backward(dnow, g, i, dg, di)
            dbefore[rows] = dnow.mul_(f)
            dnow.mul_(before[rows])
            torch.addcmul(dnow, dnow, f, value=-1, out=df)
            _store(dfour, dgates[rows])
        return dgates.view(*shape[:-1], -1), dbefore.view(shape)


def _pieces(part: Tensor) -> list[slice]:
    if part.device.type != "cpu":  # whose kernels are better few than small
        return [slice(0, len(part))]
    rows = -(-len(part) // max(1, round(part.numel() / PIECE)))
    return [slice(first, first + rows) for first in range(0, len(part), max(1, rows))]


def _wide(part: Tensor) -> Tensor:
    """Return the values of a part, at least in float32."""
    return part.to(at_least_float32(part.dtype))


def _workspace(part: Tensor) -> Tensor:
    """Return what a part is computed in: itself, or float32 of its shape."""
    dtype = at_least_float32(part.dtype)
    return part if part.dtype == dtype else torch.empty_like(part, dtype=dtype)


def _store(wide: Tensor, part: Tensor) -> None:
    if wide.dtype != part.dtype:  # else it was computed there
        part.copy_(wide)


def _multiply(t: Tensor, s: Tensor, part: Tensor) -> None:
    product = torch.mul(t, s, out=_workspace(part))
    _store(product, part)


def _squashed(part: Tensor, number: int, tanh: int, kept: Tensor) -> Tensor:
    """Return gates (rows, number * w): that at `tanh` through tanh, the others through sigmoids.

    They are kept in `kept`, of the dtype of `part`.
    """
    gates = _workspace(kept)
    factors = gates.new_ones(number, part.shape[-1] // number)
    factors[tanh] = 2
    torch.mul(part, factors.flatten(), out=gates).sigmoid_()
    twice_less_one_(gates.chunk(number, -1)[tanh])
    _store(gates, kept)
    return gates


def product_backward(grad: Tensor, t: Tensor, s: Tensor, da: Tensor, db: Tensor) -> None:
    """Write the gradients of a and b, given the one of t s with t = tanh(a), s = sigm(b)."""
    by_s = grad * s
    both = by_s * t
    torch.addcmul(both, both, s, value=-1, out=db)
    torch.addcmul(by_s, both, t, value=-1, out=da)


def twice_less_one_(x: Tensor) -> Tensor:
    """Compute 2 x - 1 in place."""
    return torch.add(x.new_full((), -1), x, alpha=2, out=x)
