"""Binary vectors on which NADE and MADE were reported: DNA, Mushrooms and NIPS-0-12.

Rows of bits separated by commas, as in the density estimation collection of UCLA's StarAI group.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd

from arcore.events import Binary
from pipeline.datasets.base import SPLITS, Dataset, RawFile, SplitData
from pipeline.datasets.options import Options, parse_options

_URL = "https://raw.githubusercontent.com/UCLA-StarAI/Density-Estimation-Datasets/master/datasets/"


@dataclass(frozen=True, kw_only=True)
class DnaOptions(Options):
    """Options of dna.

    Arguments:
        split: `published` for the papers' rows, 1400/600/1186, which dna_papers_split.json lists;
            `as_distributed` for the files' 1600/400/1186. Both have the same 2,000 rows in train
            and valid together, and the same test rows.
    """

    split: Literal["published", "as_distributed"] = "published"


@dataclass(frozen=True)
class _Spec:
    bits: int
    rows: tuple[int, int, int]
    sums: tuple[str, str, str]
    published_name: str


_SPECS = {
    "dna": _Spec(
        180,
        (1600, 400, 1186),
        (
            "bb8de0ca4b6ad9b610036b7a302962ebecd4b504354b14c02c7d0bee48d207d9",
            "4b0fc89cda5eaf5c75926e281afb6af99de194a546070d5b81b524ba251f4f3f",
            "fec3ae7b26804020a9c43c99828441c5e08bb76b23719368a74ad2b09af99100",
        ),
        "dna",
    ),
    "mushrooms": _Spec(
        112,
        (2000, 500, 5624),
        (
            "465c712c066bbbee3ccceded24bbe42b4c379df67b524e28cce9bf3a8b83f27b",
            "5a067e6854df71623415e6adc8e913cbff766637a324788882ba800907aa5385",
            "313c5f04b5d0a18bee2f2ffa264be265d09f5362aad6f714637acd9552f81aa0",
        ),
        "mushrooms",
    ),
    "nips": _Spec(
        500,
        (400, 100, 1240),
        (
            "4d744cb1f2c725405bff6ef6878df06eafbbc2a91f0510e0f3d8a508b05ec7bb",
            "b06acd8e6a701d63d4e58b5076c11c59bcd0343fb9b1fbb5997459d3e6b8ca96",
            "48711bdaffbd43aa439679785e19d9cc80c64a157fa84eadc5dce60ee4edf7bc",
        ),
        "nips-0-12",
    ),
}
DNA_SPLIT = Path(__file__).with_name("dna_papers_split.json")


def read_dna_split() -> dict[str, np.ndarray]:
    """Read the papers' rows of DNA: indices into the files' rows of train followed by valid."""
    recorded = json.loads(DNA_SPLIT.read_text(encoding="utf-8"))
    return {split: np.array(recorded[split], np.int64) for split in ("train", "valid")}


@dataclass(frozen=True, kw_only=True)
class UciBinary(Dataset):
    """One of the sets, in files `<name>.{train,valid,test}.data`.

    Arguments:
        papers_split: train and valid are the papers' rows, not the files' own.
    """

    papers_split: bool = False

    def decode(self, raw_dir: Path) -> dict[str, SplitData]:
        """Decode the three files and cut train and valid."""
        parts = {}
        for split in SPLITS:
            path = raw_dir / f"{self.name}.{split}.data"
            parts[split] = pd.read_csv(path, header=None, dtype=np.uint8).to_numpy()
        if self.papers_split:
            joined = np.concatenate([parts["train"], parts["valid"]])
            parts |= {split: joined[rows] for split, rows in read_dna_split().items()}
        return {split: SplitData(x) for split, x in parts.items()}


def _build(name: str, settings: Mapping[str, object]) -> Dataset:
    spec = _SPECS[name]
    files = tuple(
        RawFile(
            f"{name}.{split}.data",
            sha256,
            rows * spec.bits * 2,
            f"{_URL}{name}/{name}.{split}.data",
        )
        for split, rows, sha256 in zip(SPLITS, spec.rows, spec.sums, strict=True)
    )
    options = parse_options(DnaOptions if name == "dna" else Options, name, settings)
    papers_split = isinstance(options, DnaOptions) and options.split == "published"
    protocol = "split as distributed, {}/{}/{}".format(*spec.rows)
    if papers_split:
        protocol = "split 1400/600/1186 as in the papers, by the recorded rows of " + DNA_SPLIT.name
    return UciBinary(
        name=name,
        family="uci_binary",
        event=Binary((spec.bits,)),
        unit="nats",
        files=files,
        provenance=f"{_URL}{name}; {protocol}",
        options=options,
        # not of dna as distributed, which has other training rows than the papers'
        published_name=spec.published_name if papers_split or name != "dna" else None,
        papers_split=papers_split,
    )


DATASETS = {name: partial(_build, name) for name in _SPECS}
