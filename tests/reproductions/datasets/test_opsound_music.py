"""Opsound music: segments, their split, and that nothing of a test is in training."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from arcore.primitives.companding import mu_law_decode
from pipeline.datasets import catalog
from pipeline.datasets.base import SPLITS, SplitData
from reproductions.datasets import opsound_music
from reproductions.datasets.opsound_music import MOST_ALIKE, OF_LOOPS, PIECES, blocks, segments
from tests.places import MIRROR, ROOT

PLACES = (ROOT / "data" / "raw" / "opsound_music", MIRROR / "opsound_music")
FILES = next((folder for folder in PLACES if folder.is_dir()), None)
BLOCK = 1 << 17


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


def likeness(rows: Tensor, sound: Tensor) -> list[float]:
    """The greatest normalised cross-correlation of each row with a stretch of a sound."""
    rows = rows - rows.mean(1, keepdim=True)
    length = rows.shape[1]
    step = BLOCK - length + 1
    missing = -(len(sound) - length + 1) % step
    pieces = torch.nn.functional.pad(sound, (0, missing)).unfold(0, BLOCK, step)
    sums = torch.nn.functional.pad(torch.stack([pieces, pieces**2]).cumsum(-1), (1, 0))
    first, second = sums[..., length:] - sums[..., :-length]
    spread = (second - first**2 / length).clamp(min=1).sqrt()
    transformed = torch.fft.rfft(pieces)
    products = (
        torch.fft.irfft(transformed * torch.fft.rfft(x / x.norm(), BLOCK).conj()) for x in rows
    )
    return [float((product[:, :step] / spread).max()) for product in products]


def test_likeness_finds_a_scaled_copy() -> None:
    generator = torch.Generator().manual_seed(0)
    sound = torch.randn(3 * BLOCK, generator=generator, dtype=torch.float64)
    copied = 0.5 * sound[BLOCK + 1000 : BLOCK + 9000] + 3
    other = torch.randn(8000, generator=generator, dtype=torch.float64)
    found, chance = likeness(torch.stack([copied, other]), sound)
    assert found == pytest.approx(1)
    assert chance < 0.1


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


@pytest.mark.slow
def test_no_segment_occurs_in_an_earlier_split(splits: dict[str, SplitData]) -> None:
    train, valid, test = (
        mu_law_decode(torch.from_numpy(splits[split].x.astype(np.int64)), 256).double()
        for split in SPLITS
    )
    alike = likeness(valid, train.flatten())
    alike += likeness(test, torch.cat([train, valid]).flatten())
    assert max(alike) == pytest.approx(MOST_ALIKE, abs=0.01)
