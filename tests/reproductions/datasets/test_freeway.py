"""Freeway: games cut into clips, checked without the game, and played where ale-py is."""

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest

from pipeline.core.errors import UserError
from pipeline.data import preprocessing, shard_reader
from pipeline.data.manifest import read_manifest
from pipeline.datasets import catalog
from reproductions.datasets import freeway
from tests.support.refusals import refused

needs_ale = pytest.mark.skipif(
    importlib.util.find_spec("ale_py") is None, reason="without the optional extra games"
)


def fake_game(seed: tuple[int, int, int], mode: int) -> tuple[np.ndarray, np.ndarray]:
    """A game whose screen shows its number, mode and step as grays."""
    grays = np.array(freeway.GRAYS, np.uint8)
    rows = np.zeros((freeway.STEPS, 210, 1), np.uint8)
    rows[:, freeway.ROWS.start] = grays[mode]
    rows[:, freeway.ROWS.start + 3] = grays[seed[2]]
    rows[:, freeway.ROWS.start + 1] = 7  # between the rows that are taken
    rows[:, freeway.ROWS.start + 6] = grays[np.arange(freeway.STEPS) % 15, None]
    return np.broadcast_to(rows, (freeway.STEPS, 210, 160)), np.arange(freeway.STEPS) % 3


def test_games_are_cut_by_time_and_modes(workdir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(freeway, "play", fake_game)
    dataset = catalog.get_dataset({"name": "freeway", "games": 1})
    out = preprocessing.write(dataset, dataset.decode(workdir), workdir / "shards")
    manifest = read_manifest(out)
    assert manifest.extra_test_splits == ("novel",) and manifest.context_frames == 4
    assert manifest.condition_sequence == (20, 3)
    read = {split: shard_reader.read_split(out, split) for split in manifest.splits}
    counts = {split: len(data) for split, data in read.items()}
    assert counts == {"train": 6 * 71, "valid": 6 * 10, "test": 6 * 21, "novel": 2 * 21}
    modes = {split: set(data.x[:, 0, 0, 0, 0].tolist()) for split, data in read.items()}
    assert modes == {**dict.fromkeys(("train", "valid", "test"), set(range(6))), "novel": {6, 7}}
    steps = read["test"].x[0, :, 0, 2, 0]
    assert steps.tolist() == [step % 15 for step in range(81 * 20, 82 * 20)]
    actions = read["test"].labels[0]
    assert actions.tolist() == np.eye(3)[np.arange(81 * 20, 82 * 20) % 3].tolist()


def test_other_clips_than_those_on_record_are_refused(workdir, monkeypatch) -> None:
    monkeypatch.setattr(freeway, "play", fake_game)
    monkeypatch.setattr(freeway, "CONTENT_SHA256", {(0, 1): "0" * 64})
    options = {"name": "freeway", "games": 1}
    accepting = catalog.get_dataset(options | {"any_rendering": True})
    assert len(accepting.decode(workdir)["train"]) == 6 * 71
    with refused("decoded rows of sha256 .*any_rendering=true"):
        catalog.get_dataset(options).decode(workdir)


def test_a_gray_that_the_game_has_not_is_refused() -> None:
    screens, actions = (part[:40].copy() for part in fake_game((0, 0, 0), 0))
    screens[3, freeway.ROWS.start, freeway.COLUMNS.start] = 77
    with pytest.raises(UserError, match="freeway: expected grays 0, 41, .*, got 77"):
        freeway.cut(screens, actions, slice(0, 1))
    assert freeway.cut(screens, actions, slice(1, 2)).x.shape == (1, 20, 1, 64, 64)


def test_without_ale_there_is_one_line(workdir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ale_py", None)
    with pytest.raises(UserError, match=r"ale-py.*pip install -e '.\[games\]'"):
        catalog.get_dataset({"name": "freeway"}).decode(workdir)


@pytest.mark.parametrize(
    ("options", "message"),
    [({"games": 0}, "games .*: expected 1 to 1000, got 0"), ({"seed": -1}, "seed .*: expected 0")],
)
def test_bad_options_are_named(options: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        catalog.get_dataset({"name": "freeway", **options})


def test_actions_are_held_for_some_steps() -> None:
    actions = freeway.choose_actions(np.random.default_rng(0))
    shares = np.bincount(actions, minlength=3) / freeway.STEPS
    assert np.abs(shares - freeway.SHARES).max() < 0.06
    changes = float((actions[1:] != actions[:-1]).mean())
    expected = freeway.TURNS * (1 - sum(share**2 for share in freeway.SHARES))
    assert abs(changes - expected) < 0.03  # 3.5 standard errors
    assert (actions == freeway.choose_actions(np.random.default_rng(0))).all()


@needs_ale
def test_the_player_moves_the_chicken_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(freeway, "STEPS", 80)
    (first, chosen), (other, _) = (freeway.play((0, 0, game), 0) for game in range(2))
    assert (first == freeway.play((0, 0, 0), 0)[0]).all() and chosen.shape == (80,)
    clips = [freeway.cut(game, chosen, slice(0, 4)).x for game in (first, other)]
    columns = np.flatnonzero((clips[0] != clips[1]).any((0, 1, 2, 3)))
    assert len(columns) > 0 and columns.min() >= 16 and columns.max() <= 23


@needs_ale
@pytest.mark.slow
def test_the_clips_on_record_are_played(workdir: Path) -> None:
    assert len(catalog.get_dataset({"name": "freeway"}).decode(workdir)["novel"]) == 84
