"""The digits, each with its first principal components: a vector that a model can be told.

A stand-in for the embeddings of faces by which Conditional PixelCNNs draw portraits (van den Oord
et al., "Conditional Image Generation with PixelCNN Decoders", 2016): what a model is told of an
image is a vector, and vectors between two of them describe images as well.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np

from arcore.events import Levels
from pipeline.core.errors import UserError
from pipeline.datasets.base import Dataset, SplitData
from pipeline.datasets.embedded import digits
from pipeline.datasets.options import Options, between, parse_options

LEAST_SCALE = 1e-9  # of the first direction's: below it is rounding
DECIMALS = 4  # so that the last digits of a machine's linear algebra do not matter


@dataclass(frozen=True, kw_only=True)
class PCAOptions(Options):
    """Options of `digits_pca`.

    Arguments:
        components: of an image's vector, 1 to 64, of which the training split has to have as many.
    """

    components: Annotated[int, between(1, 64)] = 8


@dataclass(frozen=True, kw_only=True)
class DescribedDigits(Dataset):
    """scikit-learn's digits in levels, each with a vector in place of its class."""

    def decode(self, raw_dir: Path) -> dict[str, SplitData]:
        """Split the embedded data as `digits` is; `raw_dir` is not read."""
        assert isinstance(self.options, PCAOptions)
        x, _ = digits.load()
        splits = {split: x[rows] for split, rows in digits.read_split().items()}
        vectors = principal_components(splits, self.options.components)
        return {split: SplitData(splits[split], vectors[split]) for split in splits}


def principal_components(splits: Mapping[str, np.ndarray], count: int) -> dict[str, np.ndarray]:
    """Return the first principal components of images, of variance 1 over the training split.

    Mean, directions and variances are those of the training split alone. Of each direction the
    largest entry is positive, and numbers are rounded to 4 decimals, so that machines agree.

    Arguments:
        splits: images (N, ...) by split, `train` among them.
        count: components.

    Returns:
        (N, count) float32 by split.

    Raises:
        UserError: if the training split varies in fewer directions.
    """
    flat = {split: x.reshape(len(x), -1).astype(np.float64) for split, x in splits.items()}
    center = flat["train"].mean(0)
    _, scales, directions = np.linalg.svd(flat["train"] - center, full_matrices=False)
    varying = int((scales > LEAST_SCALE * scales[0]).sum())
    if count > varying:
        raise UserError(
            f"dataset option components: expected at most {varying}, the directions in which the "
            f"training split varies, got {count}"
        )
    directions = directions[:count]
    largest = np.abs(directions).argmax(1)
    directions = directions * np.sign(directions[np.arange(count), largest])[:, None]
    deviations = scales[:count] / np.sqrt(len(flat["train"]) - 1)
    return {
        split: ((x - center) @ directions.T / deviations).round(DECIMALS).astype(np.float32)
        for split, x in flat.items()
    }


def _build(config: Mapping[str, object]) -> Dataset:
    options = parse_options(PCAOptions, "digits_pca", config)
    return DescribedDigits(
        name="digits_pca",
        family="digits",
        event=Levels(digits.NUM_LEVELS, (1, 8, 8)),
        condition_size=options.components,
        unit="bits_per_dim",
        files=(),
        provenance=(
            f"{digits.PROVENANCE}; with each image its first {options.components} principal "
            "components, fitted to the training split, of variance 1"
        ),
        options=options,
    )


DATASETS = {"digits_pca": _build}
