"""Codecs and baselines of columns: round trips, what is counted, and the stage's output."""

import dataclasses
import json
import math
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import scipy.stats
from PIL import Image

from arcore.columns import Column
from arcore.events import Binary, Gray, Levels, Real, Table
from pipeline.core import paths
from pipeline.core.errors import UserError
from pipeline.data import fetching, preprocessing, shard_reader
from pipeline.data.manifest import read_manifest
from pipeline.datasets import base, catalog
from pipeline.datasets.base import Sound, SplitData
from pipeline.datasets.read_transforms import dynamic_binarize
from pipeline.evaluation import (
    baselines,
    column_baselines,
    image_codecs,
    sound_codecs,
    video_codecs,
)
from pipeline.evaluation.lossless_codec import LosslessCodec
from pipeline.evaluation.reading import read_codecs
from pipeline.evaluation.result_records import CodecResult
from pipeline.evaluation.scoring import ChosenRows
from pipeline.evaluation.video_codecs import X264, ffmpeg
from stages import codecs as stage
from tests.support.refusals import raising

IMAGES = [
    Levels(256, (3, 32, 32)), Levels(256, (1, 28, 28)), Levels(17, (1, 8, 8)),
    Levels(17, (3, 5, 7)), Binary((1, 28, 28)), Binary((1, 5, 7)), Binary((3, 4, 4)),
    Levels(256, (1, 1, 1)),
]  # fmt: skip
CLIPS = [
    Levels(16, (4, 3, 32, 32)), Levels(256, (5, 1, 33, 35)), Levels(256, (3, 3, 17, 19)),
    Binary((6, 1, 16, 16)),
]  # fmt: skip
PNG, H264 = image_codecs.CODECS["png"], video_codecs.CODECS["h264"]
SOUNDS = sound_codecs.codecs_of(Sound(8000, 8, 0, ("",), ()))
CASES = [
    *((codec, event) for event in IMAGES for codec in image_codecs.CODECS.values()),
    *((codec, event) for event in CLIPS for codec in video_codecs.CODECS.values()),
    *((codec, Levels(k, (300,))) for k in (16, 256) for codec in SOUNDS),
]


def rows_of(event: Levels, rows: int = 4) -> np.ndarray:
    """Noise, of clips one that moves; a ramp, all zeros and all of the highest level."""
    rng = np.random.default_rng(0)
    x = rng.integers(0, event.num_levels, (rows, *event.extents), dtype=np.uint8)
    if len(event.shape) == 4:
        for t in range(event.extents[0]):
            x[0, t] = np.roll(x[0, 0], -t, axis=-1)
    x[1] = np.arange(event.size).reshape(event.shape) % event.num_levels
    x[2], x[3] = 0, event.num_levels - 1
    return x


@pytest.mark.parametrize(
    ("codec", "event"),
    [case for case in CASES if case[0].applies(case[1])],
    ids=lambda one: one.label.split(" (")[0] if isinstance(one, LosslessCodec) else str(one),
)
def test_a_round_trip(codec: LosslessCodec, event: Levels) -> None:
    for x in rows_of(event):
        parts = codec.encode(x, event)
        decoded = codec.decode(parts, event)
        assert decoded.dtype in (np.uint8, np.int16) and decoded.shape == event.shape
        np.testing.assert_array_equal(decoded, x)
        assert codec.encode(x, event) == parts, "the same bytes each time"
        for count in range(1, len(parts) - 1):  # each frame comes from those before it
            np.testing.assert_array_equal(codec.decode(parts[: 1 + count], event), x[:count])


@pytest.mark.parametrize(
    ("codec", "event", "given"),
    [(codec, IMAGES[0], 0) for codec in image_codecs.CODECS.values() if codec.applies(IMAGES[0])]
    + [(codec, CLIPS[0], given) for codec in video_codecs.CODECS.values() for given in (0, 2)],
)
def test_every_byte_counts_but_those_of_given_frames(
    codec: LosslessCodec, event: Levels, given: int
) -> None:
    x = rows_of(event)
    streams = [codec.encode(row, event) for row in x]
    sizes = [sum(map(len, [first, *packets[given:]])) for first, *packets in streams]
    measured = codec.measure(x, event, given)
    bits = np.array(sizes) * 8 / (event.size if not given else event.size / 2)
    score = measured.score
    assert measured.bytes == sum(sizes) and measured.num_rows == 4
    assert score.bits_per_dim == pytest.approx(bits.mean())
    assert score.bits_per_dim_stderr == pytest.approx(bits.std(ddof=1) / 2)
    assert score.nats == pytest.approx(np.mean(sizes) * 8 * math.log(2))
    assert score.nats_stderr == pytest.approx(np.std(sizes, ddof=1) / 2 * 8 * math.log(2))
    if len(event.shape) == 4:
        head, *packets = codec.encode(x.reshape(16, *x.shape[2:]), event)
        counted = [len(packets[at]) for at in range(16) if at % 4 >= given]
        together = video_codecs.measure_together(codec, x, event, given)
        assert together.bytes == len(head) + sum(counted)
        assert together.label == codec.label.replace(" (", " as one stream (", 1)


def test_a_mosaic_is_one_file_of_all_images_and_its_error_that_of_tenths() -> None:
    event, codec = Binary((1, 6, 4)), image_codecs.CODECS["group4"]
    x = rows_of(event, 33)
    picture = image_codecs.mosaic(x)
    assert picture.shape == (1, 36, 24)
    np.testing.assert_array_equal(picture[0, 6:12, 4:8], x[7, 0])
    assert not picture[0, 30:, 12:].any()
    measured = image_codecs.measure_together(codec, x, event)
    (data,) = codec.encode(picture, Binary(picture.shape))
    assert measured.bytes == len(data) and measured.num_rows == 33
    assert measured.score.nats == pytest.approx(len(data) / 33 * 8 * math.log(2))
    assert measured.label == "CCITT G4 as one mosaic (Pillow, measured here)"
    tenths = np.array_split(x, 10)
    costs = [image_codecs.measure_together(codec, t, event).score.nats for t in tenths]
    assert measured.score.nats_stderr == pytest.approx(np.std(costs, ddof=1) / math.sqrt(10))


def test_a_mosaic_too_large_for_a_codec_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    event = Levels(256, (1, 8, 8))
    webp = dataclasses.replace(image_codecs.CODECS["webp"], longest=31)
    monkeypatch.setattr(image_codecs, "CODECS", {"webp": webp})
    for count, measured in ((9, 2), (10, 1)):  # mosaics of 24 and of 32 pixels
        assert len(image_codecs.measure_all(rows_of(event, count), event)) == measured


def test_what_an_encoder_says_of_itself_is_not_counted() -> None:
    event = Levels(256, (3, 3, 64, 64))
    stream = H264.encode(np.zeros(event.extents, np.uint8), event)
    assert b"x264" not in b"".join(stream) and sum(map(len, stream[1:])) < 200


LOSSY = dataclasses.replace(
    PNG, label="lossy", encode=partial(image_codecs._encode_file, kind="WEBP")
)


@pytest.mark.parametrize(
    ("codec", "event", "message"),
    [
        (LOSSY, IMAGES[0], "lossy: test row 0 did not come back as it was"),
        (ffmpeg("lossy", "qp=30 bf=0", X264), CLIPS[0], "row 0 did not come back as it was"),
        (
            ffmpeg("both ways", "crf=20 bf=3 b_strategy=0", X264), CLIPS[1],
            "both ways: frames were not coded in their order",
        ),
    ],
)  # fmt: skip
def test_a_codec_that_loses_something_or_looks_ahead_is_caught(codec, event, message) -> None:
    with pytest.raises(RuntimeError, match=message):
        codec.measure(rows_of(event), event)


def test_a_codec_that_is_not_installed_is_named_first(monkeypatch: pytest.MonkeyPatch) -> None:
    early = AssertionError("nothing is measured before")
    lacking = pa.ArrowNotImplementedError("Support for codec 'zstd' not built")
    monkeypatch.setattr(LosslessCodec, "measure", raising(early))
    Image.init()
    with monkeypatch.context() as patch:
        patch.delitem(Image.SAVE, "WEBP")
        with pytest.raises(UserError, match="^WebP lossless .*: expected a library .*, got 'WEBP'"):
            image_codecs.measure_all(rows_of(IMAGES[0]), IMAGES[0])
    with monkeypatch.context() as patch:
        patch.setattr(image_codecs.pa, "Codec", raising(lacking))
        with pytest.raises(UserError, match="^zstd .*: expected a library .* not built; install"):
            image_codecs.measure_all(rows_of(IMAGES[0]), IMAGES[0])
    unknown = ffmpeg("X", "", {1: ("none", "gray"), 3: ("none", "bgr0")})
    monkeypatch.setattr(video_codecs, "CODECS", {"x": unknown})
    with pytest.raises(UserError, match="^X: expected a library that has the codec, got none"):
        video_codecs.measure_all(rows_of(CLIPS[0]), CLIPS[0], 0)


def test_other_events_have_no_codecs() -> None:
    shapes = [(2, 8, 8), (64,), (4, 2, 8, 8), (1, None, 8)]
    others = [Levels(257, (1, 8, 8)), Levels(257, (4, 1, 8, 8)), Real((1, 8, 8))]
    others += [Gray((4, 1, 8, 8)), *(Levels(256, shape) for shape in shapes)]
    for one in others:
        assert not image_codecs.applies(one) and not video_codecs.applies(one)
    assert all(image_codecs.applies(one) and not video_codecs.applies(one) for one in IMAGES)
    assert all(video_codecs.applies(one) and not image_codecs.applies(one) for one in CLIPS)


def measured(dataset: str) -> dict:
    return json.loads((baselines.write(dataset) / "codecs.json").read_text())


def test_the_stage_measures_all_test_images(workdir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = catalog.get_dataset({"name": "digits"})
    splits = {
        name: SplitData(split.x[:30], split.labels[:30], split.read_transform)
        for name, split in dataset.decode(workdir).items()
    }
    preprocessing.write(dataset, splits, Path("data/shards/digits"))
    monkeypatch.setattr(sys, "argv", ["codecs", "digits"])
    stage.main()
    path = workdir / "codecs/digits/codecs.json"
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
    assert {found.name for found in path.parent.iterdir()} == {"codecs.json", "artifact.json"}
    path.write_bytes(written.replace(b'"bytes": ', b'"bytes": 1'))
    with pytest.raises(UserError, match="codecs.json: expected the file that was written"):
        read_codecs(manifest)


def test_clips_are_measured_as_they_are_evaluated(workdir: Path) -> None:
    name = "moving_digits_binary"
    dataset = catalog.get_dataset({"name": name})
    fetching.fetch(dataset)
    decoded = dataset.decode(paths.raw(dataset.family))
    few = {
        split: dataclasses.replace(data, x=data.x[:4], labels=None)
        for split, data in decoded.items()
    }
    preprocessing.write(dataset, few, paths.shards(name))
    assert set(measured(name)["libraries"]) == {"av", "libavcodec"}
    manifest = read_manifest(paths.shards(name))
    test = shard_reader.read_split(paths.shards(name), "test")
    drawn = ChosenRows.of(test, 1).events(manifest.event)
    expected = video_codecs.measure_all(drawn, manifest.event, manifest.context_frames)
    assert expected[0].num_rows == 4
    assert set(read_codecs(manifest)) == set(expected)


def test_vectors_have_baselines_of_columns(workdir: Path) -> None:
    dataset = catalog.get_dataset({"name": "dna"})
    x = np.zeros((3, 180), np.uint8)
    splits = dict.fromkeys(base.SPLITS, SplitData(x))
    preprocessing.write(dataset, splits, Path("data/shards/dna"))
    (found,) = measured("dna")["codecs"]
    assert (found["label"], found["kind"]) == ("independent columns", "baseline")
    assert found["nats"] == pytest.approx(180 * np.log(5 / 4)), "3 of 3 rows, and 1 of 2 levels"
    assert set(read_codecs(read_manifest("data/shards/dna"))) == {CodecResult.from_dict(found, "")}


def test_baselines_of_columns_are_those_of_scipy() -> None:
    rng = np.random.default_rng(0)
    mix = np.array([[2.0, 1.5, 0, 0], [0, 0.1, 0, 0], [0, 0, 30, 3], [0, 0, 0, 1]])
    train, test = (rng.normal(5, 1, (n, 4)) @ mix for n in (200, 50))
    names = [rng.integers(0, 3, (n, 1)) for n in (200, 50)]
    columns = [Column(name=str(i)) for i in range(4)] + [Column(name="k", levels=3)]
    event, x = Table(columns), np.concatenate([train, names[0]], 1)
    found = column_baselines.measure_all(
        event, lambda: np.array_split(x, 3), np.concatenate([test, names[1]], 1)
    )
    table = (np.bincount(names[0][:, 0]) + 1) / 203
    of_names = -np.log(table[names[1][:, 0]])
    mean, deviation = train.mean(0), train.std(0)
    joint = scipy.stats.multivariate_normal(mean, np.cov(train.T, ddof=0))
    expected = {
        "independent columns": -scipy.stats.norm(mean, deviation).logpdf(test).sum(1) + of_names,
        "one Gaussian": -joint.logpdf(test) + of_names,
    }
    assert [one.label for one in found] == list(expected)
    for one, nats in zip(found, expected.values(), strict=True):
        assert one.score.nats == pytest.approx(nats.mean())
        assert one.score.nats_stderr == pytest.approx(nats.std(ddof=1) / np.sqrt(50))


@pytest.mark.parametrize(
    ("column", "labels"), [(0.0, []), (1.0, ["independent columns"])], ids=["constant", "twice"]
)
def test_a_gaussian_without_a_density_is_no_baseline(column: float, labels: list[str]) -> None:
    x = np.random.default_rng(0).normal(size=(20, 2)).astype(np.float32)
    x[:, 1] = column * x[:, 0]
    found = column_baselines.measure_all(Real((2,)), lambda: [x], x)
    assert [one.label for one in found] == labels


def test_rows_to_be_drawn_are_measured_as_they_are_evaluated(workdir: Path) -> None:
    dataset = catalog.get_dataset({"name": "mnist_dynamic_binarized"})
    rng = np.random.default_rng(0)
    gray = rng.integers(0, 256, (5, 1, 28, 28), dtype=np.uint8)
    splits = dict.fromkeys(base.SPLITS, SplitData(gray, rng.integers(0, 10, 5), "bernoulli"))
    preprocessing.write(dataset, splits, Path("data/shards/mnist_dynamic_binarized"))
    drawn = dynamic_binarize(gray, np.arange(5), 0, 0)
    expected = [one.to_dict() for one in image_codecs.measure_all(drawn, Binary((1, 28, 28)))]
    assert measured("mnist_dynamic_binarized")["codecs"] == expected


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
    workdir: Path, dataset: str, labels: list[int] | None, moved: bool
) -> None:
    x = np.random.default_rng(0).integers(0, 17, (5, 1, 8, 8), dtype=np.uint8)
    split = SplitData(x, None if labels is None else np.array(labels))
    images = baselines._images(dataset, split)
    assert np.array_equal(images, x) != moved
    assert np.array_equal(np.sort(images, 0), np.sort(x, 0))
