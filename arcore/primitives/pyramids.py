"""Multiscale groups of an image's pixels: every other row and column, scale by scale."""

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Group:
    """The pixels at every `stride`-th row and column from (row, column) on."""

    row: int
    column: int
    stride: int

    def of(self, maps: Tensor) -> Tensor:
        """Return the group's part of maps (..., height, width), a view."""
        return maps[..., self.row :: self.stride, self.column :: self.stride]

    def extents(self, size: tuple[int, int]) -> tuple[int, int]:
        """Return the group's height and width in an image of a size; 0 where it has no pixels."""
        height, width = size
        return (
            max(0, -(-(height - self.row) // self.stride)),
            max(0, -(-(width - self.column) // self.stride)),
        )


@dataclass(frozen=True)
class Pyramid:
    """An image of some size and its lower resolutions, each x[::2, ::2] of the one above.

    An image is halved, rounding up, as long as both sides keep `base_size` pixels; a side of one
    pixel stays as it is. Of the 2 x 2 groups, 1 (upper left) is the lower resolution, 2 is to its
    right, 3 below it and 4 across; where a side is odd or 1, some are smaller or missing.
    """

    size: tuple[int, int]
    base_size: int

    @property
    def num_scales(self) -> int:
        """How often the image is halved."""
        count = 0
        while self._halves(Group(0, 0, 2**count).extents(self.size)):
            count += 1
        return count

    def _halves(self, sides: tuple[int, int]) -> bool:
        large = [side for side in sides if side > 1]
        return bool(large) and all((side + 1) // 2 >= self.base_size for side in large)

    @property
    def base(self) -> Group:
        """The lowest resolution."""
        return Group(0, 0, 2**self.num_scales)

    @property
    def scales(self) -> list[list[Group]]:
        """Groups 1 to 4 of each resolution above the lowest, coarse to fine, where they exist."""
        scales = []
        for halvings in range(self.num_scales, 0, -1):
            stride, step = 2**halvings, 2 ** (halvings - 1)
            groups = [Group(r, c, stride) for r in (0, step) for c in (0, step)]
            scales.append([group for group in groups if min(group.extents(self.size)) > 0])
        return scales
