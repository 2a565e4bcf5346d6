"""Animated pictures of clips: predictions below the truth, as animated PNG."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TypeGuard

import numpy as np
import torch
from PIL import Image
from torch import Tensor

import arcore
from arcore.events import Event, Levels, is_levels

MIN_SIDE = 64
FRAME_MS = 150
# the border says whether a frame was given or drawn
GIVEN, DRAWN = (15, 118, 110), (194, 65, 12)
MAX_CLIPS = 8


def save_clips(path: Path, rows: Sequence[np.ndarray], event: Levels, context_frames: int) -> None:
    """Write an animated PNG with a column for each clip and a row for each version of it.

    Rows are levels (N, T, C, H, W) each, the first of them the truth. In the others, frames that
    were given have a teal border and those of the model an orange one. A viewer that does not know
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
    model: arcore.AutoregressiveModel,
    real: np.ndarray,
    condition: Tensor | None,
    context_frames: int,
) -> np.ndarray:
    """Return what a model expects of each frame after those given, given the true ones before it.

    These are fractional levels (N, T, C, H, W), the true ones where frames were given.
    """
    assert is_levels(model.event)
    highest = model.event.num_levels - 1
    clips = []
    for index, clip in enumerate(torch.from_numpy(real).to(model.device).split(1)):
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
