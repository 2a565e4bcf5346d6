"""The Row LSTM's state-to-state part, which also runs at one pixel at a time."""

from __future__ import annotations

import functools

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from arcore.layers.cursor import ImageCursor
from arcore.layers.lstm_scan import ScanPlan, lstm_scan, state_weight
from arcore.primitives.compile_guard import compile_guard
from arcore.primitives.gating import lstm_cell
from arcore.primitives.precision import without_autocast


@functools.lru_cache(maxsize=16)
def row_plan(kernel: int, height: int, width: int, device: torch.device) -> ScanPlan:
    """Plan one row per step; slots are its pixels between zeros that the kernel reaches."""
    reach = kernel // 2
    columns = torch.arange(width, device=device)
    return ScanPlan(
        order=torch.arange(height * width, device=device)[None],
        sizes=[width] * height,
        first=[reach] * height,
        offsets=range(-reach, reach + 1),
        num_slots=width + 2 * reach,
        initial_steps=torch.zeros_like(columns),
        initial_slots=columns + reach,
    )


class RowLSTMLayer(nn.Module):
    """An LSTM that goes down the rows of an image, all pixels of a row at once.

        [o, f, i, g][r, c] = x[r, c] + sum_j K_j h[r - 1, c - (k - 1) / 2 + j],
        c[r, c] = f c[r - 1, c] + i g,   h[r, c] = o tanh(c[r, c]),

    with o, f, i through a sigmoid and g through tanh. x is the input-to-state part; the kernel K is
    not masked, since the row above is complete. Learned states stand above the first row, zeros to
    the left and right of each.

    Example:
        >>> RowLSTMLayer(3, 8)(torch.zeros(5, 12, 6, 8)).shape
        torch.Size([5, 3, 6, 8])
    """

    def __init__(self, hidden: int, width: int, kernel: int = 3) -> None:
        super().__init__()
        self._scan = compile_guard(lstm_scan)
        self.kernel = kernel
        self.weight = state_weight(kernel, 1, hidden, 4 * hidden)
        self.initial_h = nn.Parameter(torch.zeros(1, width, hidden))
        self.initial_c = nn.Parameter(torch.zeros(1, width, hidden))

    def forward(self, x: Tensor) -> Tensor:
        """Map gates' inputs (batch, 4 h, height, width) to states (batch, h, height, width)."""
        height, width = x.shape[2:]
        maps = x.flatten(2).permute(2, 0, 1)[None]  # (1, pixel, batch, 4 h)
        make_plan = functools.partial(row_plan, self.kernel)
        initial = (self.initial_h, self.initial_c)
        states = self._scan(maps, self.weight, *initial, make_plan, (height, width))
        return states.view(height, width, *states.shape[1:]).permute(2, 3, 0, 1)

    def step(self, x: Tensor, cursor: ImageCursor) -> Tensor:
        """Map a pixel's gates' inputs (batch, 4 h, 1, 1) to its state (batch, h, 1, 1)."""
        state = cursor.state(self, lambda: _RowState(self, x))
        state.enter(cursor.row)
        column = cursor.column
        h, c = lstm_cell(x[:, :, 0, 0] + state.pushed[:, column], state.above_c[:, column])
        state.h[:, column], state.c[:, column] = h, c
        return h[:, :, None, None]


class _RowState:
    """The current row's states so far, and what the finished row above gives to each pixel."""

    def __init__(self, layer: RowLSTMLayer, x: Tensor) -> None:
        self.layer, self.row = layer, -1
        self.h, self.c = (s.repeat(len(x), 1, 1) for s in (layer.initial_h, layer.initial_c))
        self.above_c = self.pushed = self.c

    def enter(self, row: int) -> None:
        """Go on to a row, once: the states left by the row above are final."""
        if row != self.row:
            self.row, self.above_c = row, self.c.clone()
            kernel, weight = self.layer.kernel, self.layer.weight[:, 0]
            padded = pad(self.h, (0, 0, kernel // 2, kernel // 2)).unfold(1, kernel, 1)
            with without_autocast(padded.device):  # as the scan
                self.pushed = torch.einsum("bchk,khg->bcg", padded, weight)
