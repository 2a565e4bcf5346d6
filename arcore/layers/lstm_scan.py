"""What LSTMs over images share: weights, and a scan of the cell over rows or diagonals."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from arcore.primitives.products import multiply
from arcore.primitives.transfer import to_device


def state_weight(*shape: int) -> nn.Parameter:
    """Make a weight (kernel, ..., h, 4 h) from states to gates, uniform by number of inputs."""
    bound = math.sqrt(3 / (shape[0] * shape[-2]))
    return nn.Parameter(torch.empty(shape).uniform_(-bound, bound))


@torch.no_grad()
def open_forget_gate(bias: nn.Parameter | None, width: int) -> None:
    """Start with forget gates open: add 1 to f in a bias of [o | f | i | g] cells, (n * 4 h,)."""
    assert bias is not None
    bias.view(-1, 4, width)[:, 1] += 1


class ScanPlan:
    """In which order a scan takes pixels, and where it keeps their states.

    Step t takes the states before it from slots `first[t]` + offset of a plane, for each offset of
    the kernel, and leaves new ones at `first[t]` and the slots that follow in the next plane. Slots
    that no step writes hold zeros or initial states. Only a plane's slots that are used are kept,
    one plane after the other.

    Arguments:
        order: (directions, pixels) pixel by pixel in the order of computation, a step's in a run.
        sizes: number of pixels of each step.
        first: slot of each step's first pixel.
        offsets: of the kernel, in slots, 0 among them.
        num_slots: slots of a plane.
        initial_steps, initial_slots: before which step each initial state enters, and at which of
            the slots that it reads.
        delay: the output of direction d is moved on by d * delay pixels.
    """

    def __init__(
        self,
        order: Tensor,
        sizes: Sequence[int],
        first: Sequence[int],
        offsets: Sequence[int],
        num_slots: int,
        initial_steps: Tensor,
        initial_slots: Tensor,
        delay: int = 0,
    ) -> None:
        self.order, self.sizes, self.first, self.offsets = order, sizes, first, offsets
        self.num_slots, self.initial_slots, self.delay = num_slots, initial_slots, delay
        steps = list(zip(first, sizes, strict=True))
        read = [(one + min(offsets), one + size + max(offsets)) for one, size in steps]
        written = [(one, one + size) for one, size in steps]
        planes, self.num_kept = [], 0  # where each plane's slot 0 would be kept
        for spans in zip([*read, written[-1]], [read[0], *written], strict=True):
            lowest, end = min(one for one, _ in spans), max(one for _, one in spans)
            planes.append(self.num_kept - lowest)
            self.num_kept += end - lowest
        self.old = [plane + one for plane, one in zip(planes[:-1], first, strict=True)]
        self.new = [plane + one for plane, one in zip(planes[1:], first, strict=True)]
        before, after = (
            _on_device(
                [one + n for one, size in zip(begins, sizes, strict=True) for n in range(size)],
                order.device,
            )
            for begins in (self.old, self.new)
        )
        self.before, self.inverse = before, order.argsort(1)
        self.places = after[self.inverse]
        self.starts = _on_device(planes, order.device)[initial_steps] + initial_slots

    def rows(self, batch: int) -> Tensor:
        """Return which row of (batch, pixels, directions) each is, (directions, pixels, batch)."""
        directions, pixels = self.order.shape
        first, event = (torch.arange(n, device=self.order.device) for n in (directions, batch))
        return (self.order * directions + first[:, None])[..., None] + event * pixels * directions

    def rows_back(self, batch: int) -> Tensor:
        """Return which row of (directions, pixels, batch) each is, (batch, pixels, directions)."""
        directions, pixels = self.order.shape
        first, event = (torch.arange(n, device=self.order.device) for n in (directions, batch))
        place = (self.inverse + first[:, None] * pixels) * batch
        return place.t() + event[:, None, None]

    def pieces(self, whole: Tensor, begins: Sequence[int], offset: int = 0) -> tuple[Tensor, ...]:
        """Return the states (directions, step's slots * batch, h) of each step."""
        batch = whole.shape[1] // self.num_kept
        sizes, end = [], 0
        for begin, size in zip(begins, self.sizes, strict=True):
            sizes += [(begin + offset - end) * batch, size * batch]
            end = begin + offset + size
        parts: tuple[Tensor, ...] = whole.split([*sizes, (self.num_kept - end) * batch], 1)
        return parts[1::2]


def _on_device(numbers: Sequence[int], device: torch.device) -> Tensor:
    return to_device(torch.tensor(numbers, device="cpu"), device)


def lstm_scan(
    x: Tensor,
    weight: Tensor,
    initial_h: Tensor,
    initial_c: Tensor,
    make_plan: Callable[[int, int, torch.device], ScanPlan],
    size: tuple[int, int],
) -> Tensor:
    """Run LSTMs over the pixels of an image, each step's pixels at once; (pixels, batch, h).

    Backward passes are written out: what automatic differentiation keeps and copies for that many
    small steps costs more than they do.

    Arguments:
        x: gates' inputs, (directions, pixels, batch, 4 h) with [o | f | i | g].
        weight: (offsets, directions, h, 4 h).
        initial_h, initial_c: (directions, initial states, h).
        make_plan: gives order and places for a height, a width and a device; it keeps plans.
        size: height and width.
    """
    with torch.inference_mode(False):
        plan = make_plan(*size, x.device)
    with torch.autocast(x.device.type, enabled=False):  # states keep the parameters' precision
        out: Tensor = _Scan.apply(x, weight, initial_h, initial_c, plan)  # type: ignore[no-untyped-call]
    return out


class _Scan(torch.autograd.Function):
    """Gates are kept as their values, in the order of computation; states by planes and slots.

    All lie as (directions, rows, values), so that a step's part is one slice. A tanh is computed as
    2 sigm(2 x) - 1, since torch's tanh takes several times as long.
    """

    @staticmethod
    def forward(  # type: ignore[override]
        ctx: Any, x: Tensor, weight: Tensor, initial_h: Tensor, initial_c: Tensor, plan: ScanPlan
    ) -> Tensor:
        directions, pixels, batch, width = x.shape
        lying = x.permute(2, 1, 0, 3).reshape(-1, width)  # as a convolution leaves it
        gates = lying.index_select(0, plan.rows(batch).flatten()).to(weight.dtype)
        gates = gates.view(directions, pixels * batch, width)
        shape = (directions, plan.num_kept, batch, width // 4)
        h, c, tanhs = weight.new_zeros(shape), weight.new_zeros(shape), weight.new_empty(shape)
        for states, initial in ((h, initial_h), (c, initial_c)):
            for one, source in zip(states, initial, strict=True):
                one.index_copy_(0, plan.starts, source[:, None].expand(-1, batch, -1))
        h, c, tanhs = (states.flatten(1, 2) for states in (h, c, tanhs))
        minus_one, rows = weight.new_full((), -1), [size * batch for size in plan.sizes]
        parts = zip(
            *(whole.split(rows, 1) for whole in (gates, *gates.chunk(4, -1))),
            plan.pieces(c, plan.old),
            *(plan.pieces(whole, plan.new) for whole in (c, tanhs, h)),
            zip(*(plan.pieces(h, plan.old, k) for k in plan.offsets), strict=True),
            strict=True,
        )
        matrices = weight.unbind()
        for gate, o, f, i, g, old_c, new_c, tanh, new_h, seen in parts:
            for states, matrix in zip(seen, matrices, strict=True):
                gate.baddbmm_(states, matrix)
            g.mul_(2)
            gate.sigmoid_()
            torch.add(minus_one, g, alpha=2, out=g)
            torch.mul(f, old_c, out=new_c).addcmul_(i, g)
            torch.mul(new_c, 2, out=tanh).sigmoid_()
            torch.add(minus_one, tanh, alpha=2, out=tanh)
            torch.mul(o, tanh, out=new_h)
        pixelwise = h.view(shape)
        out = pixelwise[0].index_select(0, plan.places[0])
        for d in range(1, directions):
            moved = plan.places[d, : pixels - d * plan.delay]
            out[d * plan.delay :] += pixelwise[d].index_select(0, moved)
        ctx.plan, ctx.dtype, ctx.shape = plan, x.dtype, shape
        ctx.save_for_backward(weight, gates, h, c, tanhs)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        plan, (directions, _, batch, hidden) = ctx.plan, ctx.shape
        weight, gates, h, c, tanhs = ctx.saved_tensors
        pixels = plan.order.shape[1]
        dweight, dgates, dh = torch.empty_like(weight), torch.empty_like(gates), torch.zeros_like(h)
        dc = weight.new_zeros(directions, plan.num_slots * batch, hidden)  # of one plane
        pixelwise = dh.view(ctx.shape)
        for d in range(directions):
            moved = plan.places[d, : pixels - d * plan.delay]
            pixelwise[d].index_copy_(0, moved, grad[d * plan.delay :])
        rows = [size * batch for size in plan.sizes]
        steps = zip(plan.first, rows, strict=True)
        wholes = (gates, *gates.chunk(4, -1), dgates, *dgates.chunk(4, -1))
        parts = zip(
            *(whole.split(rows, 1) for whole in wholes),
            [dc.narrow(1, first * batch, count) for first, count in steps],
            plan.pieces(c, plan.old),
            *(plan.pieces(whole, plan.new) for whole in (tanhs, h, dh)),
            zip(*(plan.pieces(dh, plan.old, k) for k in plan.offsets), strict=True),
            strict=True,
        )
        matrices = weight.transpose(2, 3).unbind()
        sigmoid_backward = torch.ops.aten.sigmoid_backward.grad_input
        tanh_backward = torch.ops.aten.tanh_backward.grad_input
        for step in reversed(list(parts)):
            gate, o, f, i, g, dgate, do, df, di, dg, dc_now, old_c, tanh, new_h, dnew_h, seen = step
            torch.mul(dnew_h, tanh, out=do)
            dc_now.addcmul_(dnew_h, o).addcmul_(do, new_h, value=-1)  # (1 - tanh^2) o dh
            torch.mul(dc_now, old_c, out=df)
            torch.mul(dc_now, g, out=di)
            sigmoid_backward(dgate, gate, grad_input=dgate)  # dg, not yet written, follows
            tanh_backward(dc_now * i, g, grad_input=dg)
            dc_now *= f
            for dstates, matrix in zip(seen, matrices, strict=True):
                dstates.baddbmm_(dgate, matrix)
        for k, done in zip(plan.offsets, dweight, strict=True):
            for states, dgate, out in zip(h.view(ctx.shape), dgates, done, strict=True):
                before = states.index_select(0, plan.before + k).flatten(0, 1)
                multiply(before.t(), dgate, out)
        dx = dgates.to(ctx.dtype).view(-1, 4 * hidden)
        dx = dx.index_select(0, plan.rows_back(batch).flatten())
        dx = dx.view(batch, pixels, directions, 4 * hidden).permute(2, 1, 0, 3)
        dh0 = pixelwise.index_select(1, plan.starts).sum(2)
        dc0 = dc.unflatten(1, (plan.num_slots, batch)).index_select(1, plan.initial_slots).sum(2)
        return dx, dweight, dh0, dc0, None
