"""Simulated pushing: clips read, split and checked without pybullet, and rendered where it is."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest

from pipeline.data import preprocessing, shard_reader
from pipeline.data.manifest import read_manifest
from pipeline.datasets import catalog
from reproductions.datasets import simulated_pushing
from reproductions.datasets.simulated_pushing import CLIP, NAME, SimulatedPushing
from tests.support.refusals import refused

SMALL = {"name": NAME, "train_rows": 27, "valid_rows": 1, "test_rows": 2}
needs_pybullet = pytest.mark.skipif(
    importlib.util.find_spec("pybullet") is None, reason="without the optional extra pushing"
)


def small(**options: object) -> SimulatedPushing:
    dataset = catalog.get_dataset({**SMALL, **options})
    assert isinstance(dataset, SimulatedPushing)
    return dataset


def clips_of(seed: int, parts: list[tuple[str, int, int]]) -> list[np.ndarray]:
    """Clips of random bytes, in place of those that pybullet renders."""
    made = []
    for _, first, stop in parts:
        clips = np.empty(stop - first, CLIP)
        clips["frames"] = np.random.default_rng(seed).integers(0, 256, clips["frames"].shape)
        clips["actions"] = np.arange(20)[:, None] + 1
        clips["states"] = -clips["actions"]
        made.append(clips)
    return made


@pytest.fixture
def rendered(monkeypatch: pytest.MonkeyPatch) -> list[np.ndarray]:
    monkeypatch.setattr(simulated_pushing, "installed_version", lambda _: "3")
    clips = clips_of(0, small().options.parts)  # type: ignore[attr-defined]
    monkeypatch.setattr(simulated_pushing, "_render", lambda seed, parts: clips)
    return clips


def test_clips_become_shards_with_a_second_test_set(rendered: list[np.ndarray], workdir) -> None:
    out = preprocessing.write(small(), small().decode(workdir), workdir / "shards")
    manifest = read_manifest(out)
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
    rendered[-1]["frames"] += 16
    other = preprocessing.write(small(), small().decode(workdir), workdir / "shards")
    assert read_manifest(other).sha256 != manifest.sha256, "novel is part of what data are"


def test_another_rendering_is_refused_by_default(
    rendered: list[np.ndarray], workdir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = {(0, 16, 27, 1, 2, 2): "0" * 64}
    monkeypatch.setattr(simulated_pushing, "CONTENT_SHA256", known)
    with refused("decoded rows of sha256 000.* another processor.* any_rendering=true"):
        small().decode(workdir)
    assert len(small(any_rendering=True).decode(workdir)["train"]) == 27


def test_without_pybullet_there_is_one_line(workdir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(simulated_pushing, "installed_version", lambda _: None)
    with refused(r"pybullet.*pip install -e '.\[pushing\]'"):
        small().decode(workdir)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_levels": 1}, "num_levels .*: expected 2 to 256, got 1"),
        ({"test_rows": 0}, "test_rows .*: expected 1 to 1000000, got 0"),
        ({"seed": -1}, "seed .*: expected 0 to"),
    ],
)
def test_bad_options_are_named(options: dict[str, object], message: str) -> None:
    with refused(message):
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
    splits = dataset.decode(workdir)
    for split in ("valid", "novel"):
        alone = simulated_pushing.render_part(0, split, 0, 1)
        assert (splits[split].x == alone["frames"]).all()
