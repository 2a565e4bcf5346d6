"""Orderings: permutations of an event's D dimensions. `order[t]` is the dimension drawn at step t.

Dimensions are numbered in C order of the event's shape. For images (C, H, W) every spatial
ordering visits a pixel's channels one after the other before it goes on to the next pixel.
"""

import math

import torch
from torch import Tensor

from arcore.primitives.checks import (
    is_integral,
    require,
    require_dense,
    require_int,
    require_one_of,
    require_seed,
    require_sizes,
)

# Named, so that a model also builds inside `with torch.device("meta")`.
CPU = torch.device("cpu")
ORDERINGS = ("raster", "reverse", "column", "snake", "spiral", "random")
# Quarter turns against the clock, and whether the image is mirrored from left to right before.
SYMMETRIES = {
    "identity": (0, False), "mirror": (0, True), "flip": (2, True), "rotate_90": (1, False),
    "rotate_180": (2, False), "rotate_270": (3, False), "transpose": (1, True),
    "antitranspose": (3, True),
}  # fmt: skip


def transformed(maps: Tensor, symmetry: str) -> Tensor:
    """Mirror and turn maps, (..., height, width)."""
    turns, is_mirrored = SYMMETRIES[symmetry]
    maps = maps.flip(-1) if is_mirrored else maps
    return torch.rot90(maps, turns, (-2, -1)) if turns else maps  # a vector has nothing to turn


def require_permutation(order: Tensor, size: int) -> None:
    """Raise ValueError unless this is a permutation of range(size), (size,) of integers."""
    if isinstance(order, Tensor):
        require_dense(order, "order")
    fits = isinstance(order, Tensor) and order.shape == (size,) and is_integral(order)
    fits = fits and sorted(order.tolist()) == list(range(size))
    require(fits, "order", f"a permutation of range({size})", order)


def make_ordering(name: str, shape: tuple[int, ...], seed: int = 0) -> Tensor:
    """Make an ordering by name.

    Arguments:
        name: raster, reverse (raster from the last pixel to the first), column, snake
            (boustrophedon rows), spiral (from the border inwards, clockwise) or random. A vector
            (D,) counts as one row.
        shape: the event's shape: (D,), (H, W) or (C, H, W) or longer (leading axes are frames).
        seed: for `random` only.

    Returns:
        (D,) int64: a permutation of range(D).
    """
    require_one_of(name, "ordering", ORDERINGS)
    require_seed(seed, "ordering_seed")
    require_sizes(tuple(shape) if isinstance(shape, list) else shape, "shape")
    size = math.prod(shape)
    if name == "random":
        return random_ordering(size, seed)
    height, width = (1, shape[-1]) if len(shape) == 1 else shape[-2:]
    positions = _spatial(name, height, width)
    channels = shape[-3] if len(shape) >= 3 else 1
    pixels = with_channels(positions, channels)
    frames = math.prod(shape[:-3]) if len(shape) > 3 else 1
    frame = len(pixels)
    return (frame * torch.arange(frames, device=CPU)[:, None] + pixels[None]).reshape(-1)


def with_channels(pixels: Tensor, channels: int) -> Tensor:
    """Turn an ordering of (H, W) into one of (C, H, W), each pixel's channels in turn."""
    return (pixels[:, None] + len(pixels) * torch.arange(channels, device=CPU)).reshape(-1)


def _spatial(name: str, height: int, width: int) -> Tensor:
    grid = torch.arange(height * width, device=CPU).view(height, width)
    if name == "raster":
        return grid.reshape(-1)
    if name == "reverse":
        return grid.reshape(-1).flip(0)
    if name == "column":
        return grid.t().reshape(-1)
    if name == "snake":
        rows = [row if r % 2 == 0 else row.flip(0) for r, row in enumerate(grid)]
        return torch.cat(rows)
    turns = []
    while grid.numel():
        turns.append(grid[0])
        grid = grid[1:].t().flip(0)
    return torch.cat(turns)


def random_ordering(size: int, seed: int) -> Tensor:
    """Draw a uniform permutation of range(size), a function of (size, seed) on every device."""
    require_int(seed, "seed", 0)
    return torch.randperm(size, generator=torch.Generator().manual_seed(seed), device=CPU)


def inverse(order: Tensor) -> Tensor:
    """Return the positions: `inverse(order)[d]` is the step at which dimension d is drawn."""
    positions = torch.empty_like(order)
    positions[order] = torch.arange(order.numel(), device=order.device)
    return positions
