"""Datasets of the user's own, as a conf file would describe them, and their shards."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pipeline.data import preprocessing, shard_reader
from pipeline.datasets import catalog
from pipeline.datasets.base import SPLITS, Dataset


def own(kind: str, **options: Any) -> Dataset:
    return catalog.get_dataset({"name": "mine", "kind": kind, **options})


def shards(dataset: Dataset) -> dict[str, Any]:
    folder = preprocessing.write(dataset, dataset.decode(Path()), Path("shards"))
    return {split: shard_reader.read_split(folder, split) for split in SPLITS}
