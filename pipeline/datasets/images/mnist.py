"""MNIST and Fashion-MNIST: gray, statically and dynamically binarised, and Larochelle's bits.

Valid is chosen from the training rows by a recorded seed. Binarised variants draw each pixel from
Bernoulli(gray / 255); they share the draws of valid and test, so that their numbers compare.
`binarized_mnist` is the fixed binarisation of Salakhutdinov and Murray: train and valid are a
shuffle of MNIST's 60,000 rows, test is sorted by class.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd

from arcore.events import Binary, Levels
from pipeline.datasets.base import SPLITS, Dataset, SplitData, listed_files
from pipeline.datasets.options import Options, parse_options
from pipeline.datasets.read_transforms import choose_rows, dynamic_binarize

Variant = Literal["gray", "static", "dynamic"]

FILES = Path(__file__).with_name("mnist_files.yaml")
VALID_SEED = 0
TRAIN_FILE_DRAW_SEED, TEST_FILE_DRAW_SEED = 1, 2

_URLS = {
    "mnist": "https://ossci-datasets.s3.amazonaws.com/mnist/",
    "fashion_mnist": "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
}
_SYSTEM_FOLDERS = {"mnist": (), "fashion_mnist": ("/usr/share/datasets/fashion-mnist",)}
_AMAT_URL = "http://www.cs.toronto.edu/~larocheh/public/datasets/binarized_mnist/"


@dataclass(frozen=True, kw_only=True)
class IdxImages(Dataset):
    """Images and labels in four IDX files named as MNIST's, the valid split from its train."""

    variant: Variant
    num_valid: int = 10_000

    def decode(self, raw_dir: Path) -> dict[str, SplitData]:
        """Decode, split and (for binarised variants) draw."""
        x, labels = _read(raw_dir, "train")
        test_x, test_labels = _read(raw_dir, "t10k")
        is_valid = np.zeros(len(x), bool)
        is_valid[choose_rows(len(x), self.num_valid, VALID_SEED)] = True
        valid, train = np.flatnonzero(is_valid), np.flatnonzero(~is_valid)
        train_x, valid_x = x[train], x[valid]
        if self.variant != "gray":
            valid_x = dynamic_binarize(valid_x, valid, 0, TRAIN_FILE_DRAW_SEED)
            test_x = dynamic_binarize(test_x, np.arange(len(test_x)), 0, TEST_FILE_DRAW_SEED)
        if self.variant == "static":
            train_x = dynamic_binarize(train_x, train, 0, TRAIN_FILE_DRAW_SEED)
        return {
            "train": SplitData(
                train_x, labels[train], "bernoulli" if self.variant == "dynamic" else None
            ),
            "valid": SplitData(valid_x, labels[valid]),
            "test": SplitData(test_x, test_labels),
        }


def _read(raw_dir: Path, part: str) -> tuple[np.ndarray, np.ndarray]:
    # after headers of 4 bytes and 4 a dimension
    x = np.fromfile(raw_dir / f"{part}-images-idx3-ubyte", np.uint8, offset=16)
    labels = np.fromfile(raw_dir / f"{part}-labels-idx1-ubyte", np.uint8, offset=8)
    return x.reshape(-1, 1, 28, 28), labels.astype(np.int64)


@dataclass(frozen=True, kw_only=True)
class BinarizedMnist(Dataset):
    """Three .amat files: rows of 784 bits separated by spaces."""

    def decode(self, raw_dir: Path) -> dict[str, SplitData]:
        """Decode the published split."""
        splits = {}
        for split, file in zip(SPLITS, self.files, strict=True):
            bits = pd.read_csv(raw_dir / file.name, sep=" ", header=None, dtype=np.uint8)
            splits[split] = SplitData(bits.to_numpy().reshape(-1, 1, 28, 28))
        return splits


_VARIANTS: dict[Variant, tuple[str, str]] = {  # suffixes of names, and protocols
    "gray": ("", "gray levels 0-255"),
    "static": (
        "_static_binarized",
        "binarised by one Bernoulli(gray/255) draw, seeds 1 (train file) and 2 (test file)",
    ),
    "dynamic": (
        "_dynamic_binarized",
        "train gray, drawn from Bernoulli(gray/255) by (seed, epoch, index) when read; valid and "
        "test binarised by one draw, seeds 1 (train file) and 2 (test file)",
    ),
}


def _build(family: str, name: str, variant: Variant, settings: Mapping[str, object]) -> Dataset:
    url = _URLS[family]
    return IdxImages(
        name=name,
        family=family,
        event=Levels(256, (1, 28, 28)) if variant == "gray" else Binary((1, 28, 28)),
        num_classes=10,
        unit="bits_per_dim" if variant == "gray" else "nats",
        files=listed_files(FILES, family),
        provenance=(
            f"{url}; valid = 10000 of the 60000 training rows, chosen by seed {VALID_SEED}; "
            f"{_VARIANTS[variant][1]}"
        ),
        options=parse_options(Options, name, settings),
        published_name="mnist_dynamic_binarized" if name == "mnist_dynamic_binarized" else None,
        system_folders=_SYSTEM_FOLDERS[family],
        variant=variant,
    )


def _binarized_mnist(settings: Mapping[str, object]) -> Dataset:
    return BinarizedMnist(
        name="binarized_mnist",
        event=Binary((1, 28, 28)),
        unit="nats",
        files=listed_files(FILES, "binarized_mnist"),
        provenance=f"{_AMAT_URL}; fixed binarisation, published split 50000/10000/10000",
        options=parse_options(Options, "binarized_mnist", settings),
        published_name="binarized_mnist",
        by_class=True,
    )


DATASETS: dict[str, Callable[[Mapping[str, object]], Dataset]] = {
    family + suffix: partial(_build, family, family + suffix, variant)
    for family in _URLS
    for variant, (suffix, _) in _VARIANTS.items()
}
DATASETS["binarized_mnist"] = _binarized_mnist
