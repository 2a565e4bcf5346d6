"""The digits inside scikit-learn: 1,797 images of 8 x 8 pixels in 17 levels, in several forms.

The embedded default: no network. `digits_pca` and `digits_coarse` come with a condition in place of
the class (van den Oord et al., "Conditional Image Generation with PixelCNN Decoders", 2016): a
vector, in place of the embeddings of faces there, and a map, a condition for each place (eq. 5).
"""

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np

from arcore.events import Binary, Event, Levels, Real
from pipeline.core.errors import UserError
from pipeline.datasets.base import SPLITS, Dataset, SplitData, dequantized, noise_note
from pipeline.datasets.options import Options, between, parse_options

SPLIT_FILE = Path(__file__).with_name("digits_split.json")
NUM_LEVELS, THRESHOLD, SIDE = 17, 8, 8
# Of the 1,797 x 64 levels as bytes, then the labels as bytes.
CONTENT_SHA256 = "87ff0c9e40dc7e2c0e34e7257799c2e3f3aec1a016363bb11cad869ec428a826"
LEAST_SCALE = 1e-9  # of the first principal direction's: below it is rounding
DECIMALS = 4  # so that the last digits of a machine's linear algebra do not matter
PROVENANCE = (
    "sklearn.datasets.load_digits (UCI Optical Recognition of Handwritten Digits, its test part); "
    "stratified split 1257/180/360 by the recorded index list digits_split.json"
)

Splits = dict[str, SplitData]


def load() -> tuple[np.ndarray, np.ndarray]:
    """Load scikit-learn's digits as (1797, 1, 8, 8) uint8 and (1797,) int64."""
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


@dataclass(frozen=True, kw_only=True)
class PCAOptions(Options):
    """Options of `digits_pca`.

    Arguments:
        components: of an image's vector, 1 to 64; the training split has to have as many.
    """

    components: Annotated[int, between(1, 64)] = 8


@dataclass(frozen=True, kw_only=True)
class CoarseOptions(Options):
    """Options of `digits_coarse`: sides of the squares of pixels that are averaged."""

    factor: Literal[2, 4, 8] = 2


@dataclass(frozen=True, kw_only=True)
class Digits(Dataset):
    """scikit-learn's digits, in one of their forms."""

    def decode(self, raw_dir: Path) -> dict[str, SplitData]:
        """Split the embedded data and bring it to the form; `raw_dir` is not read."""
        x, labels = load()
        splits = {split: SplitData(x[rows], labels[rows]) for split, rows in read_split().items()}
        return _FORMS[self.name](splits, self.options)


def _binarized(splits: Splits, options: Options) -> Splits:
    return {
        split: SplitData((levels.x >= THRESHOLD).astype(np.uint8), levels.labels)
        for split, levels in splits.items()
    }


def _with_vectors(splits: Splits, options: Options) -> Splits:
    assert isinstance(options, PCAOptions)
    images = {split: levels.x for split, levels in splits.items()}
    vectors = principal_components(images, options.components)
    return {split: SplitData(x, vectors[split]) for split, x in images.items()}


def _with_maps(splits: Splits, options: Options) -> Splits:
    assert isinstance(options, CoarseOptions)
    factor = options.factor
    return {s: SplitData(levels.x, coarse(levels.x, factor)) for s, levels in splits.items()}


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

    Mean, directions and variances are of the training split alone. Of each direction the
    largest entry is positive, and numbers are rounded to 4 decimals, so that machines agree.

    Takes images (N, ...) by split, `train` among them, and returns (N, count) float32 by split.
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


_FORMS: dict[str, Callable[[Splits, Options], Splits]] = {
    "digits": lambda splits, _: splits,
    "digits_binary": _binarized,
    "digits_dequantized": lambda splits, _: dequantized(splits, NUM_LEVELS),
    "digits_pca": _with_vectors,
    "digits_coarse": _with_maps,
}


def _build(name: str, settings: Mapping[str, object]) -> Dataset:
    options = parse_options(_OPTIONS.get(name, Options), name, settings)
    event: Event = Levels(NUM_LEVELS, (1, SIDE, SIDE))
    note, conditions = "", dict[str, Any](num_classes=10)
    if name == "digits_binary":
        event = Binary(event.shape)
        note = f"; a pixel is 1 where its level is at least {THRESHOLD} of 16"
    elif name == "digits_dequantized":
        event = Real(event.shape, bin_width=1 / NUM_LEVELS)
        note = noise_note(NUM_LEVELS)
    elif isinstance(options, PCAOptions):
        conditions = {"condition_size": options.components}
        note = (
            f"; with each image its first {options.components} principal components, fitted to "
            "the training split, of variance 1"
        )
    elif isinstance(options, CoarseOptions):
        side = SIDE // options.factor
        conditions = {"condition_shape": (1, side, side)}
        squares = f"{options.factor} x {options.factor}"
        note = f"; with each image the means of its squares of {squares} pixels"
    return Digits(
        name=name,
        family="digits",
        event=event,
        unit="nats" if isinstance(event, Binary) else "bits_per_dim",
        provenance=f"{PROVENANCE}{note}",
        options=options,
        **conditions,
    )


_OPTIONS: dict[str, type[Options]] = {"digits_pca": PCAOptions, "digits_coarse": CoarseOptions}
DATASETS = {name: partial(_build, name) for name in _FORMS}
