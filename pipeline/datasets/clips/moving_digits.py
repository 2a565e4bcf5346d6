"""Moving digits: clips that the published generator of Moving MNIST draws when they are read.

A split's shards hold its digits, which appear in no other; a row stands for one clip of two of
them. Training clips are new in each epoch. Valid and test are of seed 0 and epoch 0, so that the
first test clips have the paths of the validation clips.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from arcore.events import Binary, Gray
from pipeline.core.errors import UserError
from pipeline.datasets.base import SPLITS, Dataset, SplitData
from pipeline.datasets.embedded import digits
from pipeline.datasets.images import mnist
from pipeline.datasets.options import Options, parse_options

NUM_FRAMES, CONTEXT_FRAMES = 20, 10


@dataclass(frozen=True, kw_only=True)
class MovingOptions(Options):
    """Options of moving digits.

    Arguments:
        train_rows, valid_rows: clips of an epoch and of the validation split, as many as the
            number of digits or a whole fraction of it; the digits are all used in any case.
    """

    train_rows: int
    valid_rows: int


@dataclass(frozen=True, kw_only=True)
class Moving(Dataset):
    """Clips of two moving digits out of still images, `halved` by averages of 2 x 2 pixels."""

    still: Dataset
    halved: bool = False

    def decode(self, raw_dir: Path) -> dict[str, SplitData]:
        """Decode the still images and gather several rows in one."""
        options = self.options
        assert isinstance(options, MovingOptions)
        still = self.still.decode(raw_dir)
        splits = {}
        for split in SPLITS:
            data = still[split]
            assert isinstance(data, SplitData)
            x = _gray(data.x[:, 0], self.still)
            if self.halved:
                x = x.reshape(len(x), x.shape[1] // 2, 2, x.shape[2] // 2, 2)
                x = np.rint(x.mean((2, 4))).astype(np.uint8)
            rows = {"train": options.train_rows, "valid": options.valid_rows}.get(split, len(x))
            if rows < 1 or len(x) % rows:
                raise UserError(
                    f"dataset option {split}_rows: expected {len(x)} or a whole fraction of it, "
                    f"got {rows}"
                )
            x = x.reshape(rows, -1, *x.shape[1:])
            splits[split] = SplitData(x, None, "moving")
        return splits


def _gray(x: np.ndarray, still: Dataset) -> np.ndarray:
    """Bring k levels to gray levels 0-255, and leave bits as they are."""
    levels: int = still.event.num_levels  # type: ignore[attr-defined]
    return x if levels in (2, 256) else np.rint(x * (255 / (levels - 1))).astype(np.uint8)


_RULE = (
    "two digits a clip, places and directions uniform, 0.1 of the box's side a frame, edges "
    "reflect, overlap shows the brighter; 20 frames, the first 10 given; train drawn by (seed, "
    "epoch, row) when read, valid and test those of seed 0 and epoch 0"
)
_GRAY = "gray levels are targets of Bernoulli conditionals, cross-entropy and no likelihood"


def _build(name: str, settings: Mapping[str, object]) -> Dataset:
    still, canvas, train_rows, valid_rows, halved = _VARIANTS[name]
    families: dict[str, Callable[[Mapping[str, object]], Dataset]] = {
        **digits.DATASETS,
        **mnist.DATASETS,
    }
    source = families[still]({"name": still})
    shape = (NUM_FRAMES, 1, canvas, canvas)
    binary = isinstance(source.event, Binary)
    defaults = {"train_rows": train_rows, "valid_rows": valid_rows}
    what = "exact likelihood of bits" if binary else _GRAY
    return Moving(
        name=name,
        family=source.family,
        event=Binary(shape) if binary else Gray(shape),
        unit="nats_per_frame",
        files=source.files,
        provenance=(
            f"{source.provenance}; {'2 x 2 pixels averaged; ' if halved else ''}"
            f"canvas {canvas} x {canvas}, {_RULE}; {what}"
        ),
        options=parse_options(MovingOptions, name, {**defaults, **settings}),
        published_name=name if name == "moving_mnist" else None,
        context_frames=CONTEXT_FRAMES,
        still=source,
        halved=halved,
    )


# still images, canvas, clips of an epoch and for validation, whether images are halved
_VARIANTS = {
    "moving_digits": ("digits", 16, 1257, 180, False),
    "moving_digits_binary": ("digits_binary", 16, 1257, 180, False),
    "moving_mnist": ("mnist", 64, 1000, 100, False),
    "moving_mnist_32": ("mnist", 32, 1000, 100, True),
}
DATASETS = {name: partial(_build, name) for name in _VARIANTS}
