"""Figures of uses: rows of images with a title for each, and files with captions."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from torch import Tensor

from arcore.events import Levels
from pipeline.evaluation.image_figures import grid as grid
from pipeline.evaluation.image_figures import new_axes as new_axes
from pipeline.evaluation.image_figures import new_figure as new_figure
from pipeline.uses.use_context import spread
from pipeline.uses.use_records import Shown

MISSING = (0.85, 0.37, 0.01)  # of pixels that are not given


def colours(x: Tensor, event: Levels, missing: Tensor | None = None) -> np.ndarray:
    """Return levels (N, C, H, W) as colours in [0, 1], (N, H, W, 3).

    A pixel is orange where any of its colours is missing, (C, H, W) bool.
    """
    shades = (x.detach().cpu().double() / (event.num_levels - 1)).clamp(0, 1)
    shown = shades.expand(-1, 3, -1, -1).permute(0, 2, 3, 1).numpy().copy()
    if missing is not None:
        shown[:, missing.any(0).cpu().numpy()] = MISSING
    return shown


def image_grid(named: Mapping[str, Tensor], event: Levels, count: int) -> Figure:
    """Draw a row of levels (N, C, H, W) for each name; `count` evenly spread ones are shown."""
    rows = {name: colours(x, event) for name, x in named.items()}
    return grid([(name, x[spread(len(x), count)]) for name, x in rows.items()])


def show(figure: Figure, path: Path, caption: str) -> Shown:
    """Write a figure as a PNG, without anything that differs from run to run, with its caption."""
    figure.savefig(path, metadata={"Software": None})
    return Shown(file=path.name, caption=caption)
