"""Binary vectors of density estimation: the sets of NADE and MADE, and of tractable models.

Rows of bits separated by commas, as in the collections of UCLA's StarAI group (DNA, Mushrooms,
NIPS-0-12) and of DEBD (the others).
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
from pipeline.datasets.base import SPLITS, Dataset, SplitData, listed_files
from pipeline.datasets.options import Options, parse_options

FILES = Path(__file__).with_name("binary_vectors_files.yaml")
_GITHUB = "https://raw.githubusercontent.com/"
_STAR_AI = _GITHUB + "UCLA-StarAI/Density-Estimation-Datasets/master/datasets/"
_DEBD = _GITHUB + "arranger1044/DEBD/master/datasets/"


@dataclass(frozen=True, kw_only=True)
class DnaOptions(Options):
    """Options of dna.

    Arguments:
        split: `published` for the papers' rows, 1400/600/1186, which dna_papers_split.json lists;
            `as_distributed` for the files' 1600/400/1186. Both have the same 2,000 rows in train
            and valid together, and the same test rows.
    """

    split: Literal["published", "as_distributed"] = "published"


_OF_NADE = {"dna": 180, "mushrooms": 112, "nips": 500}
_OF_CIRCUITS = {
    "nltcs": 16,
    "plants": 69,
    "baudio": 100,
    "jester": 100,
    "bnetflix": 100,
    "accidents": 111,
    "pumsb_star": 163,
    "bbc": 1058,
    "voting": 1359,
    "moviereview": 1001,
}
_BITS = _OF_NADE | _OF_CIRCUITS
_PUBLISHED = {"nips": "nips-0-12"}  # under another name
DNA_SPLIT = Path(__file__).with_name("dna_papers_split.json")


def read_dna_split() -> dict[str, np.ndarray]:
    """Read the papers' rows of DNA: indices into the files' rows of train followed by valid."""
    recorded = json.loads(DNA_SPLIT.read_text(encoding="utf-8"))
    return {split: np.array(recorded[split], np.int64) for split in ("train", "valid")}


@dataclass(frozen=True, kw_only=True)
class BinaryVectors(Dataset):
    """One of the sets, in files `<name>.{train,valid,test}.data`."""

    def decode(self, raw_dir: Path) -> dict[str, SplitData]:
        """Decode the three files and cut train and valid."""
        parts = {}
        for split in SPLITS:
            path = raw_dir / f"{self.name}.{split}.data"
            parts[split] = pd.read_csv(path, header=None, dtype=np.uint8).to_numpy()
        if _has_papers_split(self.options):
            joined = np.concatenate([parts["train"], parts["valid"]])
            parts |= {split: joined[rows] for split, rows in read_dna_split().items()}
        return {split: SplitData(x) for split, x in parts.items()}


def _has_papers_split(options: Options) -> bool:
    return isinstance(options, DnaOptions) and options.split == "published"


def _build(name: str, settings: Mapping[str, object]) -> Dataset:
    bits, of_nade = _BITS[name], name in _OF_NADE
    files = listed_files(FILES, name)
    options = parse_options(DnaOptions if name == "dna" else Options, name, settings)
    papers_split = _has_papers_split(options)
    rows = "/".join(str(file.size // (2 * bits)) for file in files)
    protocol = f"split as distributed, {rows}"
    if papers_split:
        protocol = "split 1400/600/1186 as in the papers, by the recorded rows of " + DNA_SPLIT.name
    return BinaryVectors(
        name=name,
        family="uci_binary" if of_nade else "binary_sets",
        event=Binary((bits,)),
        unit="nats",
        files=files,
        provenance=f"{_STAR_AI if of_nade else _DEBD}{name}; {protocol}",
        options=options,
        # not of dna as distributed, which has other training rows than the papers'
        published_name=_PUBLISHED.get(name, name) if papers_split or name != "dna" else None,
    )


DATASETS = {name: partial(_build, name) for name in _BITS}
