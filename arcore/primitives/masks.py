"""Small pure functions for masks. Degrees follow Germain et al. (2015), section 4, 1-based."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from arcore.primitives.orderings import CPU


def hidden_degrees(
    size: int, widths: Sequence[int], generator: torch.Generator | None = None
) -> list[Tensor]:
    """Draw the degrees m_l(k) of MADE's hidden units, layer by layer.

    A unit of degree m may see the first m inputs in the ordering. Degrees are integers in
    [min_k' m_{l-1}(k'), D - 1] (Germain et al. 2015, eq. 12): 0 would make a constant and D a unit
    that feeds no output. Only for D = 1, where no other choice exists, are they 0.
    """
    degrees: list[Tensor] = []
    low = min(1, size - 1)
    for width in widths:
        if generator is None:
            layer = low + torch.arange(width, device=CPU) * (size - low) // width
        else:
            layer = torch.randint(low, max(size, 1), (width,), generator=generator, device=CPU)
        degrees.append(layer)
        low = int(layer.min())
    return degrees


def hidden_mask(degrees_out: Tensor, degrees_in: Tensor) -> Tensor:
    """Mask of a hidden layer, M[k', k] = 1[m(k') >= m(k)] (Germain et al. 2015, eq. 8 and 12)."""
    return degrees_out[:, None] >= degrees_in[None, :]


def output_mask(positions: Tensor, degrees_in: Tensor) -> Tensor:
    """Mask of the output layer and of direct connections, M[d, k] = 1[m0(d) > m(k)] (eq. 9)."""
    return positions[:, None] > degrees_in[None, :]


def draw_masks(
    batch: int,
    size: int,
    generator: torch.Generator | None = None,
    device: torch.device | None = None,
) -> Tensor:
    """Draw which dimensions are observed, (batch, size) bool: all that precede a random one.

    Each row has a random ordering, by uniform numbers u_i, and a random dimension j; observed
    are the i with u_i < u_j. So their number is uniform on {0..size-1}, and they are uniform among
    the subsets of that size, without sorting. The draws do not depend on the model's dtype.
    """
    device = device if generator is None else generator.device
    u = torch.rand(batch, size, generator=generator, device=device, dtype=torch.float64)
    j = torch.randint(size, (batch, 1), generator=generator, device=device)
    return u < u.gather(1, j)


def draw_parts(batch: int, extents: Sequence[int], device: torch.device) -> Tensor:
    """Draw parts of a grid, (batch, size) bool: half by `draw_masks`, or boxes or all but a box.

    A box is whole along an axis by one half, or else between two places that are often the ends.
    """
    scattered = draw_masks(batch, math.prod(extents), device=device)
    box = torch.ones(batch, *extents, dtype=torch.bool, device=device)
    for axis, extent in enumerate(extents):
        drawn = torch.rand(batch, 3, dtype=torch.float64, device=device)
        low, high = ((2 * drawn[:, :2] - 0.5) * extent).sort(1).values.split(1, 1)
        index = torch.arange(extent, device=device) + 0.5
        inside = (low <= index) & (index < high) | (drawn[:, 2:] < 0.5) | (extent == 1)
        box &= inside.view(batch, *(extent if i == axis else 1 for i in range(len(extents))))
    coins = torch.rand(batch, 2, device=device) < 0.5
    return torch.where(coins[:, :1], scattered, box.flatten(1) ^ coins[:, 1:])


def channel_groups(channels: int, groups: int) -> Tensor:
    """Share feature maps out among colours: contiguous runs, as even as can be."""
    return torch.arange(channels, device=CPU) * groups // channels


def causal_kernel_mask(
    kind: str, size: tuple[int, int], centre: int, groups_out: Tensor, groups_in: Tensor
) -> Tensor:
    """Mask of a causal convolution kernel, (outputs, inputs, rows, columns) bool.

    Its last row lies on the pixel's own row. Rows above are seen whole, the own row left of column
    `centre`; at the centre, the pixel itself, kind A shows the feature maps of earlier colours only
    and kind B the same colour too. Groups are the colours of the maps.
    """
    rows, columns = size
    mask = torch.zeros(len(groups_out), len(groups_in), rows, columns, dtype=torch.bool, device=CPU)
    mask[:, :, :-1] = True
    mask[:, :, -1, :centre] = True
    before, own = groups_in[None, :], groups_out[:, None]
    mask[:, :, -1, centre] = before < own if kind == "A" else before <= own
    return mask
