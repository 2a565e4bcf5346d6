"""Arrays that are added: the row and the column of a flaw, and what is told of the others."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pipeline.core.errors import UserError
from pipeline.datasets import adding
from pipeline.datasets.decoding_parts import PartsFolder
from pipeline.datasets.user.arrays import open_array
from pipeline.training import first_experiment
from tests.support.own_files import write_sound


@pytest.mark.parametrize("value", [-1, 999])
@pytest.mark.parametrize(
    ("shape", "place"), [((30, 3), "column 1"), ((30, 1, 2, 2), r"place \(0, 0, 1\)")]
)
def test_integers_that_are_no_levels_are_named(
    value: int, shape: tuple[int, ...], place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.datasets.user.array_checks.PART_BYTES", 128)
    x = np.ones(shape, np.int64)
    x.reshape(30, -1)[17, 1] = value
    np.save("x.npy", x)
    message = f"x.npy: x: row 17, {place}: expected an integer from 0 to 255 .*, got {value}$"
    with pytest.raises(UserError, match=message):
        adding.add("arrays", "mine", "x.npy", [])


@pytest.mark.parametrize(("first", "highest"), [(0, 2), (-1, 0)])
def test_a_label_below_zero_is_named(first: int, highest: int) -> None:
    labels = np.arange(30) % 3 if first == 0 else np.full(30, -1)
    labels[0], labels[4] = first, -1
    np.savez("x.npz", x=np.zeros((30, 2)), labels=labels)
    row = 4 if first == 0 else 0
    message = f"x.npz: labels: row {row}: expected classes from 0 to {highest}, got -1"
    with pytest.raises(UserError, match=message):
        adding.add("arrays", "mine", "x.npz", [])


@pytest.mark.parametrize(
    ("shape", "where"), [((60, 3), "columns 1"), ((60, 1, 1, 3), "places (0, 0, 1)")]
)
def test_reals_that_repeat_are_told(shape: tuple[int, ...], where: str) -> None:
    x = np.random.default_rng(0).normal(size=(60, 3))
    x[:, 1] = 2
    np.save("x.npy", x.reshape(shape))
    _, found = adding.add("arrays", "mine", "x.npy", [])
    assert found[-1].startswith(f"beware: {where}: few different values; a density of them has no")


@pytest.mark.parametrize("shape", [(3, 8, 6), (1, 8, 3)])
def test_channels_that_come_first_ask_nothing(shape: tuple[int, ...]) -> None:
    np.save("x.npy", np.random.default_rng(0).integers(0, 256, (30, *shape), dtype=np.uint8))
    dataset, found = adding.add("arrays", "mine", "x.npy", [])
    assert dataset.event.shape == shape
    assert not any(line.startswith("beware") for line in found)


def test_what_sounds_come_with_is_in_the_entry_to_begin_with() -> None:
    for i in range(20):
        write_sound(Path(f"s/{i}.wav"), 300)
    Path("s/other.txt").touch()
    rows = "".join(f"{i}.wav,{('ann', 'bob')[i % 2]},abc\n" for i in range(20))
    Path("s/table.csv").write_text(f"file,speaker,text\n{rows}")
    dataset, found = adding.add("wav_folder", "mine", "s", ["test_fraction=0.1"])
    told = {"num_classes": 2, "local_classes": 3}
    assert first_experiment.suggested_model(dataset) == ("wavenet", told)
    assert found[-1] == "left aside: 1 other file: other.txt" and "valid: 2 files" in found


def test_another_array_of_an_archive_is_another() -> None:
    """What an interrupted run has unpacked stays: of the array that was asked for alone."""
    np.savez("x.npz", a=np.ones((4, 3)), b=np.full((4, 3), 2.0))
    kept = PartsFolder("mine", ["x.npz"])
    for name, value in (("a", 1), ("b", 2)):
        assert open_array("mine", "x.npz", "x", name, kept).max() == value
