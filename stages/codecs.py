"""Stage `codecs`: what codecs need for a dataset's test images, and simple models for sounds.

Writes codecs/<dataset>.json, without measurements for a dataset of neither.

Example: python -m stages.codecs cifar10_4k
"""

from __future__ import annotations

import argparse
import json
import logging
import os
from pathlib import Path
from typing import Any

import numpy as np

from arcore.events import Levels
from pipeline.core import paths
from pipeline.data import shard_reader
from pipeline.datasets import catalog
from pipeline.evaluation import image_codecs, sound_baselines
from stages import cli

log = logging.getLogger(__name__)


def main() -> None:
    """Parse the command line and measure."""
    parser = argparse.ArgumentParser(
        prog="python -m stages.codecs",
        description="Measure codecs on a dataset's test images, or baselines on its sounds.",
    )
    parser.add_argument("dataset", help="name of a dataset that is preprocessed")
    write(parser.parse_args().dataset)


def write(dataset: str) -> Path:
    """Measure every codec on all test images or sounds and write `codecs/<dataset>.json`.

    Raises:
        UserError: for missing or damaged shards, or a library without one of the codecs.
    """
    manifest = shard_reader.read_manifest(paths.shards(dataset))
    measured: list[dict[str, Any]] = []
    described = {
        "dataset": dataset,
        "dataset_sha256": manifest.sha256,
        "split": "test",
        "unit": manifest.unit,
        "libraries": image_codecs.libraries(),
        "codecs": measured,
    }
    event = manifest.event
    if isinstance(event, Levels) and image_codecs.applies(event):
        image_codecs.require()
        test = shard_reader.read_split(paths.shards(dataset), "test")
        images = test.x
        if test.binarize is not None:  # the fixed draw on which models are evaluated
            images = shard_reader.dynamic_binarize(images, np.arange(len(images)), 0, 0)
        for codec in image_codecs.CODECS.values():
            measured.append(image_codecs.measure(codec, images, event))
            log.info("%s: %s %.4f bits/dim", dataset, codec.label, measured[-1]["bits_per_dim"])
    elif isinstance(event, Levels) and manifest.sound is not None:
        splits = [shard_reader.read_split(paths.shards(dataset), split) for split in catalog.SPLITS]
        described_by = catalog.get_dataset(catalog.load_config(dataset))
        measured += sound_baselines.measure(described_by, event, manifest.sound, *splits)
        for one in measured:
            log.info("%s: %s %.4f bits/dim", dataset, one["label"], one["bits_per_dim"])
    else:
        log.info("%s: no images, no codecs", dataset)
    path = paths.codecs(dataset)
    path.parent.mkdir(exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    partial.write_text(json.dumps(described, indent=2) + "\n")
    os.replace(partial, path)
    return path


if __name__ == "__main__":
    cli.run(main)
