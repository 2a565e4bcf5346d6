"""A linear layer some of whose weights are held out by a mask."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.functional import linear


class MaskedLinear(nn.Module):
    """y = (W * M) x + b, or with conditioning weights y = (W * M) x + (U * M) 1 + b.

    The mask is applied at every forward pass, so no optimiser can revive a masked weight. A mask
    whose rows see growing prefixes of the inputs is split into groups of rows, each multiplied
    with the columns that it sees only: five eighths of the work of a full product.

    Reference:
        Germain, Gregor, Murray and Larochelle, "MADE", ICML 2015, eq. 4 and section 4.3.

    Arguments:
        inputs, outputs: widths.
        conditioning: add the weights U, which tell a unit which inputs are visible.
        bias: add b.

    Example:
        >>> layer = MaskedLinear(2, 2)
        >>> layer.set_mask(torch.tensor([[False, False], [True, False]]))
        >>> layer(torch.ones(3, 2)).shape
        torch.Size([3, 2])
    """

    GROUPS = 4
    SMALLEST_GROUP = 64

    def __init__(
        self, inputs: int, outputs: int, conditioning: bool = False, bias: bool = True
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(outputs, inputs))
        self.conditioning = nn.Parameter(torch.empty(outputs, inputs)) if conditioning else None
        self.bias = nn.Parameter(torch.zeros(outputs)) if bias else None
        for weight in (self.weight, self.conditioning):
            if weight is not None:
                nn.init.xavier_uniform_(weight)
        self.register_buffer("mask", torch.ones(outputs, inputs), persistent=False)
        self.mask: Tensor
        self.reaches: list[int] = []

    def set_mask(self, mask: Tensor, sorted_rows: bool = False) -> None:
        """Replace the mask, (outputs, inputs) bool.

        Arguments:
            mask: True where a weight is kept.
            sorted_rows: the rows see growing prefixes of the inputs, which allows groups.
        """
        self.mask = mask.to(self.weight)
        self.reaches = []
        outputs = len(mask)
        width = -(-outputs // self.GROUPS)
        if sorted_rows and width >= self.SMALLEST_GROUP:
            columns = torch.arange(1, mask.shape[1] + 1, device=mask.device)
            reach = (mask * columns).amax(1).tolist()
            lasts = range(width - 1, outputs + width - 1, width)
            self.reaches = [max(int(reach[min(last, outputs - 1)]), 1) for last in lasts]

    def masked(self, weight: Tensor) -> Tensor:
        """Return a weight with masked entries zero."""
        return weight * self.mask

    def offset(self) -> Tensor | None:
        """What does not depend on the input: b + (U * M) 1."""
        if self.conditioning is None:
            return self.bias
        visible = self.masked(self.conditioning).sum(1)
        return visible if self.bias is None else visible + self.bias

    def forward(self, x: Tensor) -> Tensor:
        """Map (batch, inputs) to (batch, outputs)."""
        offset = self.offset()
        if torch.compiler.is_compiling():
            return linear(x, self.masked(self.weight), offset)
        reaches = self.reaches or [self.weight.shape[1]]
        y: Tensor = _MaskedProduct.apply(x, self.weight, self.mask, reaches)  # type: ignore[no-untyped-call]
        return y if offset is None else y + offset


class _MaskedProduct(torch.autograd.Function):
    """x (W * M)', each group of rows with the columns that it reaches.

    Automatic differentiation would fill a gradient of W for each group and add them up.
    """

    @staticmethod
    def forward(  # type: ignore[override]
        ctx: Any, x: Tensor, weight: Tensor, mask: Tensor, reaches: list[int]
    ) -> Tensor:
        device = x.device.type
        dtype = weight.dtype
        if torch.is_autocast_enabled(device) and dtype == torch.float32:
            dtype = torch.get_autocast_dtype(device)
        ctx.dtype, x = x.dtype, x.to(dtype)
        width = -(-len(weight) // len(reaches))
        pieces = zip(reaches, weight.split(width), mask.split(width), strict=True)
        masked = [(w[:, :reach] * m[:, :reach]).to(dtype) for reach, w, m in pieces]
        with torch.autocast(device, enabled=False):
            parts = [
                torch.mm(x[:, :reach], w.t()) for reach, w in zip(reaches, masked, strict=True)
            ]
        ctx.reaches = reaches
        ctx.save_for_backward(x, mask, *masked)
        return parts[0] if len(parts) == 1 else torch.cat(parts, 1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        x, mask, *masked = ctx.saved_tensors
        width = -(-len(mask) // len(masked))
        dx = torch.zeros_like(x) if ctx.needs_input_grad[0] else None
        dweight = torch.empty_like(mask)
        pieces = zip(
            ctx.reaches, masked, mask.split(width), dweight.split(width), grad.split(width, 1),
            strict=True,
        )  # fmt: skip
        for reach, w, m, dw, g in pieces:
            if dx is not None:
                dx[:, :reach].addmm_(g, w)
            torch.mul(torch.mm(g.t(), x[:, :reach]), m[:, :reach], out=dw[:, :reach])
            dw[:, reach:] = 0
        return None if dx is None else dx.to(ctx.dtype), dweight, None, None
