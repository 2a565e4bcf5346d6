"""Animated pictures of clips: predictions beside the truth, as animated PNG."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from arcore.events import Event, Levels

MIN_SIDE = 64
FRAME_MS = 150
# the border says whether a frame was given or drawn
GIVEN, DRAWN = (15, 118, 110), (194, 65, 12)
MAX_CLIPS = 8


def save_clips(
    path: Path, samples: np.ndarray, real: np.ndarray, event: Event, context_frames: int
) -> None:
    """Write an animated PNG with a column for each clip: the truth on top, the sample below.

    Frames that were given have a teal border, drawn ones an orange one. A viewer that does not
    know animated PNG shows the first frame drawn.

    Arguments:
        path: of the file.
        samples: levels (N, T, C, H, W); of more than eight, the first.
        real: levels (N, T, C, H, W).
        event: what is modelled.
        context_frames: frames that were given.

    Raises:
        ValueError: for an event of other than one or three colours.
    """
    assert isinstance(event, Levels)
    count = min(len(samples), len(real), MAX_CLIPS)
    pictures = []
    for frame in range(samples.shape[1]):
        border = GIVEN if frame < context_frames else DRAWN
        rows = [
            np.concatenate([_tile(clip[frame], event, color) for clip in clips[:count]], 1)
            for clips, color in ((real, GIVEN), (samples, border))
        ]
        pictures.append(Image.fromarray(np.concatenate(rows, 0)))
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


def _tile(frame: np.ndarray, event: Levels, border: tuple[int, int, int]) -> np.ndarray:
    """Enlarge a frame (C, H, W) to whole multiples, RGB, with a border."""
    channels, height, width = frame.shape
    if channels not in (1, 3):
        raise ValueError(f"event: expected clips of one or three colours, got {event}")
    gray = (frame.astype(np.float32) * (255 / (event.num_levels - 1))).round().astype(np.uint8)
    scale = max(1, -(-MIN_SIDE // max(height, width)))
    large = gray.repeat(scale, 1).repeat(scale, 2).transpose(1, 2, 0)
    tile = np.empty((large.shape[0] + 4, large.shape[1] + 4, 3), np.uint8)
    tile[:] = border
    tile[2:-2, 2:-2] = large
    return tile
