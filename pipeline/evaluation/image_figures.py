"""Figures of samples: images, vectors and clips next to real ones."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypeGuard

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor

import arcore
from arcore.events import Event, Levels, Table, is_levels, is_real, is_table

MAX_PANELS = 6
COLUMNS = 10
PAPER = 0.9  # between images, where white ones are to be seen
GAP = 1 / 8  # of an image's side, between images
INCHES = 0.55  # of an image
DPI = 110


def new_figure(width: float, height: float) -> Figure:
    """Return an empty figure; sizes are in inches."""
    return Figure(figsize=(width, height), layout="constrained", dpi=DPI)


def new_axes(width: float, height: float) -> tuple[Figure, Axes]:
    """Return a figure with one panel; sizes are in inches."""
    figure = new_figure(width, height)
    return figure, figure.subplots()


def grid(rows: Sequence[tuple[str, np.ndarray]]) -> Figure:
    """Draw rows of images (N, H, W, 3) in [0, 1], each with its title to the left."""
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


def sample_figure(
    pictures: Mapping[str, np.ndarray], event: Event, table: Table | None = None
) -> Figure:
    """Draw events (N, *shape) by title, "samples" and "real" among them.

    Images are rows, real vectors points in planes, and others rows of a matrix. A vector's
    dimensions have the names of the table's columns, where it is of one.
    """
    real = pictures["real"]
    if is_table(event) or (is_real(event) and len(event.shape) == 1):
        named = [column.name for column in table.columns] if table is not None else None
        names = named or [f"dimension {d}" for d in range(event.size)]
        return scatter_figure(pictures["samples"], real, names)
    if not is_picture(event):
        return _matrices({title: _shades(x, event, real) for title, x in pictures.items()})
    lines = []
    for title, images in pictures.items():
        shades = _images(images, event, real)
        shades = np.broadcast_to(shades, (len(images), 3, *shades.shape[2:]))
        for first in range(0, len(images), COLUMNS):
            part = shades[first : first + COLUMNS].transpose(0, 2, 3, 1)
            lines.append(("" if first else title, part))
    return grid(lines)


def _matrices(pictures: Mapping[str, np.ndarray]) -> Figure:
    figure = new_figure(4.5 * len(pictures), 4.8)
    for axes, (title, x) in zip(figure.subplots(1, len(pictures)), pictures.items(), strict=True):
        rows = x.reshape(len(x), -1)
        axes.imshow(rows, "gray", aspect="auto", interpolation="nearest", vmin=0, vmax=1)
        axes.set(title=title, xticks=[], yticks=[])
    return figure


def _shades(images: np.ndarray, event: Event, real: np.ndarray) -> np.ndarray:
    """Return images in [0, 1]: over their levels, bits or [0, 1], else the range of real ones."""
    low, high = 0.0, event.num_levels - 1.0 if is_levels(event) else 1.0
    if is_real(event) and event.bin_width is None:
        low, high = float(real.min()), float(real.max())
    return np.clip((images.astype(np.float64) - low) / max(high - low, 1e-12), 0, 1)


def _images(events: np.ndarray, event: Event, real: np.ndarray) -> np.ndarray:
    """Return events as images (N, C, H, W) in [0, 1]; events of two axes have one channel."""
    return _shades(events, event, real).reshape(len(events), -1, *events.shape[-2:])


def is_picture(event: Event) -> bool:
    """Tell whether an event has two axes, or three with one or three colours first."""
    return len(event.shape) == 2 or (len(event.shape) == 3 and event.shape[0] in (1, 3))


def scatter_figure(samples: np.ndarray, real: np.ndarray, names: Sequence[str]) -> Figure:
    """Draw real vectors (N, D) and samples as points, one panel for each pair (d, d + 1).

    At most six panels, which show the range of the real ones; a lone dimension is a histogram.
    """
    pairs = [(d, d + 1) for d in range(min(real.shape[1] - 1, MAX_PANELS))]
    columns = max(1, min(3, len(pairs)))
    rows = max(1, math.ceil(len(pairs) / columns))
    figure = new_figure(3 * columns + 1, 3 * rows)
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    if not pairs:
        panels[0].hist([real[:, 0], samples[:, 0]], bins=20, label=["real", "samples"])
    for axes, (first, second) in zip(panels, pairs, strict=False):
        for x, label in ((real, "real"), (samples, "samples")):
            axes.plot(x[:, first], x[:, second], ".", alpha=0.6, label=label)
        for column, limit in ((first, axes.set_xlim), (second, axes.set_ylim)):
            low, high = np.nanmin(real[:, column]), np.nanmax(real[:, column])  # NaN is missing
            margin = 0.2 * float(high - low) or 1.0
            limit(float(low) - margin, float(high) + margin)
        axes.set_xlabel(names[first], parse_math=False)
        axes.set_ylabel(names[second], parse_math=False)
    for axes in panels[len(pairs) or 1 :]:
        axes.set_axis_off()
    panels[0].legend(loc="upper right")  # the best place takes long to find
    return figure


def write_strip(path: Path, images: np.ndarray, event: Event, real: np.ndarray) -> None:
    """Write images side by side as a PNG of H by N * W pixels, for a report to cut."""
    gray = (255 * _images(images, event, real)).round().astype(np.uint8)
    count, channels, height, width = gray.shape
    strip = gray.transpose(2, 0, 3, 1).reshape(height, count * width, channels)
    Image.fromarray(strip[..., 0] if channels == 1 else strip).save(path)


MIN_SIDE = 64
FRAME_MS = 150
# the border says whether a frame was given or drawn
GIVEN, DRAWN = (15, 118, 110), (194, 65, 12)
MAX_CLIPS = 8


def save_clips(path: Path, rows: Sequence[np.ndarray], event: Levels, context_frames: int) -> None:
    """Write an animated PNG with a column for each clip and a row for each version of it.

    Rows are levels (N, T, C, H, W) each, the first of them the truth. In the others, frames that
    were given have a teal border and the model's own an orange one. A viewer that does not know
    animated PNG shows the model's first.
    """
    count = min(MAX_CLIPS, *(len(clips) for clips in rows))
    pictures = []
    for frame in range(rows[0].shape[1]):
        border = GIVEN if frame < context_frames else DRAWN
        strips = [
            np.concatenate([_tile(clip[frame], event, color) for clip in clips[:count]], 1)
            for clips, color in zip(rows, [GIVEN] + [border] * (len(rows) - 1), strict=True)
        ]
        pictures.append(Image.fromarray(np.concatenate(strips, 0)))
    start = min(context_frames, len(pictures) - 1)
    pictures[start].save(
        path,
        format="PNG",
        save_all=True,
        append_images=pictures,
        default_image=True,
        duration=FRAME_MS,
        loop=0,
    )


def are_clips(event: Event) -> TypeGuard[Levels]:
    """Tell whether events are clips (T, C, H, W) over levels, of one or three colours."""
    return is_levels(event) and len(event.shape) == 4 and event.shape[1] in (1, 3)


@torch.no_grad()
def expected(
    model: arcore.AutoregressiveModel, real: Tensor, condition: Tensor | None, context_frames: int
) -> np.ndarray:
    """Return what a model expects of each frame after those given, given the true ones before it.

    These are fractional levels (N, T, C, H, W), the true ones where frames were given.
    """
    assert is_levels(model.event)
    highest = model.event.num_levels - 1
    clips = []
    for index, clip in enumerate(real.split(1)):
        given = None if condition is None else condition[index : index + 1]
        logits: Tensor = model.conditionals(clip, given).logits  # type: ignore[attr-defined]
        if logits.dim() == clip.dim():
            levels = torch.sigmoid(logits) * highest
        else:
            levels = torch.softmax(logits, -1) @ torch.arange(logits.shape[-1]).to(logits)
        levels[:, :context_frames] = clip[:, :context_frames].to(levels)
        clips.append(levels.cpu().numpy())
    return np.concatenate(clips)


def _tile(frame: np.ndarray, event: Levels, border: tuple[int, int, int]) -> np.ndarray:
    """Enlarge a frame (C, H, W) to whole multiples, RGB, with a border."""
    _, height, width = frame.shape
    gray = (frame.astype(np.float32) * (255 / (event.num_levels - 1))).round().astype(np.uint8)
    scale = max(1, -(-MIN_SIDE // max(height, width)))
    large = gray.repeat(scale, 1).repeat(scale, 2).transpose(1, 2, 0)
    tile = np.empty((large.shape[0] + 4, large.shape[1] + 4, 3), np.uint8)
    tile[:] = border
    tile[2:-2, 2:-2] = large
    return tile
