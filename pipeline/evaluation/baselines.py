"""What codecs and simple models need for a dataset's test rows: `codecs/<dataset>.json`."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np

from arcore.events import Levels, is_levels
from pipeline.core import paths
from pipeline.core.errors import require
from pipeline.core.records import write_object
from pipeline.data import shard_reader
from pipeline.data.manifest import Manifest, read_manifest
from pipeline.datasets import catalog
from pipeline.datasets.base import Sound
from pipeline.datasets.read_transforms import draw, dynamic_binarize, permute_rows
from pipeline.evaluation import image_codecs, sound_baselines, video_codecs
from pipeline.evaluation.result_records import CodecMeasurements, CodecResult

log = logging.getLogger(__name__)
Libraries = dict[str, str | None]  # versions by name


def write(dataset: str) -> Path:
    """Measure every codec on all test images, sounds or clips and write `codecs/<dataset>.json`.

    Raises:
        UserError: for an unknown dataset, or missing or damaged shards.
    """
    catalog.load_config(dataset)
    manifest = read_manifest(paths.shards(dataset))
    libraries, codecs = _measure(manifest)
    measured = CodecMeasurements(
        dataset=dataset,
        dataset_sha256=manifest.sha256,
        split="test",
        unit=manifest.unit,
        libraries=libraries,
        codecs=tuple(codecs),
    )
    for one in measured.codecs:
        log.info("%s: %s %.4f bits/dim", dataset, one.label, one.score.bits_per_dim)
    if not measured.codecs:
        log.info("%s: no images, sounds or clips, no codecs", dataset)
    path = paths.codecs(dataset)
    path.parent.mkdir(exist_ok=True)
    write_object(path, measured.to_dict())
    return path


def _measure(manifest: Manifest) -> tuple[Libraries, list[CodecResult]]:
    """Return the versions of libraries, and what was measured with them."""
    event, rows = manifest.event, manifest.splits["test"].rows
    if image_codecs.applies(event) or video_codecs.applies(event):
        require(rows > 1, f"{manifest.dataset}: test rows", "two or more, for an error", rows)
    if image_codecs.applies(event):
        return image_codecs.libraries(), _of_images(manifest.dataset, event)
    if video_codecs.applies(event):
        return video_codecs.libraries(), _of_clips(manifest, event)
    if manifest.sound is not None and is_levels(event):
        return sound_baselines.libraries(), _of_sounds(manifest.dataset, event, manifest.sound)
    return {}, []


def _of_images(dataset: str, event: Levels) -> list[CodecResult]:
    test = shard_reader.read_split(paths.shards(dataset), "test")
    images = test.x
    if test.read_transform is not None:  # the fixed draw on which models are evaluated
        images = dynamic_binarize(images, np.arange(len(images)), 0, 0)
    if _by_class(dataset, test.labels):  # else tenths, which give a mosaic's error, were a class
        images = images[permute_rows(len(images), seed=0)]
    return image_codecs.measure_all(images, event)


def _by_class(dataset: str, labels: np.ndarray | None) -> bool:
    if labels is None or labels.ndim != 1:
        config = catalog.load_config(dataset)  # files of one's own are not read again for this
        return "kind" not in config and catalog.get_dataset(config).by_class
    return labels[0] != labels[-1] and bool((np.diff(labels) >= 0).all())


def _of_clips(manifest: Manifest, event: Levels) -> list[CodecResult]:
    test = shard_reader.read_split(paths.shards(manifest.dataset), "test")
    rows = np.arange(len(test.x))
    clips = draw(test.read_transform, test.x, event, rows, 0, 0, test.x)
    return video_codecs.measure_all(clips, event, manifest.context_frames)


def _of_sounds(dataset: str, event: Levels, sound: Sound) -> list[CodecResult]:
    splits = [shard_reader.read_split(paths.shards(dataset), split) for split in catalog.SPLITS]
    described = catalog.get_dataset(catalog.load_config(dataset))
    return sound_baselines.measure(described, event, sound, *splits)
