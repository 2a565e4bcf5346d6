"""MNIST in the fixed binarisation of Salakhutdinov and Murray, as Larochelle published it.

Its train and valid parts are a shuffle of MNIST's 60,000 rows; its test part is sorted by class.
The sums are those that TensorFlow Datasets records for the published files.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from arcore.events import Binary
from pipeline.datasets.base import Dataset, RawFile, SplitData
from pipeline.datasets.formats.text_and_idx import check_rows, read_bits
from pipeline.datasets.options import Options, parse_options

_URL = "http://www.cs.toronto.edu/~larocheh/public/datasets/binarized_mnist/"
_SUMS = {
    "train": "ad693b29f94c14277b095f5238ddefbbdaaae0939789dd2f4f0205278cee3e4d",
    "valid": "1de3d397c40fe8eeb33dafd4099a1f665ec01e96d9be234aaeeac8a34930e2e2",
    "test": "e6687bfea3f820c174f33b7865140b2a2dd2930ef786f35d45795fc193b5ab2c",
}
_ROWS = {"train": 50_000, "valid": 10_000, "test": 10_000}


def _file_name(split: str) -> str:
    return f"binarized_mnist_{split}.amat"


@dataclass(frozen=True, kw_only=True)
class BinarizedMnist(Dataset):
    """The three .amat files: rows of 784 bits separated by spaces."""

    def decode(self, raw_dir: Path) -> dict[str, SplitData]:
        """Decode the published split."""
        splits = {}
        for split, rows in _ROWS.items():
            path = raw_dir / _file_name(split)
            bits = read_bits(path, 784, " ")
            check_rows(path, len(bits), rows)
            splits[split] = SplitData(bits.reshape(-1, 1, 28, 28))
        return splits


def _build(config: Mapping[str, object]) -> Dataset:
    return BinarizedMnist(
        name="binarized_mnist",
        family="binarized_mnist",
        event=Binary((1, 28, 28)),
        unit="nats",
        files=tuple(
            RawFile(_file_name(split), _SUMS[split], rows * 784 * 2, _URL + _file_name(split))
            for split, rows in _ROWS.items()
        ),
        provenance=f"{_URL}; fixed binarisation, published split 50000/10000/10000",
        options=parse_options(Options, "binarized_mnist", config),
        published_name="binarized_mnist",
        by_class=True,
    )


DATASETS = {"binarized_mnist": _build}
