"""Simulated pushing: clips read, split and checked without pybullet, and rendered where it is."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest

from pipeline.core.errors import UserError
from pipeline.data import preprocessing, shard_reader
from pipeline.data.manifest import read_manifest
from pipeline.datasets import catalog
from reproductions.datasets import simulated_pushing
from reproductions.datasets.simulated_pushing import CLIP, NAME, SimulatedPushing

SMALL = {"name": NAME, "train_rows": 27, "valid_rows": 1, "test_rows": 2}
needs_pybullet = pytest.mark.skipif(
    importlib.util.find_spec("pybullet") is None, reason="without the optional extra pushing"
)


def small(**options: object) -> SimulatedPushing:
    dataset = catalog.get_dataset({**SMALL, **options})
    assert isinstance(dataset, SimulatedPushing)
    return dataset


def write_parts(seed: int = 0) -> list[Path]:
    """Write clips of random bytes where those that were rendered wait."""
    random = np.random.default_rng(seed)
    options = small().options
    folder = simulated_pushing.parts_folder(options).folder
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for split, first, stop in options.parts:
        clips = np.empty(stop - first, CLIP)
        clips["frames"] = random.integers(0, 256, clips["frames"].shape)
        clips["actions"] = np.arange(20)[:, None] + 1
        clips["states"] = -clips["actions"]
        name = simulated_pushing.part_name(split, first, stop)
        paths.append(folder / f"{name}.npy")
        np.save(paths[-1], clips, allow_pickle=False)
    return paths


@pytest.fixture
def parts(workdir: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    monkeypatch.setenv("ARCORE_HOME", str(workdir))
    monkeypatch.setattr(
        simulated_pushing, "_version", lambda: None
    )  # as if pybullet were not there
    return write_parts()


def test_clips_become_shards_with_a_second_test_set(parts: list[Path], workdir: Path) -> None:
    rendered = [np.load(path) for path in parts]
    dataset = small()
    out = preprocessing.write(dataset, dataset.decode(workdir), workdir / "shards")
    manifest = shard_reader.verify(out)
    assert manifest.extra_test_splits == ("novel",) and manifest.context_frames == 2
    assert manifest.condition_sequence == (20, 4)
    read = {split: shard_reader.read_split(out, split) for split in manifest.splits}
    assert {split: len(data) for split, data in read.items()} == {
        "train": 27, "valid": 1, "test": 2, "novel": 2,
    }  # fmt: skip
    train = np.concatenate(rendered[:2])
    assert (read["train"].x == train["frames"] // 16).all()  # 256 levels to 16
    assert (read["novel"].x == rendered[-1]["frames"] // 16).all()
    vectors = read["test"].labels[1]
    assert vectors[:4, :2].tolist() == [[0, 0], [1, 1], [2, 2], [3, 3]]  # the action before
    assert vectors[:3, 2:].tolist() == [[-1, -1], [-2, -2], [0, 0]]  # states while given
    assert not parts[0].parent.exists()  # all has been taken


def test_the_second_test_set_is_part_of_what_data_are(parts: list[Path], workdir: Path) -> None:
    sums = []
    for change in (0, 1):
        write_parts()
        clips = np.load(parts[-1])
        clips["frames"][0, 0, 0, 0, 0] = 255 * change
        np.save(parts[-1], clips)
        out = preprocessing.write(small(), small().decode(workdir), workdir / "shards")
        sums.append(read_manifest(out).sha256)
    assert sums[0] != sums[1]


def test_another_rendering_is_refused_by_default(
    parts: list[Path], workdir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = {(0, 16, 27, 1, 2, 2): "0" * 64}
    monkeypatch.setattr(simulated_pushing, "CONTENT_SHA256", known)
    with pytest.raises(UserError, match="decoded rows of sha256 000.* another processor") as said:
        small().decode(workdir)
    assert "any_rendering=true" in str(said.value) and "\n" not in str(said.value)
    accepted = small(any_rendering=True).decode(workdir)  # made once, read again
    assert accepted["train"].rows == 27


def test_without_pybullet_missing_clips_are_one_line(parts: list[Path], workdir: Path) -> None:
    parts[2].unlink()
    with pytest.raises(UserError, match=r"pybullet.*pip install -e '.\[pushing\]'"):
        small().decode(workdir)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "novel-0000000-0000002.npy: missing or damaged"),
        (None, "novel-0000000-0000002.npy: expected 2 clips, got"),
    ],
)
def test_a_damaged_part_is_named(
    parts: list[Path], workdir: Path, content: bytes | None, message: str
) -> None:
    if content is None:
        np.save(parts[-1], np.zeros(3, CLIP))
    else:
        parts[-1].write_bytes(content)
    splits = small().decode(workdir)
    with pytest.raises(UserError, match=message):
        list(splits["novel"].parts)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_levels": 1}, "num_levels .*: expected 2 to 256, got 1"),
        ({"test_rows": 0}, "test_rows .*: expected 1 to 1000000, got 0"),
        ({"seed": -1}, "seed .*: expected 0 to"),
    ],
)
def test_bad_options_are_named(options: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        small(**options)


def test_no_object_of_the_second_test_set_is_in_another() -> None:
    seen, novel = simulated_pushing.SEEN_OBJECTS, simulated_pushing.NOVEL_OBJECTS
    assert not set(seen) & set(novel) and len(set(seen)) == 90 and len(set(novel)) == 100


@needs_pybullet
def test_a_clip_is_a_function_of_its_seed() -> None:
    from reproductions.datasets.pushing_simulator import Simulator

    names = simulated_pushing.SEEN_OBJECTS
    simulator = Simulator()
    first, other = simulator.clip((0, 0, 0), names), simulator.clip((0, 0, 1), names)
    again = simulator.clip((0, 0, 0), names)
    simulator.close()
    assert (first.frames == again.frames).all() and (first.actions == again.actions).all()
    assert (first.frames != other.frames).any() and (first.states == again.states).all()
    assert first.frames.shape == (20, 3, 64, 64) and first.frames.dtype == np.uint8
    assert (first.frames[0] != first.frames[-1]).any()
    # the flange follows what is commanded, a twentieth of its field behind at most
    assert np.abs(first.states[1:] - first.actions[:-1]).max() < 0.05


@needs_pybullet
def test_processes_render_what_one_does(workdir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ARCORE_HOME", str(workdir))
    rows = {"train_rows": 1, "valid_rows": 1, "test_rows": 1}
    dataset = catalog.get_dataset({"name": NAME, "num_levels": 256, **rows})
    splits = {split: next(iter(data.parts)) for split, data in dataset.decode(workdir).items()}
    for split in ("valid", "novel"):
        alone = simulated_pushing.render_part(0, split, 0, 1)
        assert (splits[split].x == alone["frames"]).all()
