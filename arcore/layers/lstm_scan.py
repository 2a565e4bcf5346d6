"""What LSTMs over images share: weights, and a scan of the cell over rows or diagonals."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable


def state_weight(*shape: int) -> nn.Parameter:
    """Make a weight (kernel, ..., h, 4 h) from states to gates, uniform by number of inputs."""
    bound = math.sqrt(3 / (shape[0] * shape[-2]))
    return nn.Parameter(torch.empty(shape).uniform_(-bound, bound))


@torch.no_grad()
def open_forget_gate(bias: nn.Parameter | None, width: int) -> None:
    """Start with forget gates open: add 1 to f in a bias of [o | f | i | g] cells, (n * 4 h,)."""
    assert bias is not None
    bias.view(-1, 4, width)[:, 1] += 1


@dataclasses.dataclass(frozen=True)
class Plan:
    """In which order a scan takes pixels, and where it keeps their states.

    States live in slots. Step t takes the states before it at slots `first[t]` + offset, for each
    offset of the kernel, and leaves new ones at `first[t]` and those that follow. Slots that no
    step has written yet hold zeros or initial states.

    Attributes:
        order: (directions, pixels) pixel by pixel in the order of computation, a step's in a run.
        sizes: number of pixels of each step.
        first: slot of each step's first pixel.
        offsets: of the kernel, in slots.
        num_slots: slots of a direction.
        initial_steps, initial_slots: before which step each initial state enters, and where.
        delay: the output of direction d is moved on by d * delay pixels.
        in_order: whether `order` counts up.
    """

    order: Tensor
    sizes: tuple[int, ...]
    first: tuple[int, ...]
    offsets: tuple[int, ...]
    num_slots: int
    initial_steps: Tensor
    initial_slots: Tensor
    delay: int = 0
    in_order: bool = False

    def places(self) -> Tensor:
        """Return where each pixel's state is, (directions, pixels), in (steps + 1) * slots."""
        device = self.order.device
        sizes = torch.tensor(self.sizes, device=device)
        begins = torch.tensor(self.first, device=device) + self.num_slots * torch.arange(
            1, len(sizes) + 1, device=device
        )
        ends = sizes.cumsum(0)
        within = torch.arange(self.order.shape[1], device=device)
        within = within + (begins - ends + sizes).repeat_interleave(sizes)
        return torch.empty_like(self.order).scatter_(1, self.order, within.expand_as(self.order))


def lstm_scan(
    x: Tensor, weight: Tensor, initial_h: Tensor, initial_c: Tensor, plan: Plan
) -> Tensor:
    """Run LSTMs over the pixels of an image, each step's pixels at once.

    Only the recurrence is computed, one product per step and offset of the kernel; backward
    passes are written out, since what automatic differentiation keeps and copies for that many
    small steps costs more than they do.

    Arguments:
        x: gates' inputs, (directions, pixels, batch, 4 h) with [o | f | i | g].
        weight: (offsets, directions, h, 4 h).
        initial_h: (directions, initial states, h).
        initial_c: (directions, initial states, h).
        plan: order and places.

    Returns:
        h of each pixel, directions added up, (pixels, batch, h).
    """
    with torch.autocast(x.device.type, enabled=False):  # states keep the parameters' precision
        out: Tensor = _Scan.apply(x, weight, initial_h, initial_c, plan)  # type: ignore[no-untyped-call]
    return out


class _Scan(torch.autograd.Function):
    """Gates are kept as their values, in the order of computation; states by steps and slots.

    All lie as (directions, rows, values), rows being pixels or slots of the whole batch, so that a
    step's part is one slice. A tanh is computed as 2 sigm(2 x) - 1, since torch's tanh takes
    several times as long.
    """

    @staticmethod
    def forward(  # type: ignore[override]
        ctx: Any, x: Tensor, weight: Tensor, initial_h: Tensor, initial_c: Tensor, plan: Plan
    ) -> Tensor:
        directions, pixels, batch, width = x.shape
        hidden = width // 4
        gates = weight.new_empty(x.shape)
        for one, order, source in zip(gates, plan.order, x, strict=True):
            one.copy_(source if plan.in_order else source.index_select(0, order))
        gates = gates.flatten(1, 2)
        shape = (directions, (len(plan.sizes) + 1) * plan.num_slots, batch, hidden)
        h, c, tanhs = weight.new_zeros(shape), weight.new_zeros(shape), weight.new_empty(shape)
        starts = plan.initial_steps * plan.num_slots + plan.initial_slots
        for states, initial in ((h, initial_h), (c, initial_c)):
            for one, source in zip(states, initial, strict=True):
                one.index_copy_(0, starts, source[:, None].expand(-1, batch, -1))
        h, c, tanhs = (states.flatten(1, 2) for states in (h, c, tanhs))
        minus_one, step = weight.new_full((), -1), plan.num_slots * batch
        matrices = [(one, k * batch) for one, k in zip(weight, plan.offsets, strict=True)]
        parts = _by_step([gates, *gates.chunk(4, -1)], plan, batch)
        for _, begin, rows, gate, o, f, i, g in parts:
            for matrix, offset in matrices:
                gate.baddbmm_(h.narrow(1, begin + offset, rows), matrix)
            g.mul_(2)
            gate.sigmoid_()
            torch.add(minus_one, g, alpha=2, out=g)
            now, tanh, new_h = (s.narrow(1, begin + step, rows) for s in (c, tanhs, h))
            torch.mul(f, c.narrow(1, begin, rows), out=now).addcmul_(i, g)
            torch.mul(now, 2, out=tanh).sigmoid_()
            torch.add(minus_one, tanh, alpha=2, out=tanh)
            torch.mul(o, tanh, out=new_h)
        places, pixelwise = plan.places(), h.view(shape)
        out = pixelwise[0].index_select(0, places[0])
        for d in range(1, directions):
            moved = places[d, : pixels - d * plan.delay]
            out[d * plan.delay :] += pixelwise[d].index_select(0, moved)
        ctx.plan, ctx.places, ctx.starts, ctx.dtype = plan, places, starts, x.dtype
        ctx.batch = batch
        ctx.save_for_backward(weight, gates, h, c, tanhs)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        plan, places, batch = ctx.plan, ctx.places, ctx.batch
        weight, gates, h, c, tanhs = ctx.saved_tensors
        directions, width = len(gates), gates.shape[-1]
        pixels, step = places.shape[1], plan.num_slots * batch
        dweight, dgates, dh = torch.zeros_like(weight), torch.empty_like(gates), torch.zeros_like(h)
        dc = weight.new_zeros(directions, step, width // 4)  # of one step
        pixelwise = dh.unflatten(1, ((len(plan.sizes) + 1) * plan.num_slots, batch))
        for d in range(directions):
            moved = places[d, : pixels - d * plan.delay]
            pixelwise[d].index_copy_(0, moved, grad[d * plan.delay :])
        matrices = [
            (one.transpose(1, 2), done, k * batch)
            for one, done, k in zip(weight, dweight, plan.offsets, strict=True)
        ]
        logistic = 3 * width // 4
        values = [*gates.chunk(4, -1), gates[..., :logistic]]
        changes = [dgates, *dgates.chunk(4, -1), dgates[..., :logistic]]
        parts = list(_by_step([*values, *changes], plan, batch))
        for first, begin, rows, o, f, i, g, ofi, dgate, do, df, di, dg, dofi in reversed(parts):
            tanh, dh_now = (s.narrow(1, begin + step, rows) for s in (tanhs, dh))
            dc_now = dc.narrow(1, first, rows)
            torch.mul(dh_now, tanh, out=do)
            dc_now += torch.ops.aten.tanh_backward(dh_now * o, tanh)
            torch.mul(dc_now, c.narrow(1, begin, rows), out=df)
            torch.mul(dc_now, g, out=di)
            torch.ops.aten.tanh_backward(dc_now * i, g, grad_input=dg)
            torch.ops.aten.sigmoid_backward(dofi, ofi, grad_input=dofi)
            dc_now *= f
            for matrix, done, offset in matrices:
                seen, dseen = (s.narrow(1, begin + offset, rows) for s in (h, dh))
                dseen.baddbmm_(dgate, matrix)
                done.baddbmm_(seen.transpose(1, 2), dgate)
        dx = torch.empty(
            (batch, pixels, directions, width), dtype=ctx.dtype, device=gates.device
        ).permute(2, 1, 0, 3)
        sources = dgates.unflatten(1, (pixels, batch))
        for one, inverse, source in zip(dx, plan.order.argsort(1), sources, strict=True):
            one.copy_(source if plan.in_order else source.index_select(0, inverse))
        dh0 = pixelwise.index_select(1, ctx.starts).sum(2)
        dc0 = dc.unflatten(1, (plan.num_slots, batch)).index_select(1, plan.initial_slots).sum(2)
        return dx, dweight, dh0, dc0, None


def _by_step(wholes: list[Tensor], plan: Plan, batch: int) -> Iterator[tuple[Any, ...]]:
    """Yield a step's first row among its slots, the same among all, its number of rows and parts.

    The parts are those of tensors (directions, pixels * batch, ...).
    """
    rows = [size * batch for size in plan.sizes]
    first = [slot * batch for slot in plan.first]
    begins = [one + t * plan.num_slots * batch for t, one in enumerate(first)]
    parts = (whole.split(rows, 1) for whole in wholes)
    return zip(first, begins, rows, *parts, strict=True)
