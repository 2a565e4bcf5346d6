"""The digits inside scikit-learn: 1,797 images of 8 x 8 pixels in 17 levels, binarised, and noisy.

The embedded default: no network. The split is the index list in digits_split.json, made once by

    python -c "from pipeline.datasets.embedded import digits; digits.write_split()"
"""

from __future__ import annotations

import hashlib
import json
import textwrap
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from arcore.events import Binary, Levels, Real
from pipeline.core.errors import UserError
from pipeline.datasets.base import SPLITS, Dataset, SplitData
from pipeline.datasets.options import Options, parse_options
from pipeline.datasets.read_transforms import dequantize

SPLIT_FILE = Path(__file__).with_name("digits_split.json")
NUM_VALID, NUM_TEST = 180, 360
NUM_LEVELS, THRESHOLD = 17, 8
NOISE_SEEDS = {"valid": 1, "test": 2}
# Of the 1,797 x 64 levels as bytes, then the labels as bytes.
CONTENT_SHA256 = "87ff0c9e40dc7e2c0e34e7257799c2e3f3aec1a016363bb11cad869ec428a826"


def load() -> tuple[np.ndarray, np.ndarray]:
    """Load scikit-learn's digits as (1797, 1, 8, 8) uint8 and (1797,) int64.

    Raises:
        UserError: if the installed scikit-learn ships other data.
    """
    from sklearn.datasets import load_digits

    bunch = load_digits()
    x = bunch.images.astype(np.uint8).reshape(-1, 1, 8, 8)
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


def write_split(path: Path = SPLIT_FILE, seed: int = 0) -> None:
    """Write a stratified split of 1,257 / 180 / 360 rows as JSON.

    Arguments:
        path: file to write.
        seed: of scikit-learn's shuffles.
    """
    from sklearn.model_selection import train_test_split

    labels = load()[1]
    rest, test = train_test_split(
        np.arange(len(labels)), test_size=NUM_TEST, stratify=labels, random_state=seed
    )
    train, valid = train_test_split(
        rest, test_size=NUM_VALID, stratify=labels[rest], random_state=seed
    )
    parts = []
    for split, rows in zip(SPLITS, (train, valid, test), strict=True):
        numbers = textwrap.fill(", ".join(str(i) for i in sorted(rows)), 98)
        parts.append(f'"{split}": [\n{numbers}\n]')
    path.write_text("{\n" + ",\n".join(parts) + "\n}\n", encoding="utf-8")


@dataclass(frozen=True, kw_only=True)
class Digits(Dataset):
    """scikit-learn's digits, in levels, binarised by a threshold, or with noise added to levels.

    Training levels are dequantised each time that they are read, the others by one draw.
    """

    binary: bool = False
    dequantized: bool = False

    def decode(self, raw_dir: Path) -> dict[str, SplitData]:
        """Split the embedded data; `raw_dir` is not read."""
        x, labels = load()
        if self.binary:
            x = (x >= THRESHOLD).astype(np.uint8)
        splits = {split: SplitData(x[rows], labels[rows]) for split, rows in read_split().items()}
        if not self.dequantized:
            return splits
        noisy = {"train": SplitData(splits["train"].x, splits["train"].labels, "dequantize")}
        for split, seed in NOISE_SEEDS.items():
            levels = splits[split]
            drawn = dequantize(levels.x, np.arange(len(levels.x)), 0, seed, NUM_LEVELS)
            noisy[split] = SplitData(drawn, levels.labels)
        return noisy


PROVENANCE = (
    "sklearn.datasets.load_digits (UCI Optical Recognition of Handwritten Digits, its test part); "
    "stratified split 1257/180/360 by the recorded index list digits_split.json"
)


def _levels(config: Mapping[str, object]) -> Dataset:
    return Digits(
        name="digits",
        family="digits",
        event=Levels(NUM_LEVELS, (1, 8, 8)),
        num_classes=10,
        unit="bits_per_dim",
        files=(),
        provenance=PROVENANCE,
        options=parse_options(Options, "digits", config),
    )


def _binary(config: Mapping[str, object]) -> Dataset:
    return Digits(
        name="digits_binary",
        family="digits",
        event=Binary((1, 8, 8)),
        num_classes=10,
        unit="nats",
        files=(),
        provenance=f"{PROVENANCE}; a pixel is 1 where its level is at least {THRESHOLD} of 16",
        options=parse_options(Options, "digits_binary", config),
        binary=True,
    )


def _dequantized(config: Mapping[str, object]) -> Dataset:
    return Digits(
        name="digits_dequantized",
        family="digits",
        event=Real((1, 8, 8), bin_width=1 / NUM_LEVELS),
        num_classes=10,
        unit="bits_per_dim",
        files=(),
        provenance=(
            f"{PROVENANCE}; (level + u) / {NUM_LEVELS} with u uniform on [0, 1): in train by "
            "(seed, epoch, index) when read, in valid and test by one draw, seeds 1 and 2"
        ),
        options=parse_options(Options, "digits_dequantized", config),
        dequantized=True,
    )


DATASETS = {"digits": _levels, "digits_binary": _binary, "digits_dequantized": _dequantized}
