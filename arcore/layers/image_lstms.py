"""The state-to-state parts of PixelRNNs, which also run at one pixel at a time."""

import functools
import math

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from arcore.layers.cursor import ImageCursor
from arcore.layers.lstm_scan import ScanPlan, lstm_scan, state_weight
from arcore.primitives.gating import lstm_cell
from arcore.primitives.precision import without_autocast
from arcore.primitives.transfer import outside_compiler


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
    """

    def __init__(self, hidden: int, width: int, kernel: int = 3) -> None:
        super().__init__()
        self.kernel = kernel
        self.weight = state_weight(kernel, 1, hidden, 4 * hidden)
        self.initial_h = nn.Parameter(torch.zeros(1, width, hidden))
        self.initial_c = nn.Parameter(torch.zeros(1, width, hidden))

    def forward(self, x: Tensor) -> Tensor:
        """Map gates' inputs (batch, 4 h, height, width) to states (batch, h, height, width)."""
        height, width = x.shape[2:]
        maps = x.flatten(2).permute(2, 0, 1)[None]  # (1, pixel, batch, 4 h)
        make_plan = functools.partial(row_plan, self.kernel)
        given = (self.weight, self.initial_h, self.initial_c, make_plan, (height, width))
        states = outside_compiler(lstm_scan, maps, *given)
        return states.view(height, width, *states.shape[1:]).permute(2, 3, 0, 1)

    def step(self, x: Tensor, cursor: ImageCursor) -> Tensor:
        """Map a pixel's gates' inputs (batch, 4 h, 1, 1) to its state (batch, h, 1, 1)."""
        state = cursor.state(self, lambda: _RowState(self, x))
        if cursor.enters_row(self):
            state.enter_row()
        column = cursor.column
        h, c = lstm_cell(x[:, :, 0, 0] + state.pushed[:, column], state.above_c[:, column])
        state.h[:, column], state.c[:, column] = h, c
        return h[:, :, None, None]


class _RowState:
    """The current row's states so far, and what the finished row above gives to each pixel."""

    def __init__(self, layer: RowLSTMLayer, x: Tensor) -> None:
        self.layer = layer
        self.h, self.c = (s.repeat(len(x), 1, 1) for s in (layer.initial_h, layer.initial_c))
        self.above_c, self.pushed = torch.empty_like(self.c), self.c.repeat(1, 1, 4)

    def enter_row(self) -> None:
        """Go on to the next row: the states left by the row above are final."""
        self.above_c.copy_(self.c)
        kernel, weight = self.layer.kernel, self.layer.weight[:, 0]
        padded = pad(self.h, (0, 0, kernel // 2, kernel // 2)).unfold(1, kernel, 1)
        with without_autocast(padded.device):  # as the scan
            self.pushed.copy_(torch.einsum("bchk,khg->bcg", padded, weight))


def diagonal_order(height: int, width: int, device: torch.device | None = None) -> Tensor:
    """Return the pixels (numbered row by row) diagonal by diagonal, each from its top row down."""
    rows = torch.arange(height, device=device)[:, None]
    columns = torch.arange(width, device=device)
    return ((rows + columns) * height + rows).flatten().argsort()


@functools.lru_cache(maxsize=16)
def diagonal_plan(height: int, width: int, device: torch.device) -> ScanPlan:
    """Plan one diagonal per step; slots are a zero row and the image's rows."""
    pixels = torch.arange(height * width, device=device).view(height, width)
    order = diagonal_order(height, width, device)
    mirrored = pixels.flip(1).flatten()[order]
    steps = range(height + width - 1)
    tops = [max(0, t - width + 1) for t in steps]
    rows = torch.arange(height, device=device)
    return ScanPlan(
        order=torch.stack([order, mirrored][: num_directions((height, width))]),
        sizes=[min(t + 1, height) - top for t, top in zip(steps, tops, strict=True)],
        first=[1 + top for top in tops],
        offsets=(0, -1),
        num_slots=1 + height,
        initial_steps=rows,
        initial_slots=1 + rows,
        delay=width,
    )


class DiagonalLSTMLayer(nn.Module):
    """Two LSTMs that sweep an image diagonal by diagonal, from the upper corners down.

    From the upper left, with x the input-to-state part and a zero row above the first,

        [o, f, i, g][r, c] = x[r, c] + K_1 h[r, c - 1] + K_2 h[r - 1, c],
        c[r, c] = f c[r, c - 1] + i g,   h[r, c] = o tanh(c[r, c]),

    with o, f, i through a sigmoid and g through tanh, and learned states h[r, -1], c[r, -1] for
    each row r. The LSTM from the upper right does the same on the mirrored map. Its states know
    pixels to the right on the same row, so they are shifted one row down before both are added.
    All pixels of a diagonal are computed at once, height + width - 1 steps in all.
    """

    def __init__(self, hidden: int, size: tuple[int, int]) -> None:
        super().__init__()
        self.directions, self.hidden = num_directions(size), hidden
        self.weight = state_weight(2, self.directions, hidden, 4 * hidden)
        self.initial_h = nn.Parameter(torch.zeros(self.directions, size[0], hidden))
        self.initial_c = nn.Parameter(torch.zeros(self.directions, size[0], hidden))

    def forward(self, x: Tensor) -> Tensor:
        """Map (batch, 8 h, height, width), 4 h of one row, to states (batch, h, height, width)."""
        height, width = x.shape[2:]
        maps = x.unflatten(1, (self.directions, -1)).flatten(3).permute(1, 3, 0, 2)
        given = (self.weight, self.initial_h, self.initial_c, diagonal_plan, (height, width))
        states = outside_compiler(lstm_scan, maps, *given)
        return states.view(height, width, *states.shape[1:]).permute(2, 3, 0, 1)

    def step(self, x: Tensor, cursor: ImageCursor) -> Tensor:
        """Map a pixel's gates' inputs (batch, 8 h, 1, 1) to its state (batch, h, 1, 1)."""
        state = cursor.state(self, lambda: _DiagonalState(self, x, cursor))
        if cursor.enters_row(self):
            state.enter_row(cursor.row)
        column = cursor.column
        gates, *others = x[:, :, 0, 0].split(4 * self.hidden, 1)
        before, above = state.h[:, column], state.above[:, column]
        with without_autocast(x.device):  # as the scan
            gates = gates + before @ self.weight[0, 0] + above @ self.weight[1, 0]
        h, c = lstm_cell(gates, state.c[:, column])
        state.h[:, column + 1], state.c[:, column + 1] = h, c
        for behind in others:
            state.behind[:, column] = behind
            h = h + state.second[:, column]
        return h[:, :, None, None]

    def add_above(self, x: Tensor, cursor: ImageCursor) -> None:
        """Add to the second LSTM's inputs on the row above the cursor's, (batch, 4 h, 1, width)."""
        state = cursor.state(self, lambda: _DiagonalState(self, x, cursor))
        state.behind += x[:, :, 0].transpose(1, 2)


class _DiagonalState:
    """The current row's states so far (initial ones first), and the finished rows' above it.

    `behind` are inputs of the second LSTM on this row, `second` its states on the row above.
    """

    def __init__(self, layer: DiagonalLSTMLayer, x: Tensor, cursor: ImageCursor) -> None:
        self.layer = layer
        width, hidden = cursor.width, layer.hidden
        own = layer.weight  # whose precision states keep, whatever autocast makes of x
        self.h, self.c = (own.new_zeros(len(x), width + 1, hidden) for _ in range(2))
        self.second, self.above = (own.new_zeros(len(x), width, hidden) for _ in range(2))
        self.behind = own.new_zeros(len(x), width, 4 * hidden)

    def enter_row(self, row: int) -> None:
        """Go on to a row: what the row above has left is final."""
        layer = self.layer
        if row > 0:
            self.above.copy_(self.h[:, 1:])
            if layer.directions == 2:
                self._finish(row - 1)
        self.h[:, 0], self.c[:, 0] = layer.initial_h[0, row], layer.initial_c[0, row]

    def _finish(self, row: int) -> None:
        """Run the second LSTM over a complete row, from its right end."""
        layer, second = self.layer, self.second
        h, c = (s[1, row].expand(len(second), -1) for s in (layer.initial_h, layer.initial_c))
        for column in reversed(range(second.shape[1])):
            with without_autocast(h.device):
                pushed = h @ layer.weight[0, 1] + second[:, column] @ layer.weight[1, 1]
            h, c = lstm_cell(self.behind[:, column] + pushed, c)
            second[:, column] = h


class SpatialLSTMLayer(nn.Module):
    """An LSTM over an image whose cell remembers both the pixel to the left and the one above.

        [g, o, i, f, u][r, c] = x[r, c] + K [h[r, c - 1]; h[r - 1, c]],
        c[r, c] = g i + f c[r, c - 1] + u c[r - 1, c],   h[r, c] = tanh(o c[r, c]),

    with o, i, f, u through a sigmoid and g through tanh, and zeros before the first row and column.
    All pixels of a diagonal are computed at once, height + width - 1 steps in all.
    """

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.hidden = hidden
        bound = math.sqrt(3 / (2 * hidden))
        self.weight = nn.Parameter(torch.empty(2 * hidden, 5 * hidden).uniform_(-bound, bound))

    def forward(self, x: Tensor) -> Tensor:
        """Map gates' inputs (batch, 5 h, height, width) to states (batch, h, height, width)."""
        return outside_compiler(self._scan, x)

    def _scan(self, x: Tensor) -> Tensor:
        batch, _, height, width = x.shape
        with without_autocast(x.device):  # states keep the parameters' precision
            order = diagonal_order(height, width, x.device)
            pixels = x.to(self.weight.dtype).flatten(2).permute(2, 0, 1)[order]
            h = c = pixels.new_zeros(1 + height, batch, self.hidden)  # a row above, and the rows
            states, first = [], 0
            for step in range(height + width - 1):
                top, end = max(0, step - width + 1), min(step + 1, height)
                here, above = slice(1 + top, 1 + end), slice(top, end)
                gates = pixels[first : first + end - top]
                now, cell = self._cell(gates, h[here], h[above], c[here], c[above])
                states.append(now)
                first += end - top
                around = (0, 0, 0, 0, 1 + top, height - end)
                h, c = pad(now, around), pad(cell, around)
            found = torch.cat(states)[order.argsort()]
        return found.view(height, width, batch, self.hidden).permute(2, 3, 0, 1)

    def _cell(
        self, gates: Tensor, left_h: Tensor, above_h: Tensor, left_c: Tensor, above_c: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return h and c, (*, h), of pixels whose gates' inputs are (*, 5 h)."""
        gates = gates + torch.cat([left_h, above_h], -1) @ self.weight
        hidden = self.hidden
        o, i, f, u = torch.sigmoid(gates[..., hidden:]).split(hidden, -1)
        c = torch.tanh(gates[..., :hidden]) * i + f * left_c + u * above_c
        return torch.tanh(o * c), c

    def step(self, x: Tensor, cursor: ImageCursor) -> Tensor:
        """Map a pixel's gates' inputs (batch, 5 h, 1, 1) to its state (batch, h, 1, 1)."""
        state = cursor.state(self, lambda: _SpatialState(self, x, cursor.width))
        if cursor.enters_row(self):
            state.enter_row()
        column = cursor.column
        with without_autocast(x.device):
            left = state.h[:, column], state.c[:, column]
            above = state.above_h[:, column], state.above_c[:, column]
            gates = x[:, :, 0, 0].to(self.weight.dtype)
            h, c = self._cell(gates, left[0], above[0], left[1], above[1])
        state.h[:, column + 1], state.c[:, column + 1] = h, c
        return h[:, :, None, None]


class _SpatialState:
    """The current row's states so far, after a zero, and the states of the row above."""

    def __init__(self, layer: SpatialLSTMLayer, x: Tensor, width: int) -> None:
        shape = len(x), width + 1, layer.hidden
        self.h, self.c = (layer.weight.new_zeros(shape) for _ in range(2))
        self.above_h, self.above_c = (torch.zeros_like(self.h[:, 1:]) for _ in range(2))

    def enter_row(self) -> None:
        """Go on to the next row: the states left by the row above are final."""
        self.above_h.copy_(self.h[:, 1:])
        self.above_c.copy_(self.c[:, 1:])


def num_directions(size: tuple[int, int]) -> int:
    """Return 2, or 1 for an image of one row, where the second direction has nothing to say."""
    return 1 if size[0] == 1 else 2
