"""Gates: products of sigmoids and tanhs, with backward passes written out.

On a processor torch's sigmoid takes a ninth of the time of its tanh, but ten times as long as it
where the values that lie in a run are fewer than two vectors, as those of a few maps are. So all
values are brought gate by gate into runs of their own, a tanh is computed as 2 sigm(2 x) - 1, and
both in float32, since 2 sigm - 1 would lose a bfloat16's small values. Pieces of a batch that fit
the cache are taken one after the other.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from arcore.primitives.precision import at_least_float32

PIECE, SMALL = 1 << 17, 1 << 12  # values of a gate taken at once; too few to care


def tanh_(x: Tensor) -> Tensor:
    """Apply tanh in place; x is contiguous and at least float32."""
    x.mul_(2).sigmoid_()
    return torch.add(x.new_full((), -1), x, alpha=2, out=x)


def gated(a: Tensor) -> Tensor:
    """Return tanh(f) sigm(g) of a = [f | g].

    Arguments:
        a: (..., 2 w).

    Returns:
        (..., w).

    Example:
        >>> gated(torch.tensor([0.5, 0.0])).item() == 0.5 * torch.tensor(0.5).tanh().item()
        True
    """
    if torch.compiler.is_compiling() or a.numel() <= SMALL:
        f, g = a.chunk(2, -1)
        return torch.tanh(f) * torch.sigmoid(g)
    out: Tensor = _Gated.apply(a)  # type: ignore[no-untyped-call]
    return out


def multiplicative(h: Tensor, gates: Tensor) -> Tensor:
    """Return sigm(g1) tanh(sigm(g2) h + sigm(g3) tanh(u)) of gates [g1 | g2 | g3 | u].

    Arguments:
        h: (..., w).
        gates: (..., 4 w).

    Returns:
        (..., w).
    """
    if torch.compiler.is_compiling() or gates.numel() <= SMALL:
        g1, g2, g3, u = gates.chunk(4, -1)
        g1, g2, g3 = torch.sigmoid(g1), torch.sigmoid(g2), torch.sigmoid(g3)
        return g1 * torch.tanh(g2 * h + g3 * torch.tanh(u))
    out: Tensor = _Multiplicative.apply(h, gates)  # type: ignore[no-untyped-call]
    return out


def lstm_cell(gates: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
    """Advance a cell: c' = f c + i tanh(g), h' = o tanh(c'), gates o, f, i through a sigmoid.

    Arguments:
        gates: (..., 4 w), as [o | f | i | g].
        c: (..., w).

    Returns:
        h' and c', (..., w).

    Example:
        >>> h, c = lstm_cell(torch.zeros(2, 12), torch.ones(2, 3))
        >>> c[0, 0].item()  # sigm(0) 1 + sigm(0) tanh(0)
        0.5
    """
    if torch.compiler.is_compiling() or gates.numel() <= SMALL:
        width = c.shape[-1]
        o, f, i = torch.sigmoid(gates[..., : 3 * width]).split(width, -1)
        c = f * c + i * torch.tanh(gates[..., 3 * width :])
        return o * torch.tanh(c), c
    out: tuple[Tensor, Tensor] = _LSTMCell.apply(gates, c)  # type: ignore[no-untyped-call]
    return out


class _Gated(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, a: Tensor) -> Tensor:  # type: ignore[override]
        a, shape = a.reshape(-1, a.shape[-1]), (*a.shape[:-1], a.shape[-1] // 2)
        out, values = a.new_empty(len(a), shape[-1]), a.new_empty(2, len(a), shape[-1])
        for rows in _pieces(out):
            both = _by_gate(a[rows], 2)
            t, s = both
            t.mul_(2)
            both.sigmoid_()
            torch.add(t.new_full((), -1), t, alpha=2, out=t)
            values[:, rows] = both
            out[rows] = t.mul_(s)
        ctx.save_for_backward(values)
        return out.view(shape)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Tensor:  # type: ignore[override]
        (values,) = ctx.saved_tensors
        da = values.new_empty(values.shape[1], 2 * grad.shape[-1])
        flat = grad.reshape(values.shape[1:])
        for rows in _pieces(flat):
            both, dz = _wide(values[:, rows]), _wide(flat[rows])
            dboth = torch.empty_like(both)
            torch.ops.aten.tanh_backward(dz * both[1], both[0], grad_input=dboth[0])
            torch.ops.aten.sigmoid_backward(dz * both[0], both[1], grad_input=dboth[1])
            da[rows] = _side_by_side(dboth)
        out: Tensor = da.view(*grad.shape[:-1], -1)
        return out


class _Multiplicative(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, h: Tensor, gates: Tensor) -> Tensor:  # type: ignore[override]
        shape, gates = h.shape, gates.reshape(-1, gates.shape[-1])
        flat = h.reshape(-1, shape[-1])
        out, values = gates.new_empty(flat.shape), gates.new_empty(5, *flat.shape)
        for rows in _pieces(flat):
            four = _by_gate(gates[rows], 4)
            g1, g2, g3, u = four
            u.mul_(2)
            four.sigmoid_()
            torch.add(u.new_full((), -1), u, alpha=2, out=u)
            t = tanh_((u * g3).addcmul_(g2, _wide(flat[rows])))
            values[:4, rows], values[4, rows] = four, t
            out[rows] = t.mul_(g1)
        ctx.save_for_backward(flat, values)
        return out.view(shape)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        flat, values = ctx.saved_tensors
        dgates = values.new_empty(len(flat), 4 * flat.shape[-1])
        shape, grad = grad.shape, grad.reshape(flat.shape)
        dh = flat.new_empty(flat.shape)
        for rows in _pieces(flat):
            dz, h = _wide(grad[rows]), _wide(flat[rows])
            (g1, g2, g3, u, t), four = _wide(values[:, rows]), dz.new_empty(4, *dz.shape)
            dv = torch.ops.aten.tanh_backward(dz * g1, t)
            torch.ops.aten.sigmoid_backward(dz.mul_(t), g1, grad_input=four[0])
            torch.ops.aten.sigmoid_backward(h.mul_(dv), g2, grad_input=four[1])
            torch.ops.aten.sigmoid_backward(dv * u, g3, grad_input=four[2])
            torch.ops.aten.tanh_backward(dv * g3, u, grad_input=four[3])
            dh[rows] = dv.mul_(g2)
            dgates[rows] = _side_by_side(four)
        return dh.view(shape), dgates.view(*shape[:-1], -1)


class _LSTMCell(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, gates: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        shape, gates, before = (
            c.shape,
            gates.reshape(-1, gates.shape[-1]),
            c.reshape(-1, c.shape[-1]),
        )
        h, c = gates.new_empty(before.shape), torch.empty_like(before)
        values = gates.new_empty(5, *before.shape)
        for rows in _pieces(before):
            four = _by_gate(gates[rows], 4)
            o, f, i, g = four
            g.mul_(2)
            four.sigmoid_()
            torch.add(g.new_full((), -1), g, alpha=2, out=g)
            now = (i * g).addcmul_(f, _wide(before[rows]))
            c[rows] = now
            t = tanh_(now)
            values[:4, rows], values[4, rows] = four, t
            h[rows] = t.mul_(o)
        ctx.save_for_backward(before, values)
        return h.view(shape), c.view(shape)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dh: Tensor, dc: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        before, values = ctx.saved_tensors
        dgates = values.new_empty(len(before), 4 * before.shape[-1])
        shape, dh, dc = dh.shape, dh.reshape(before.shape), dc.reshape(before.shape)
        dbefore = torch.empty_like(before)
        for rows in _pieces(before):
            (o, f, i, g, t), dz = _wide(values[:, rows]), _wide(dh[rows])
            four = dz.new_empty(4, *dz.shape)
            dnow = torch.ops.aten.tanh_backward(dz * o, t).add_(dc[rows])
            torch.ops.aten.sigmoid_backward(dz.mul_(t), o, grad_input=four[0])
            torch.ops.aten.sigmoid_backward(dnow * before[rows], f, grad_input=four[1])
            torch.ops.aten.sigmoid_backward(dnow * g, i, grad_input=four[2])
            torch.ops.aten.tanh_backward(dnow * i, g, grad_input=four[3])
            dbefore[rows] = dnow.mul_(f)
            dgates[rows] = _side_by_side(four)
        return dgates.view(*shape[:-1], -1), dbefore.view(shape)


def _pieces(part: Tensor) -> list[slice]:
    rows = max(1, PIECE // part.shape[-1])
    return [slice(first, first + rows) for first in range(0, len(part), rows)]


def _wide(part: Tensor) -> Tensor:
    """Copy into a run, at least in float32."""
    wide = torch.empty(part.shape, dtype=at_least_float32(part.dtype), device=part.device)
    return wide.copy_(part)


def _by_gate(piece: Tensor, number: int) -> Tensor:
    """Copy (rows, number * w) to (number, rows, w), at least in float32."""
    wide = piece.to(at_least_float32(piece.dtype)).unflatten(-1, (number, -1)).movedim(1, 0)
    return torch.empty(wide.shape, dtype=wide.dtype, device=wide.device).copy_(wide)


def _side_by_side(gates: Tensor) -> Tensor:
    """Copy (number, rows, w) to (rows, number * w)."""
    return gates.movedim(0, 1).flatten(1)
