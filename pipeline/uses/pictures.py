"""Figures of uses: grids of images with a title for each row, and files with captions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from arcore.events import Levels
from pipeline.uses.use_context import spread
from pipeline.uses.use_records import Shown

MISSING = (0.85, 0.37, 0.01)  # of pixels that are not given
PAPER = 0.9  # between images, where white ones are to be seen
GAP = 1 / 8  # of an image's side, between images
INCHES = 0.55  # of an image
DPI = 110


def colours(x: Tensor, event: Levels, missing: Tensor | None = None) -> np.ndarray:
    """Return levels (N, C, H, W) as colours in [0, 1], (N, H, W, 3); missing pixels are orange.

    Arguments:
        x: levels, or reals between them.
        event: whose lowest level is black and highest white.
        missing: bool, (C, H, W); a pixel is missing where any of its colours is.
    """
    shades = (x.detach().cpu().double() / (event.num_levels - 1)).clamp(0, 1)
    shown = shades.expand(-1, 3, -1, -1).permute(0, 2, 3, 1).numpy().copy()
    if missing is not None:
        shown[:, missing.any(0).cpu().numpy()] = MISSING
    return shown


def grid(rows: Sequence[tuple[str, np.ndarray]]) -> Figure:
    """Draw rows of images (N, H, W, 3), each with its title to the left.

    Arguments:
        rows: of equal numbers of images, but shorter ones leave a gap.
    """
    count = max(len(images) for _, images in rows)
    height, width = rows[0][1].shape[1:3]
    gap = max(1, round(GAP * min(height, width)))
    step = (height + gap, width + gap)
    canvas = np.full((len(rows) * step[0] + gap, count * step[1] + gap, 3), PAPER)
    for row, (_, images) in enumerate(rows):
        for column, image in enumerate(images):
            top, left = gap + row * step[0], gap + column * step[1]
            canvas[top : top + height, left : left + width] = image
    longest = max(len(title) for title, _ in rows)
    size = (0.09 * longest + 0.3 + INCHES * count, 0.25 + INCHES * len(rows))
    figure, axes = new_axes(*size)
    axes.imshow(canvas, interpolation="nearest")
    axes.set_yticks(
        [gap + row * step[0] + height / 2 - 0.5 for row in range(len(rows))],
        [title for title, _ in rows],
        fontsize=8,
    )
    axes.set_xticks([])
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    return figure


def image_grid(named: Mapping[str, Tensor], event: Levels, count: int) -> Figure:
    """Draw a row of levels (N, C, H, W) for each name, of which `count` evenly spread are shown."""
    rows = {name: colours(x, event) for name, x in named.items()}
    return grid([(name, x[spread(len(x), count)]) for name, x in rows.items()])


def new_figure(width: float, height: float) -> Figure:
    """Return an empty figure; sizes are in inches."""
    return Figure(figsize=(width, height), layout="constrained", dpi=DPI)


def new_axes(width: float, height: float) -> tuple[Figure, Axes]:
    """Return a figure with one panel; sizes are in inches."""
    figure = new_figure(width, height)
    return figure, figure.subplots()


def save(figure: Figure, path: Path) -> None:
    """Write a figure as a PNG without anything that differs from run to run."""
    figure.savefig(path, metadata={"Software": None})


def show(figure: Figure, path: Path, caption: str) -> Shown:
    """Write a figure as `save` does, and return it with its caption."""
    save(figure, path)
    return Shown(file=path.name, caption=caption)
