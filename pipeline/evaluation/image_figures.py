"""Pictures of one evaluation: samples and real events, and the learning curve."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from PIL import Image

from arcore.events import Event, is_levels, is_real
from pipeline.training.training_records import read_history

MAX_PANELS = 6


def sample_figure(pictures: Mapping[str, np.ndarray], event: Event) -> Figure:
    """Draw samples and real events: grids of images, discrete vectors as rows of a matrix.

    Real vectors are points in the planes of neighbouring dimensions, see `scatter_figure`.

    Arguments:
        pictures: events (N, *shape) by title: "samples", "real", and others for a second row.
        event: what is modelled.
    """
    samples, real = pictures["samples"], pictures["real"]
    if is_real(event) and len(event.shape) == 1:
        return scatter_figure(samples, real)
    columns = max(2, len(pictures) - 2)
    rows = 1 if len(pictures) == 2 else 2
    figure = Figure(figsize=(4.5 * columns, 4.8 * rows), layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False)
    for axes in panels[0, 2:]:
        axes.set_axis_off()
    low, high = _range(event, real)
    used = [*panels[0, :2], *panels[1:].ravel()]
    for axes, (title, x) in zip(used, pictures.items(), strict=True):
        grid = tile(x) if is_picture(event) else x.reshape(len(x), -1)
        if grid.ndim == 3:  # imshow takes colours in [0, 1]
            grid = (grid - low) / (high - low)
        axes.imshow(
            grid,
            cmap="gray",
            vmin=low,
            vmax=high,
            interpolation="nearest",
            aspect="equal" if is_picture(event) else "auto",
        )
        axes.set(title=title, xticks=[], yticks=[])
    return figure


def _range(event: Event, real: np.ndarray) -> tuple[float, float]:
    """Return what is black and white: the ends of levels, bits or [0, 1], else those of real rows.

    Arguments:
        event: what is modelled; of reals without bins the range is that of real ones.
        real: events of the dataset.
    """
    if is_real(event) and event.bin_width is None:
        return float(real.min()), float(real.max())
    return 0.0, event.num_levels - 1.0 if is_levels(event) else 1.0


def is_picture(event: Event) -> bool:
    """Tell whether an event is an image of one or three colours, which come first."""
    return len(event.shape) == 3 and event.shape[0] in (1, 3)


def scatter_figure(samples: np.ndarray, real: np.ndarray) -> Figure:
    """Draw real vectors (N, D) and samples as points, one panel for each pair (d, d + 1).

    At most six panels, which show the range of the real ones; a lone dimension is a histogram.
    """
    pairs = [(d, d + 1) for d in range(min(real.shape[1] - 1, MAX_PANELS))]
    columns = max(1, min(3, len(pairs)))
    rows = max(1, math.ceil(len(pairs) / columns))
    figure = Figure(figsize=(3 * columns + 1, 3 * rows), layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    if not pairs:
        panels[0].hist([real[:, 0], samples[:, 0]], bins=20, label=["real", "samples"])
    for axes, (first, second) in zip(panels, pairs, strict=False):
        for x, label in ((real, "real"), (samples, "samples")):
            axes.plot(x[:, first], x[:, second], ".", alpha=0.6, label=label)
        for column, limit in ((first, axes.set_xlim), (second, axes.set_ylim)):
            margin = 0.2 * float(np.ptp(real[:, column])) or 1.0
            limit(float(real[:, column].min()) - margin, float(real[:, column].max()) + margin)
        axes.set(xlabel=f"dimension {first}", ylabel=f"dimension {second}")
    for axes in panels[len(pairs) or 1 :]:
        axes.set_axis_off()
    panels[0].legend(loc="upper right")  # the best place takes long to find
    return figure


def write_strip(path: Path, images: np.ndarray, event: Event, real: np.ndarray) -> None:
    """Write images (N, C, H, W) side by side as a PNG of H by N * W pixels, for a report to cut."""
    low, high = _range(event, real)
    shades = ((images.astype(np.float64) - low) / max(high - low, 1e-12)).clip(0, 1)
    gray = (255 * shades).round().astype(np.uint8)
    count, channels, height, width = gray.shape
    strip = gray.transpose(2, 0, 3, 1).reshape(height, count * width, channels)
    Image.fromarray(strip[..., 0] if channels == 1 else strip).save(path)


def tile(images: np.ndarray) -> np.ndarray:
    """Arrange images (N, C, H, W) as one square grid with a border of one pixel.

    Returns:
        (rows * (H + 1) + 1, columns * (W + 1) + 1) for one channel, with a last axis of 3 for
        three. The border has half the largest value.
    """
    count, channels, height, width = images.shape
    columns = math.ceil(math.sqrt(count))
    rows = math.ceil(count / columns)
    border = images.max() / 2 if images.size else 0
    shape = (rows * (height + 1) + 1, columns * (width + 1) + 1, channels)
    grid = np.full(shape, border, dtype=np.float32)
    for index, image in enumerate(images):
        top = (index // columns) * (height + 1) + 1
        left = (index % columns) * (width + 1) + 1
        grid[top : top + height, left : left + width] = image.transpose(1, 2, 0)
    return grid[..., 0] if channels == 1 else grid


def curve_figure(history: Path) -> Figure:
    """Draw the training and validation curves of a history.csv, in nats."""
    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    rows = read_history(history)
    for column, label in (("train_nats", "train"), ("valid_nats", "valid")):
        points = [(int(row["epoch"]), float(row[column])) for row in rows if row.get(column)]
        if points:
            axes.plot(*zip(*points, strict=True), label=label)
    axes.set(xlabel="epoch", ylabel="nats")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(alpha=0.3)
    axes.legend()
    return figure
