"""Preprocessing: a dataset's raw files into Parquet shards, written whole or not at all."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Mapping
from pathlib import Path

from pipeline.artifacts import artifact
from pipeline.artifacts.writer import alone, writing
from pipeline.data import fetching
from pipeline.data.manifest import read_manifest, write_manifest
from pipeline.data.scalings import write_scalings
from pipeline.data.shard_reader import shards_folder
from pipeline.data.shard_writer import write_split
from pipeline.datasets.base import Dataset, SplitData, SplitStream

logger = logging.getLogger(__name__)


def preprocess(dataset: Dataset) -> Path:
    """Decode `data/raw/<dataset>` into `data/shards/<dataset>`.

    Raises:
        UserError: naming the raw file that is missing, truncated or altered.
    """
    with alone(artifact.shards(dataset.name), wait=True):
        raw = fetching.verify_raw(dataset)
        folder = write(dataset, dataset.decode(raw), shards_folder(dataset.name))
        manifest = read_manifest(folder)
    rows = "/".join(str(manifest.splits[split].rows) for split in dataset.splits)
    names = "/".join(dataset.splits)
    logger.info("%s: %s rows of %s in %s", dataset.name, rows, names, folder)
    return folder


def write(dataset: Dataset, splits: Mapping[str, SplitData | SplitStream], folder: Path) -> Path:
    """Write shards and manifest; `folder` appears, or is replaced, only when they are whole.

    Arguments:
        dataset: describes the rows.
        splits: train, valid, test and further tests; of a stream, the rows of a shard are in
            memory at a time.
        folder: where they go; leftovers of killed runs next to it are removed.

    Raises:
        UserError: for rows that don't fit the dataset's event or classes, or a stream of another
            number of rows than it says.
    """
    output = dataclasses.replace(artifact.shards(dataset.name), folder=folder)
    with writing(output, wait=True) as partial:
        infos = {
            split: write_split(partial, split, splits[split], dataset) for split in dataset.splits
        }
        write_manifest(dataset, infos, partial)
        write_scalings(splits["train"].scalings, partial)
    return folder
