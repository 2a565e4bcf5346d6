"""A linear layer some of whose weights are held out by a mask."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.functional import linear

from arcore.primitives.precision import product_dtype, without_autocast
from arcore.primitives.products import has_fast_onednn, multiply, product
from arcore.primitives.transfer import to_device

Reach = tuple[int, int]  # columns that all rows of a group see, and that any does


class MaskedLinear(nn.Module):
    """y = (W * M) x + b, or with conditioning weights y = (W * M) x + (U * M) 1 + b.

    The mask is applied at every forward pass, so no optimiser can revive a masked weight. A mask
    whose rows see growing prefixes of the inputs is split into groups of rows, each multiplied
    with the columns that it sees only: little more than half the work of a full product.
    """

    GROUPS = 8
    SMALLEST_GROUP = 128
    LEAST_WEIGHTS = 500_000  # of a group where products are fast, and what else it costs is most

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
        self.reaches: list[Reach] = []

    def set_mask(self, mask: Tensor, sorted_rows: bool = False) -> None:
        """Replace the mask, (outputs, inputs) bool."""
        self.mask = to_device(mask, self.weight.device).to(self.weight.dtype)
        self.reaches = []
        smallest = max(self.SMALLEST_GROUP, self.LEAST_WEIGHTS // mask.shape[1])
        count = min(self.GROUPS, len(mask) // smallest)
        if sorted_rows and count > 1:
            groups = mask.split(-(-len(mask) // count))
            self.reaches = [(int(rows[0].sum()), max(int(rows[-1].sum()), 1)) for rows in groups]

    @property
    def mask_fits(self) -> bool:
        """Whether the mask is where the weight is, of its type, and fit for a backward pass."""
        mask, weight = self.mask, self.weight
        return (mask.device, mask.dtype) == (weight.device, weight.dtype) and (
            not mask.is_inference()
        )

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
        grouped = self.reaches and x.device.type == "cpu"  # elsewhere launches cost more
        if torch.compiler.is_compiling() or not (grouped or has_fast_onednn()):
            return linear(x, self.masked(self.weight), offset)
        y: Tensor
        if grouped:
            y = _GroupedProduct.apply(x, self.weight, self.mask, self.reaches)  # type: ignore[no-untyped-call]
        else:
            y = _MaskedProduct.apply(x, self.weight, self.mask)  # type: ignore[no-untyped-call]
        return y if offset is None else y + offset


class _MaskedProduct(torch.autograd.Function):
    """x (W * M)'."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, mask: Tensor) -> Tensor:  # type: ignore[override]
        dtype = product_dtype(weight)
        ctx.dtype, x = x.dtype, x.to(dtype)
        with without_autocast(x.device):
            masked = weight.to(dtype) * mask.to(dtype)
            y = product(x, masked.t())
        ctx.save_for_backward(x, mask, masked)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        x, mask, masked = ctx.saved_tensors
        dx = product(grad, masked).to(ctx.dtype) if ctx.needs_input_grad[0] else None
        return dx, product(grad.t(), x).to(mask.dtype).mul_(mask), None


class _GroupedProduct(torch.autograd.Function):
    """x (W * M)', each group of rows with the columns that it reaches.

    Columns that all rows of a group see need no mask: they are multiplied where they lie in W.
    """

    @staticmethod
    def forward(  # type: ignore[override]
        ctx: Any, x: Tensor, weight: Tensor, mask: Tensor, reaches: list[Reach]
    ) -> Tensor:
        device, dtype = x.device.type, product_dtype(weight)
        ctx.dtype, ctx.reaches, x = x.dtype, reaches, x.to(dtype)
        y = x.new_empty(len(x), len(weight))
        pieces, bands = [], []
        groups = zip(reaches, *_groups(reaches, weight, mask, y.t()), strict=True)
        with torch.autocast(device, enabled=False):
            for (clear, reach), piece, m, part in groups:
                piece, part = piece[:, :reach].to(dtype), part.t()
                band = piece[:, clear:] * m[:, clear:reach].to(dtype)
                multiply(x[:, clear:reach], band.t(), part)
                if clear:
                    multiply(x[:, :clear], piece[:, :clear].t(), part, add=True)
                pieces.append(piece)
                bands.append(band)
        ctx.save_for_backward(x, mask, *pieces, *bands)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        reaches = ctx.reaches
        x, mask, *kept = ctx.saved_tensors
        pieces, bands = kept[: len(reaches)], kept[len(reaches) :]
        dx = torch.zeros_like(x) if ctx.needs_input_grad[0] else None
        dweight = torch.empty_like(mask)
        groups = _groups(reaches, mask, dweight, grad.t())
        for (clear, reach), piece, band, m, dw, g in zip(
            reaches, pieces, bands, *groups, strict=True
        ):
            if dx is not None:
                multiply(g.t(), band, dx[:, clear:reach], add=True)
                if clear:
                    multiply(g.t(), piece[:, :clear], dx[:, :clear], add=True)
            seen = dw[:, :reach]
            if dw.dtype == x.dtype:
                multiply(g, x[:, :reach], seen)
            else:
                seen.copy_(torch.mm(g, x[:, :reach]))
            seen[:, clear:].mul_(m[:, clear:reach])
            if reach < dw.shape[1]:
                dw[:, reach:].zero_()
        return None if dx is None else dx.to(ctx.dtype), dweight, None, None


def _groups(reaches: list[Reach], *wholes: Tensor) -> list[tuple[Tensor, ...]]:
    """Split the rows of tensors into groups."""
    rows = -(-wholes[0].shape[0] // len(reaches))
    return [whole.split(rows) for whole in wholes]
