"""The digits, each with a coarse image of itself: a map that a model can be told.

A map is a condition for each place (van den Oord et al., "Conditional Image Generation with
PixelCNN Decoders", 2016, eq. 5). Told the coarse image, a model draws what it leaves open.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from arcore.events import Levels
from pipeline.datasets.base import Dataset, SplitData
from pipeline.datasets.embedded import digits
from pipeline.datasets.options import Options, parse_options

SIDE = 8


@dataclass(frozen=True, kw_only=True)
class CoarseOptions(Options):
    """Options of `digits_coarse`.

    Arguments:
        factor: sides of the squares of pixels that are averaged: 2, 4 or 8.
    """

    factor: Literal[2, 4, 8] = 2


@dataclass(frozen=True, kw_only=True)
class CoarseDigits(Dataset):
    """scikit-learn's digits in levels, each with a map in place of its class."""

    def decode(self, raw_dir: Path) -> dict[str, SplitData]:
        """Split the embedded data as `digits` is; `raw_dir` is not read."""
        assert isinstance(self.options, CoarseOptions)
        x, _ = digits.load()
        splits = {split: x[rows] for split, rows in digits.read_split().items()}
        factor = self.options.factor
        return {split: SplitData(rows, coarse(rows, factor)) for split, rows in splits.items()}


def coarse(x: np.ndarray, factor: int) -> np.ndarray:
    """Average squares of pixels; levels become reals in [0, 1].

    Arguments:
        x: levels (N, 1, H, W).
        factor: of the sides.

    Returns:
        (N, 1, H / factor, W / factor) float32.

    Example:
        >>> coarse(np.array([[[[0, 16], [8, 8]]]]), 2).tolist()
        [[[[0.5]]]]
    """
    count, channels, height, width = x.shape
    cut = x.reshape(count, channels, height // factor, factor, width // factor, factor)
    means: np.ndarray = cut.astype(np.float64).mean((3, 5)) / (digits.NUM_LEVELS - 1)
    return means.astype(np.float32)


def _build(config: Mapping[str, object]) -> Dataset:
    options = parse_options(CoarseOptions, "digits_coarse", config)
    side = SIDE // options.factor
    return CoarseDigits(
        name="digits_coarse",
        family="digits",
        event=Levels(digits.NUM_LEVELS, (1, SIDE, SIDE)),
        condition_shape=(1, side, side),
        unit="bits_per_dim",
        files=(),
        provenance=(
            f"{digits.PROVENANCE}; with each image the means of its squares of {options.factor} x "
            f"{options.factor} pixels"
        ),
        options=options,
    )


DATASETS = {"digits_coarse": _build}
