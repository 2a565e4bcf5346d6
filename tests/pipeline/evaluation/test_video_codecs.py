"""Codecs of clips: round trips, what is counted, and the stage's file."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from arcore.events import Binary, Gray, Levels
from pipeline.core import paths
from pipeline.data import fetching, preprocessing, shard_reader
from pipeline.data.manifest import read_manifest
from pipeline.datasets import catalog
from pipeline.evaluation import baselines, scoring, video_codecs
from pipeline.evaluation.reading import read_codecs
from pipeline.evaluation.video_codecs import CODECS

EVENTS = [
    Levels(16, (4, 3, 32, 32)),
    Levels(256, (5, 1, 33, 35)),
    Levels(256, (3, 3, 17, 19)),
    Binary((6, 1, 16, 16)),
]


def clips(event: Levels, rows: int = 3) -> np.ndarray:
    """Noise that moves to the left by a pixel a frame; one clip of the highest level."""
    length, *rest = event.extents
    x = np.random.default_rng(0).integers(0, event.num_levels, (rows, *rest), dtype=np.uint8)
    x[-1] = event.num_levels - 1
    return np.stack([np.roll(x, -t, axis=-1) for t in range(length)], axis=1)


@pytest.mark.parametrize("event", EVENTS, ids=str)
@pytest.mark.parametrize("name", CODECS)
def test_frames_come_back_each_from_those_before_it(name: str, event: Levels) -> None:
    codec, (length, *shape) = CODECS[name], event.extents
    assert video_codecs.applies(event)
    x = clips(event)[0]
    parameters, packets = video_codecs.encode(codec, x)
    assert len(packets) == length
    channels, height, width = shape
    for count in (1, length - 1, length):
        found = video_codecs.decode(codec, parameters, packets[:count], (channels, height, width))
        assert found.dtype == np.uint8
        np.testing.assert_array_equal(found, x[:count])
    assert video_codecs.encode(codec, x) == (parameters, packets), "the same bytes each time"


@pytest.mark.parametrize("name", CODECS)
def test_packets_of_given_frames_are_not_counted(name: str) -> None:
    event, codec = EVENTS[0], CODECS[name]
    x = clips(event)
    streams = [video_codecs.encode(codec, clip) for clip in x]
    sizes = [len(head) + sum(map(len, packets[2:])) for head, packets in streams]
    measured = video_codecs.measure(codec, x, event, 2)
    assert measured.bytes == sum(sizes) and measured.num_rows == 3
    score = measured.score
    assert score.nats == pytest.approx(np.mean(sizes) * 8 * math.log(2))
    assert score.bits_per_dim == pytest.approx(np.mean(sizes) * 8 / (2 * 3 * 32 * 32))
    assert score.nats_stderr == pytest.approx(np.std(sizes, ddof=1) / 3**0.5 * 8 * math.log(2))

    head, packets = video_codecs.encode(codec, x.reshape(12, *x.shape[2:]))
    counted = [at for at in range(12) if at % 4 >= 2]
    together = video_codecs.measure_together(codec, x, event, 2)
    assert together.bytes == len(head) + sum(len(packets[at]) for at in counted)
    assert together.label == codec.label.replace(" (", " as one stream (", 1)
    whole = video_codecs.measure(codec, x, event, 0)
    assert whole.bytes > measured.bytes


def test_what_an_encoder_says_of_itself_is_not_counted() -> None:
    event = Levels(256, (3, 3, 64, 64))
    black = np.zeros((1, *event.extents), np.uint8)
    head, packets = video_codecs.encode(CODECS["h264"], black[0])
    assert b"x264" not in head + b"".join(packets) and sum(map(len, packets)) < 200


def test_a_codec_that_loses_something_is_caught() -> None:
    lossy = replace(CODECS["h264"], settings="qp=30 bf=0")
    with pytest.raises(RuntimeError, match="1 clip.s. did not come back as they were"):
        video_codecs.measure(lossy, clips(EVENTS[0]), EVENTS[0], 0)


def test_frames_that_are_coded_with_later_ones_are_refused() -> None:
    event = EVENTS[1]
    both_ways = replace(CODECS["h264"], settings="crf=20 bf=3 b_strategy=0")
    with pytest.raises(RuntimeError, match="frames were not coded in their order"):
        video_codecs.encode(both_ways, clips(event)[0])


def test_other_events_have_no_codecs() -> None:
    others = [Levels(257, (4, 1, 8, 8)), Levels(256, (4, 2, 8, 8)), Levels(256, (3, 8, 8))]
    assert not any(map(video_codecs.applies, [*others, Gray((4, 1, 8, 8))]))


def test_the_stage_measures_clips_as_they_are_evaluated(workdir: Path) -> None:
    name = "moving_digits_binary"
    dataset = catalog.get_dataset({"name": name})
    fetching.fetch(dataset)
    decoded = dataset.decode(paths.raw(dataset.family))
    few = {split: replace(data, x=data.x[:4], labels=None) for split, data in decoded.items()}
    preprocessing.write(dataset, few, paths.shards(name))
    written = json.loads(baselines.write(name).read_text())
    assert set(written["libraries"]) == {"av", "libavcodec"}
    manifest = read_manifest(paths.shards(name))
    test = shard_reader.read_split(paths.shards(name), "test")
    rows = np.arange(len(test.x))
    drawn = scoring.read_rows(test, rows, manifest.event)
    expected = video_codecs.measure_all(drawn, manifest.event, manifest.context_frames)
    assert written["codecs"] == [one.to_dict() for one in expected]
    assert len(expected) == 4 and manifest.context_frames > 0
    assert set(read_codecs(manifest)) == set(expected)
