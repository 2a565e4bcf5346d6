"""Opsound music: segments and their split."""

import numpy as np
import pytest

from pipeline.datasets import catalog
from pipeline.datasets.base import SPLITS, SplitData
from reproductions.datasets import opsound_music
from reproductions.datasets.opsound_music import OF_LOOPS, PIECES, blocks, segments
from tests.places import MIRROR, ROOT

PLACES = (ROOT / "data" / "raw" / "opsound_music", MIRROR / "opsound_music")
FILES = next((folder for folder in PLACES if folder.is_dir()), None)


def test_segments_are_whole_and_sound() -> None:
    sound, quiet = np.full(4, 0.1), np.full(4, 0.01)
    assert segments(np.concatenate([sound, quiet, sound, sound[:3]]), 4).tolist() == [[0.1] * 4] * 2


@pytest.mark.parametrize("count", [10, 17, 56, 79])
def test_blocks_follow_each_other_with_a_gap(count: int) -> None:
    found = blocks(count)
    assert list(found) == list(SPLITS)
    train, valid, test = found.values()
    assert train.start == 0
    assert valid.start == train.stop + 1
    assert test.start == valid.stop + 1
    assert test.stop == count


@pytest.fixture(scope="module")
def splits() -> dict[str, SplitData]:
    if FILES is None:
        pytest.skip(f"no Debian package in {PLACES}")
    found = catalog.get_dataset({"name": "opsound_music"}).decode(FILES)
    return {split: data for split, data in found.items() if isinstance(data, SplitData)}


def test_music_is_that_of_the_protocol(splits: dict[str, SplitData]) -> None:
    assert [len(splits[split]) for split in SPLITS] == [210, 16, 30]
    for split in ("valid", "test"):
        labels = splits[split].labels
        assert labels is not None
        assert {PIECES[number] for number in labels[:, 1]} == set(PIECES) - set(OF_LOOPS)
        assert (labels[:, 0] == opsound_music.SOUND.max_length).all()
