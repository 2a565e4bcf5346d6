"""What codecs and simple models need for a dataset's test rows: `codecs/<dataset>/codecs.json`."""

from pathlib import Path

import numpy as np

from arcore.events import is_levels
from pipeline import stage
from pipeline.artifacts import artifact
from pipeline.artifacts.writer import Work
from pipeline.core import paths
from pipeline.core.errors import require
from pipeline.core.records import write_object
from pipeline.data import shard_reader
from pipeline.data.manifest import Manifest, read_manifest
from pipeline.data.shard_reader import ShardReader
from pipeline.datasets import base, catalog
from pipeline.datasets.base import SplitData
from pipeline.datasets.read_transforms import draw, dynamic_binarize, permute_rows
from pipeline.evaluation import column_baselines, image_codecs, sound_codecs, video_codecs
from pipeline.evaluation.result_records import CodecMeasurements, CodecResult
from pipeline.stage import Made

Libraries = dict[str, str | None]  # versions by name


def write(dataset: str) -> Path:
    """Measure all codecs and simple models on all test rows; write `codecs/<dataset>/`."""
    output = artifact.codecs(dataset)

    def make(work: Work) -> Made[Path]:
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
        measured.check(dataset)
        write_object(work.folder / output.kind.main, measured.to_dict())
        said = []
        for one in measured.codecs:
            value, error = one.score.in_unit(manifest.unit, manifest.event)
            said.append(f"{dataset}: {one.label} {value:.4f} +- {error:.4f} {manifest.unit}")
        return Made(output.folder, said or [f"{dataset}: no codec or simple model applies"])

    return stage.run(output, make)


def _measure(manifest: Manifest) -> tuple[Libraries, list[CodecResult]]:
    """Return the versions of libraries, and what was measured with them."""
    event, shards = manifest.event, paths.shards(manifest.dataset)
    images, clips = image_codecs.applies(event), video_codecs.applies(event)
    if column_baselines.applies(manifest):
        train_rows, test = ShardReader(shards, "train"), shard_reader.read_split(shards, "test")
        _require_two(manifest, test)
        blocks = [np.arange(block.start, block.stop) for block in train_rows.blocks]
        return {}, column_baselines.measure_all(
            event, lambda: (train_rows[rows].x for rows in blocks), test.x
        )
    if not (is_levels(event) and (images or clips or manifest.sound is not None)):
        return {}, []
    train, valid, test = (shard_reader.read_split(shards, split) for split in base.SPLITS)
    _require_two(manifest, test)
    if images:
        found = image_codecs.measure_all(_images(manifest.dataset, test), event)
        return image_codecs.libraries(), found
    if clips:
        rows = np.arange(len(test.x))
        drawn = draw(test.read_transform, test.x, event, rows, 0, 0, test.x)
        found = video_codecs.measure_all(drawn, event, manifest.context_frames)
        return video_codecs.libraries(), found
    assert manifest.sound is not None
    dataset = catalog.get_dataset(catalog.load_settings(manifest.dataset))
    found = sound_codecs.measure_all(dataset, event, manifest.sound, train, valid, test)
    return sound_codecs.libraries(), found


def _require_two(manifest: Manifest, test: SplitData) -> None:
    require(len(test.x) > 1, f"{manifest.dataset}: test rows", "two or more, for an error", 1)


def _images(dataset: str, test: SplitData) -> np.ndarray:
    images = test.x
    if test.read_transform is not None:  # the fixed draw on which models are evaluated
        images = dynamic_binarize(images, np.arange(len(images)), 0, 0)
    if _by_class(dataset, test.labels):  # else tenths, which give a mosaic's error, were a class
        images = images[permute_rows(len(images), seed=0)]
    return images


def _by_class(dataset: str, labels: np.ndarray | None) -> bool:
    if labels is None or labels.ndim != 1:
        config = catalog.load_settings(dataset)  # files of one's own are not read again for this
        return "kind" not in config and catalog.get_dataset(config).by_class
    return labels[0] != labels[-1] and bool((np.diff(labels) >= 0).all())
