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
from pipeline import baselines, codecs, datasets, paths, shards
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
    manifest = shards.read_manifest(paths.shards(dataset))
    measured: list[dict[str, Any]] = []
    described = {
        "dataset": dataset,
        "dataset_sha256": manifest.sha256,
        "split": "test",
        "unit": manifest.unit,
        "libraries": codecs.libraries(),
        "codecs": measured,
    }
    event = manifest.event
    if isinstance(event, Levels) and codecs.applies(event):
        codecs.require()
        test = shards.read_split(paths.shards(dataset), "test")
        images = test.x
        if test.binarize is not None:  # the fixed draw on which models are evaluated
            images = shards.dynamic_binarize(images, np.arange(len(images)), 0, 0)
        for codec in codecs.CODECS.values():
            measured.append(codecs.measure(codec, images, event))
            log.info("%s: %s %.4f bits/dim", dataset, codec.label, measured[-1]["bits_per_dim"])
    elif isinstance(event, Levels) and manifest.sound is not None:
        splits = [shards.read_split(paths.shards(dataset), split) for split in datasets.SPLITS]
        described_by = datasets.get_dataset(datasets.load_config(dataset))
        measured += baselines.measure(described_by, event, manifest.sound, *splits)
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
