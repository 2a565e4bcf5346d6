"""Codecs: round trips, what is counted, and the file that the report reads."""

from __future__ import annotations

import dataclasses
import io
import json
import math
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from arcore.events import Binary, Levels, Real
from pipeline.data import preprocessing
from pipeline.data.manifest import read_manifest
from pipeline.datasets import catalog
from pipeline.datasets.base import SplitData
from pipeline.datasets.read_transforms import dynamic_binarize
from pipeline.evaluation import baselines, image_codecs
from stages import codecs as stage

EVENTS = [
    Levels(256, (3, 32, 32)),
    Levels(256, (1, 28, 28)),
    Levels(17, (1, 8, 8)),
    Levels(17, (3, 5, 7)),
    Binary((1, 28, 28)),
    Binary((1, 5, 7)),
    Binary((3, 4, 4)),
    Levels(256, (1, 1, 1)),
]


def images(event: Levels, rows: int = 4) -> np.ndarray:
    """Noise, a ramp, all zeros and all of the highest level."""
    rng = np.random.default_rng(0)
    x = rng.integers(0, event.num_levels, (rows, *event.extents), dtype=np.uint8)
    x[1] = np.arange(event.size).reshape(event.shape) % event.num_levels
    x[2], x[3] = 0, event.num_levels - 1
    return x


def codecs_of(event: Levels) -> list[image_codecs.ImageCodec]:
    return [codec for codec in image_codecs.CODECS.values() if codec.applies(event)]


@pytest.mark.parametrize("event", EVENTS, ids=str)
def test_round_trip(event: Levels) -> None:
    assert image_codecs.applies(event)
    for codec in codecs_of(event):
        for image in images(event):
            data = codec.encode(image, event)
            decoded = codec.decode(data, event)
            assert decoded.dtype == np.uint8 and decoded.shape == event.shape
            np.testing.assert_array_equal(decoded, image)
            assert codec.encode(image, event) == data, "the same bytes each time"


def test_every_byte_counts() -> None:
    event = Levels(256, (3, 8, 8))
    x = images(event)
    for codec in codecs_of(event):
        measured = image_codecs.measure(codec, x, event)
        sizes = [len(codec.encode(image, event)) for image in x]
        bits = np.array(sizes) * 8 / event.size
        assert measured.bytes == sum(sizes) and measured.num_rows == 4
        score = measured.score
        assert score.bits_per_dim == pytest.approx(bits.mean())
        assert score.bits_per_dim_stderr == pytest.approx(bits.std(ddof=1) / 2)
        assert score.nats == pytest.approx(np.mean(sizes) * 8 * math.log(2))
        assert score.nats_stderr / score.nats == pytest.approx(
            score.bits_per_dim_stderr / score.bits_per_dim
        )


def test_a_mosaic_is_one_file_of_all_images_and_its_error_that_of_tenths() -> None:
    event, codec = Binary((1, 6, 4)), image_codecs.CODECS["group4"]
    x = images(event, 33)
    picture = image_codecs.mosaic(x)
    assert picture.shape == (1, 36, 24)
    np.testing.assert_array_equal(picture[0, 6:12, 4:8], x[7, 0])
    assert not picture[0, 30:, 12:].any()
    measured = image_codecs.measure_together(codec, x, event)
    size = len(codec.encode(picture, Binary(picture.shape)))
    assert measured.bytes == size and measured.num_rows == 33
    assert measured.score.nats == pytest.approx(size / 33 * 8 * math.log(2))
    assert measured.label == "CCITT G4 as one mosaic (Pillow, measured here)"
    tenths = np.array_split(x, 10)
    costs = [image_codecs.measure_together(codec, t, event).score.nats for t in tenths]
    assert measured.score.nats_stderr == pytest.approx(np.std(costs, ddof=1) / math.sqrt(10))


def test_a_mosaic_too_large_for_a_codec_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    event = Levels(256, (1, 8, 8))
    webp = dataclasses.replace(image_codecs.CODECS["webp"], longest=31)
    monkeypatch.setattr(image_codecs, "CODECS", {"webp": webp})
    for count, measured in ((9, 2), (10, 1)):  # mosaics of 24 and of 32 pixels
        assert len(image_codecs.measure_all(images(event, count), event)) == measured


def test_a_codec_that_loses_something_is_caught() -> None:
    event = Levels(256, (3, 8, 8))

    def encode(image: np.ndarray, event: Levels) -> bytes:
        file = io.BytesIO()
        Image.fromarray(np.ascontiguousarray(image.transpose(1, 2, 0))).save(file, "WEBP")
        return file.getvalue()

    png = image_codecs.CODECS["png"]
    lossy = image_codecs.ImageCodec(label="lossy", settings="", encode=encode, decode=png.decode)
    with pytest.raises(RuntimeError, match="lossy: test image 0 did not come back as it was"):
        image_codecs.measure(lossy, images(event), event)


def test_other_events_have_no_codecs() -> None:
    shapes = [(2, 8, 8), (64,), (20, 1, 8, 8), (1, None, 8)]
    others = [Levels(257, (1, 8, 8)), Real((1, 8, 8)), *(Levels(256, shape) for shape in shapes)]
    assert not any(map(image_codecs.applies, others))


def test_the_stage_measures_all_test_images(workdir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = catalog.get_dataset({"name": "digits"})
    splits = {
        name: SplitData(split.x[:30], split.labels[:30], split.read_transform)
        for name, split in dataset.decode(workdir).items()
    }
    preprocessing.write(dataset, splits, Path("data/shards/digits"))
    monkeypatch.setattr(sys, "argv", ["codecs", "digits"])
    stage.main()
    path = workdir / "codecs/digits.json"
    written = path.read_bytes()
    described = json.loads(written)
    manifest = read_manifest("data/shards/digits")
    assert described["dataset_sha256"] == manifest.sha256 and described["split"] == "test"
    assert all(described["libraries"].values())
    labels = [entry["label"] for entry in described["codecs"]]
    assert len(labels) == 7 and all("measured here" in label for label in labels)
    assert sum("as one mosaic" in label for label in labels) == 3
    assert {entry["num_rows"] for entry in described["codecs"]} == {30}
    stage.main()
    assert path.read_bytes() == written
    assert [found.name for found in path.parent.iterdir()] == ["digits.json"]


def test_what_is_no_image_has_no_measurements(workdir: Path) -> None:
    dataset = catalog.get_dataset({"name": "dna"})
    x = np.random.default_rng(0).integers(0, 2, (3, 180), dtype=np.uint8)
    splits = dict.fromkeys(catalog.SPLITS, SplitData(x))
    preprocessing.write(dataset, splits, Path("data/shards/dna"))
    assert json.loads(baselines.write("dna").read_text())["codecs"] == []


def test_rows_to_be_drawn_are_measured_as_they_are_evaluated(workdir: Path) -> None:
    dataset = catalog.get_dataset({"name": "mnist_dynamic_binarized"})
    rng = np.random.default_rng(0)
    gray = rng.integers(0, 256, (5, 1, 28, 28), dtype=np.uint8)
    splits = dict.fromkeys(catalog.SPLITS, SplitData(gray, rng.integers(0, 10, 5), "bernoulli"))
    preprocessing.write(dataset, splits, Path("data/shards/mnist_dynamic_binarized"))
    measured = json.loads(baselines.write("mnist_dynamic_binarized").read_text())["codecs"]
    event = Binary((1, 28, 28))
    drawn = dynamic_binarize(gray, np.arange(5), 0, 0)
    assert measured == [one.to_dict() for one in image_codecs.measure_all(drawn, event)]


@pytest.mark.parametrize(
    ("dataset", "labels", "moved"),
    [
        ("digits", [0, 0, 1, 1, 2], True),
        ("digits", [0, 1, 0, 1, 2], False),
        ("digits", [1] * 5, False),
        ("digits", None, False),
        ("binarized_mnist", None, True),  # its published test rows are sorted, and have no labels
    ],
)
def test_a_mosaic_of_images_sorted_by_class_is_mixed(
    workdir: Path, monkeypatch, dataset: str, labels: list[int] | None, moved: bool
) -> None:
    x = np.random.default_rng(0).integers(0, 17, (5, 1, 8, 8), dtype=np.uint8)
    split = SplitData(x, None if labels is None else np.array(labels))
    monkeypatch.setattr(baselines.shard_reader, "read_split", lambda *_: split)
    monkeypatch.setattr(baselines.image_codecs, "measure_all", lambda images, event: images)
    measured = baselines._of_images(dataset, Levels(17, (1, 8, 8)))
    assert np.array_equal(measured, x) != moved
    assert np.array_equal(np.sort(measured, 0), np.sort(x, 0))
