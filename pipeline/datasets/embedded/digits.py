"""The digits inside scikit-learn: 1,797 images of 8 x 8 pixels in 17 levels, in several forms.

The embedded default: no network. The split is the index list in digits_split.json, stratified by
scikit-learn's train_test_split with seed 0. `digits_binary` is thresholded, `digits_dequantized`
has noise. `digits_pca` and `digits_coarse` come with a condition in place of the class (van den
Oord et al., "Conditional Image Generation with PixelCNN Decoders", 2016): a vector, the first
principal components, in place of the embeddings of faces there; and a map, a coarse image, a
condition for each place (eq. 5).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np

from arcore.events import Binary, Event, Levels, Real
from pipeline.core.errors import UserError
from pipeline.datasets.base import SPLITS, Dataset, SplitData
from pipeline.datasets.options import Options, OptionsT, between, parse_options
from pipeline.datasets.read_transforms import dequantize

SPLIT_FILE = Path(__file__).with_name("digits_split.json")
NUM_LEVELS, THRESHOLD, SIDE = 17, 8, 8
NOISE_SEEDS = {"valid": 1, "test": 2}
# Of the 1,797 x 64 levels as bytes, then the labels as bytes.
CONTENT_SHA256 = "87ff0c9e40dc7e2c0e34e7257799c2e3f3aec1a016363bb11cad869ec428a826"
LEAST_SCALE = 1e-9  # of the first principal direction's: below it is rounding
DECIMALS = 4  # so that the last digits of a machine's linear algebra do not matter
PROVENANCE = (
    "sklearn.datasets.load_digits (UCI Optical Recognition of Handwritten Digits, its test part); "
    "stratified split 1257/180/360 by the recorded index list digits_split.json"
)


def load() -> tuple[np.ndarray, np.ndarray]:
    """Load scikit-learn's digits as (1797, 1, 8, 8) uint8 and (1797,) int64.

    Raises:
        UserError: if the installed scikit-learn ships other data.
    """
    from sklearn.datasets import load_digits

    bunch = load_digits()
    x = bunch.images.astype(np.uint8).reshape(-1, 1, SIDE, SIDE)
    labels = bunch.target.astype(np.int64)
    got = hashlib.sha256(x.tobytes() + labels.astype(np.uint8).tobytes()).hexdigest()
    if got != CONTENT_SHA256:
        raise UserError(
            f"scikit-learn's load_digits: expected content of sha256 {CONTENT_SHA256}, got {got}"
        )
    return x, labels


def read_split() -> dict[str, np.ndarray]:
    """Read the recorded index list: split name to ascending row numbers (int64)."""
    recorded = json.loads(SPLIT_FILE.read_text(encoding="utf-8"))
    return {split: np.array(recorded[split], np.int64) for split in SPLITS}


def _load_splits() -> dict[str, SplitData]:
    x, labels = load()
    return {split: SplitData(x[rows], labels[rows]) for split, rows in read_split().items()}


@dataclass(frozen=True, kw_only=True)
class Digits(Dataset):
    """scikit-learn's digits in levels."""

    def decode(self, raw_dir: Path) -> dict[str, SplitData]:
        """Split the embedded data; `raw_dir` is not read."""
        return _load_splits()


@dataclass(frozen=True, kw_only=True)
class BinaryDigits(Dataset):
    """scikit-learn's digits, binarised by a threshold."""

    def decode(self, raw_dir: Path) -> dict[str, SplitData]:
        """Split and binarise the embedded data; `raw_dir` is not read."""
        return {
            split: SplitData((levels.x >= THRESHOLD).astype(np.uint8), levels.labels)
            for split, levels in _load_splits().items()
        }


@dataclass(frozen=True, kw_only=True)
class NoisyDigits(Dataset):
    """scikit-learn's digits with noise added to levels: in train each time that they are read."""

    def decode(self, raw_dir: Path) -> dict[str, SplitData]:
        """Split the embedded data, and draw the noise of valid and test once."""
        splits = _load_splits()
        noisy = {"train": SplitData(splits["train"].x, splits["train"].labels, "dequantize")}
        for split, seed in NOISE_SEEDS.items():
            levels = splits[split]
            drawn = dequantize(levels.x, np.arange(len(levels.x)), 0, seed, NUM_LEVELS)
            noisy[split] = SplitData(drawn, levels.labels)
        return noisy


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

    options: PCAOptions

    def decode(self, raw_dir: Path) -> dict[str, SplitData]:
        """Split the embedded data as `digits` is; `raw_dir` is not read."""
        splits = {split: levels.x for split, levels in _load_splits().items()}
        vectors = principal_components(splits, self.options.components)
        return {split: SplitData(splits[split], vectors[split]) for split in splits}


@dataclass(frozen=True, kw_only=True)
class CoarseOptions(Options):
    """Options of `digits_coarse`: sides of the squares of pixels that are averaged."""

    factor: Literal[2, 4, 8] = 2


@dataclass(frozen=True, kw_only=True)
class CoarseDigits(Dataset):
    """scikit-learn's digits in levels, each with a map in place of its class."""

    options: CoarseOptions

    def decode(self, raw_dir: Path) -> dict[str, SplitData]:
        """Split the embedded data as `digits` is; `raw_dir` is not read."""
        factor = self.options.factor
        return {
            split: SplitData(levels.x, coarse(levels.x, factor))
            for split, levels in _load_splits().items()
        }


def coarse(x: np.ndarray, factor: int) -> np.ndarray:
    """Average squares of pixels of levels (N, 1, H, W); reals in [0, 1], float32.

    Example:
        >>> coarse(np.array([[[[0, 16], [8, 8]]]]), 2).tolist()
        [[[[0.5]]]]
    """
    count, channels, height, width = x.shape
    cut = x.reshape(count, channels, height // factor, factor, width // factor, factor)
    means: np.ndarray = cut.astype(np.float64).mean((3, 5)) / (NUM_LEVELS - 1)
    return means.astype(np.float32)


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


def _common(
    name: str, settings: Mapping[str, object], event: Event, note: str, options: type[OptionsT]
) -> dict[str, Any]:
    return {
        "name": name,
        "family": "digits",
        "event": event,
        "unit": "nats" if isinstance(event, Binary) else "bits_per_dim",
        "files": (),
        "provenance": f"{PROVENANCE}{note}",
        "options": parse_options(options, name, settings),
    }


_SHAPE = (1, SIDE, SIDE)
_LEVELS = Levels(NUM_LEVELS, _SHAPE)


def _levels(settings: Mapping[str, object]) -> Dataset:
    return Digits(**_common("digits", settings, _LEVELS, "", Options), num_classes=10)


def _binary(settings: Mapping[str, object]) -> Dataset:
    note = f"; a pixel is 1 where its level is at least {THRESHOLD} of 16"
    given = _common("digits_binary", settings, Binary(_SHAPE), note, Options)
    return BinaryDigits(**given, num_classes=10)


def _dequantized(settings: Mapping[str, object]) -> Dataset:
    note = (
        f"; (level + u) / {NUM_LEVELS} with u uniform on [0, 1): in train by (seed, epoch, index) "
        "when read, in valid and test by one draw, seeds 1 and 2"
    )
    event = Real(_SHAPE, bin_width=1 / NUM_LEVELS)
    return NoisyDigits(
        **_common("digits_dequantized", settings, event, note, Options), num_classes=10
    )


def _pca(settings: Mapping[str, object]) -> Dataset:
    count = parse_options(PCAOptions, "digits_pca", settings).components
    note = (
        f"; with each image its first {count} principal components, fitted to the training split, "
        "of variance 1"
    )
    given = _common("digits_pca", settings, _LEVELS, note, PCAOptions)
    return DescribedDigits(**given, condition_size=count)


def _coarse(settings: Mapping[str, object]) -> Dataset:
    factor = parse_options(CoarseOptions, "digits_coarse", settings).factor
    note = f"; with each image the means of its squares of {factor} x {factor} pixels"
    given = _common("digits_coarse", settings, _LEVELS, note, CoarseOptions)
    return CoarseDigits(**given, condition_shape=(1, SIDE // factor, SIDE // factor))


DATASETS = {
    "digits": _levels,
    "digits_binary": _binary,
    "digits_dequantized": _dequantized,
    "digits_pca": _pca,
    "digits_coarse": _coarse,
}
