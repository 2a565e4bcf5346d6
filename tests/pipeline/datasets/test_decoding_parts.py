"""Decoded parts that wait on disk: what a failed run leaves, and who removes it."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from pipeline.core.errors import UserError
from pipeline.data import preprocessing
from pipeline.datasets import catalog, decoding_parts
from pipeline.datasets.base import Dataset
from pipeline.datasets.decoding_parts import PartsFolder
from pipeline.datasets.user import image_source
from reproductions.datasets import simulated_pushing
from tests.support.own_files import write_picture

DECODED = Path("data/decoded")


@pytest.fixture
def photos(workdir: Path) -> Dataset:
    for i in range(20):
        write_picture(Path(f"photos/{i:02d}.jpg"), 64, 64, seed=i)
    return catalog.get_dataset({"name": "mine", "kind": "image_folder", "path": "photos"})


def cut_one(name: str) -> bytes:
    """Cut a picture, whose header stays; return it whole."""
    path = Path("photos") / name
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    return whole


def test_a_failure_at_the_first_part_leaves_no_folder(photos: Dataset) -> None:
    for i in range(20):
        cut_one(f"{i:02d}.jpg")
    with pytest.raises(UserError, match="photos/.*jpg: expected a PNG"):
        preprocessing.preprocess(photos)
    assert not list(DECODED.glob("*"))


def test_parts_of_a_failed_run_go_when_its_files_are_repaired(
    photos: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(image_source, "BATCH", 4)
    last = photos._files()["train"][-1].name  # type: ignore[attr-defined]
    whole = cut_one(last)
    for _ in range(2):
        with pytest.raises(UserError, match=f"photos/{last}: expected a PNG"):
            preprocessing.preprocess(photos)
        (kept,) = DECODED.glob("mine-*")
        assert [path.name for path in sorted(kept.iterdir())] == [
            f"train-{number:05d}.npy" for number in range(3)
        ]
    Path("photos", last).write_bytes(whole)
    os.utime(Path("photos", last), ns=(1, 1))
    preprocessing.preprocess(photos)
    assert not list(DECODED.glob("*"))


def test_a_damaged_part_is_decoded_again(workdir: Path) -> None:
    parts = PartsFolder("mine", "anything")
    parts.part("x", lambda: np.arange(3))
    (DECODED / parts.folder.name / "x.npy").write_bytes(b"\x93NUMPY")
    assert parts.part("x", lambda: np.arange(4)).tolist() == [0, 1, 2, 3]
    assert parts.part("x", lambda: np.zeros(0)).tolist() == [0, 1, 2, 3], "kept whole"


def test_parts_that_other_code_decoded_are_removed(
    workdir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    PartsFolder("mine", "anything").part("x", lambda: np.arange(3))
    assert PartsFolder("mine", "anything").part("x", lambda: np.zeros(0)).tolist() == [0, 1, 2]
    monkeypatch.setattr(decoding_parts, "stage_sha256", lambda *keys: f"other {keys}")
    parts = PartsFolder("mine", "anything")
    assert not list(DECODED.glob("*"))
    assert parts.part("x", lambda: np.arange(4)).tolist() == [0, 1, 2, 3]


def test_parts_of_what_had_the_name_before_are_removed(photos: Dataset) -> None:
    PartsFolder("mine", "another kind").part("x", lambda: np.zeros(3))
    PartsFolder("mine2", "another dataset").part("x", lambda: np.zeros(3))
    Path("t.csv").write_text("a,b\n" + "".join(f"{i},{i * i}.5\n" for i in range(40)))
    table = catalog.get_dataset({"name": "mine", "kind": "csv", "path": "t.csv"})
    with pytest.raises(UserError, match="file not found"):
        preprocessing.preprocess(table)
    assert len(list(DECODED.glob("mine-*"))) == 1
    Path("data/raw/mine").mkdir(parents=True)
    Path("data/raw/mine/t.csv").write_bytes(Path("t.csv").read_bytes())
    preprocessing.preprocess(table)
    assert [path.name.partition("-")[0] for path in DECODED.iterdir()] == ["mine2"]


def test_a_part_that_cannot_be_written_leaves_none(
    workdir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*arguments: object, **options: object) -> None:
        raise OSError(28, "No space left on device")

    kept = PartsFolder("mine", "x")
    monkeypatch.setattr(np, "save", full)
    with pytest.raises(OSError, match="No space"):
        kept.part("x", lambda: np.zeros(3))
    assert not list(kept.folder.iterdir())


def test_clips_that_nothing_can_render_leave_no_folder(
    workdir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ARCORE_HOME", str(workdir))
    monkeypatch.setattr(simulated_pushing, "_version", lambda: None)
    with pytest.raises(UserError, match="pybullet"):
        preprocessing.preprocess(catalog.get_dataset({"name": simulated_pushing.NAME}))
    assert not DECODED.exists()
