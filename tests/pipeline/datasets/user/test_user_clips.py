"""Clips of the user's: folders of numbered images, and animations."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from arcore.events import Binary, Levels
from pipeline.datasets import adding
from pipeline.datasets.base import SPLITS, Dataset
from pipeline.training import first_experiment
from tests.support.own_files import own, shards
from tests.support.refusals import refused

SIDE = 6


def frames(clip: int, count: int) -> list[np.ndarray]:
    """Gray frames that tell their clip and number."""
    values = np.full((count, SIDE, SIDE), 10 * clip, np.uint8)
    values[:, 0, 0] = np.arange(count)
    return list(values)


def write_folders(lengths: list[int], root: str = "clips") -> None:
    for clip, length in enumerate(lengths):
        folder = Path(f"{root}/{clip}")
        folder.mkdir(parents=True)
        for number, frame in enumerate(frames(clip, length)):
            Image.fromarray(frame).save(folder / f"f{number}.png")


def write_animations(lengths: list[int]) -> None:
    Path("clips").mkdir()
    for clip, length in enumerate(lengths):
        first, *more = map(Image.fromarray, frames(clip, length))
        first.save(f"clips/{clip}.gif", save_all=True, append_images=more)


def added(*given: str) -> tuple[Dataset, dict[str, str]]:
    dataset, facts = adding.add("clip_folder", "mine", "clips", ["test_fraction=0.2", *given])
    return dataset, {fact.name: fact.found for fact in facts}


@pytest.mark.parametrize("write", [write_folders, write_animations])
def test_clips_are_cut_into_pieces_that_stay_in_one_split(write: Any) -> None:
    write([12, 12, 13, 3, *[12] * 8])
    dataset, told = added("frames=6")
    assert dataset.event == Levels(256, (6, 1, SIDE, SIDE)) and dataset.unit == "bits_per_dim"
    kind = "folders of images" if write is write_folders else "GIFs"
    assert told["clips"] == (
        f"12 {kind} of 3 to 13 frames, cut into pieces of 6; left out at ends: 1 frames; "
        "left out as too short: 1"
    )
    parts = shards(dataset)
    seen = [{int(clip[0, 0, -1, -1]) // 10 for clip in parts[split].x} for split in SPLITS]
    assert sum(map(len, seen)) == 11 and len(set().union(*seen)) == 11
    for part in parts.values():
        for clip in part.x:
            numbers = clip[:, 0, 0, 0].tolist()
            assert numbers in (list(range(6)), list(range(6, 12)))  # f10.png is after f9.png
    assert first_experiment.suggested_model(dataset)[0] == "video_pixel_network"


def test_lengths_are_guessed_and_folders_above_clips_are_classes() -> None:
    for kind in ("run", "walk"):
        write_folders([4] * 6, f"clips/{kind}")
    dataset, told = added("num_levels=2")
    assert dataset.event == Binary((4, 1, SIDE, SIDE)) and dataset.unit == "nats_per_frame"
    assert dataset.num_classes == 2 and told["classes"] == "2, by folder: run, walk"
    assert set(shards(dataset)["train"].labels) == {0, 1}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"frames": 5}, "clips: expected clips of 5 frames or more for each of train, valid and"),
        ({"frames": 1}, "option frames of dataset 'mine': expected 2 to 1000, got 1"),
        ({"path": "none"}, "option path of dataset 'mine': expected an existing folder"),
        ({"omit": ["0", "1"]}, "for each of train, valid and test .two., got 2 clips"),
    ],
)
def test_bad_folders_of_clips_get_one_line(options: dict[str, Any], message: str) -> None:
    write_folders([4] * 4)
    with refused(message):
        own("clip_folder", **{"path": "clips", "frames": 4, **options}).decode(Path())


def test_a_damaged_frame_is_named() -> None:
    write_animations([4] * 12)
    content = Path("clips/3.gif").read_bytes()
    Path("clips/3.gif").write_bytes(content[: len(content) // 2])
    dataset = own("clip_folder", path="clips", frames=4, height=6, width=6)
    with refused("clips/3.gif: expected a GIF image, whole and undamaged"):
        shards(dataset)
