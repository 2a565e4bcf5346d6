"""Piano rolls: files, batches of steps, MIDI, and the way from training to a page and a harmony."""

import json
import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import scipy.io
import torch

import arcore
from arcore.events import Binary
from pipeline.core.errors import UserError
from pipeline.data import shard_reader, sound_batches
from pipeline.data.shuffling import BatchPlan
from pipeline.datasets import catalog
from pipeline.datasets.base import Sound
from pipeline.datasets.formats import piano_rolls
from pipeline.evaluation import baselines, experiment_evaluation, sound_codecs
from pipeline.experiments import compose
from pipeline.reporting import comparison
from pipeline.uses import harmonisation, run_uses, use_context
from tests.places import MIRROR
from tests.support import reports
from tests.support.few_rows import train_on_few
from tests.support.registered import exported

ENTRY = {
    "dataset": "jsb_chorales",
    "model": "rnn_nade",
    "model_overrides": {"hidden": 6, "recurrent": 8, "ordering": "reverse"},
    "trainer": {"max_epochs": 2, "batch_size": 4, "window": 10},
    "evaluation": {"num_samples": 2, "coded": True},
}
NAME = "jsb_chorales-rnn_nade"
LENGTHS = {"traindata": (30, 9, 25, 18), "validdata": (12, 20), "testdata": (16, 7, 29)}
SOUND = Sound(2, 200, 0, ("",), (), lowest_pitch=21)


def made_up(lengths: tuple[int, ...], seed: int) -> np.ndarray:
    """Pieces of a walking bass and a tune above it, in the cells of a MATLAB file."""
    generator, cells = np.random.default_rng(seed), np.empty((1, len(lengths)), object)
    for piece, length in enumerate(lengths):
        roll = np.zeros((length, 88), np.uint8)
        for low, high in ((20, 32), (40, 60)):
            roll[np.arange(length), generator.integers(low, high, length)] = 1
        roll[0] = 0  # a silent step
        cells[0, piece] = roll
    return cells


def write_file(folder: Path, **other: np.ndarray) -> None:
    cells = {name: made_up(lengths, at) for at, (name, lengths) in enumerate(LENGTHS.items())}
    scipy.io.savemat(folder / "JSB_Chorales.mat", cells | other)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, migrated: Path) -> Path:
    folder = tmp_path_factory.mktemp("project")
    write_file(folder)
    train_on_few(folder, migrated, {NAME: ENTRY}, 4)
    return folder


# -- files


def test_pieces_are_padded_and_have_their_lengths(tmp_path: Path) -> None:
    write_file(tmp_path)
    splits = catalog.get_dataset({"name": "jsb_chorales"}).decode(tmp_path)
    train = splits["train"]
    assert train.x.shape == (4, 160, 88) and train.labels.tolist()[1] == [9, 0, 0]
    assert np.array_equal(train.x[1, :9], made_up(LENGTHS["traindata"], 0)[0, 1])
    assert not train.x[1, 9:].any()


@pytest.mark.parametrize("shape", [(161, 88), (5, 87), (0, 88)])
def test_other_rolls_are_refused(tmp_path: Path, shape: tuple[int, int]) -> None:
    cells = np.empty((1, 1), object)
    cells[0, 0] = np.zeros(shape, np.uint8)
    write_file(tmp_path, validdata=cells)
    with pytest.raises(UserError, match=r"valid: expected piano rolls \(T, 88\) of at most 160"):
        catalog.get_dataset({"name": "jsb_chorales"}).decode(tmp_path)


@pytest.mark.parametrize("content", [b"", b"no MATLAB file" * 20])
def test_other_files_are_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "JSB_Chorales.mat").write_bytes(content)
    with pytest.raises(UserError, match=r"JSB_Chorales.mat: expected a MATLAB file"):
        catalog.get_dataset({"name": "jsb_chorales"}).decode(tmp_path)


@pytest.mark.parametrize("name", ["jsb_chorales", "nottingham", "piano_midi", "muse_data"])
def test_pieces_of_the_mirror(name: str) -> None:
    if not (MIRROR / "polyphonic_music").is_dir():
        pytest.skip(f"needs {MIRROR / 'polyphonic_music'}")
    dataset = catalog.get_dataset({"name": name})
    splits = dataset.decode(MIRROR / "polyphonic_music")
    assert dataset.sound is not None
    longest = max(int(data.labels[:, 0].max()) for data in splits.values())
    assert longest == dataset.sound.max_length


# -- what can be heard


def read_midi(data: bytes) -> Iterator[tuple[int, bool, int]]:
    """Yield (ticks, whether a key goes down, its number) of a file of one track."""
    assert data[:4] == b"MThd" and data[8:14] == b"\0\0\0\1" + piano_rolls.TICKS.to_bytes(2)
    assert data[14:18] == b"MTrk" and int.from_bytes(data[18:22]) == len(data) - 22
    at, now = 29, 0  # after the tempo
    while True:
        step = 0
        while True:
            step = step << 7 | data[at] & 0x7F
            at += 1
            if data[at - 1] < 0x80:
                break
        now += step
        if data[at] == 0xFF:
            assert data[at : at + 3] == b"\xff\x2f\x00" and at + 3 == len(data)
            return
        yield now, data[at] == 0x90, data[at + 1]
        at += 3


def test_midi_has_the_notes_of_a_roll() -> None:
    roll = (torch.rand(200, 88) < 0.1).numpy().astype(np.uint8)
    down, found = {}, []
    for ticks, is_down, pitch in read_midi(piano_rolls.midi_bytes(roll, SOUND)):
        assert ticks % piano_rolls.TICKS == 0
        if is_down:
            assert pitch not in down, "a key goes up before it goes down again"
            down[pitch] = ticks
        else:
            found.append((pitch - 21, down.pop(pitch) // 480, ticks // 480))
    assert not down and sorted(found) == sorted(piano_rolls.notes(roll))
    again = np.zeros_like(roll)
    for key, first, end in found:
        again[first:end, key] = 1
    assert np.array_equal(again, roll)


# -- batches


@pytest.mark.parametrize("window", [None, 1, 10])
def test_an_epoch_covers_every_step_exactly_once(project: Path, window: int | None) -> None:
    model = arcore.create_model("rnn_nade", Binary((None, 88)), hidden=2, recurrent=2)
    plan = BatchPlan(batch_size=3, seed=3, window=window)
    loader = sound_batches.SoundLoader("data/shards/jsb_chorales", "train", model, plan)
    notes, seen = 0, 0
    for batch in loader.epoch(2):
        assert batch.x.shape[1] == batch.scored[:, 1].max(), "no padding beyond the longest"
        if window is not None:
            assert batch.scored[:, 0].max() <= window, "a window of context"
        for row, (first, end) in zip(batch.x, batch.scored.tolist(), strict=True):
            notes, seen = notes + int(row[first:end].long().sum()), seen + end - first
    split = shard_reader.read_split("data/shards/jsb_chorales", "train")
    assert (notes, seen) == (split.x.sum(), sum(LENGTHS["traindata"]))
    assert loader.mean_size == seen * 88 / 4


def test_pieces_are_transposed_as_far_as_the_keyboard_goes(project: Path) -> None:
    model = arcore.create_model("rnn_nade", Binary((None, 88)), hidden=2, recurrent=2)
    plan = BatchPlan(batch_size=4, window=10, transpose=30)
    where = "data/shards/jsb_chorales"
    moved = sound_batches.SoundLoader(where, "train", model, plan)
    plain = sound_batches.SoundLoader(where, "train", model, replace(plan, transpose=0))
    shifts = set()
    for epoch in range(4):
        for batch, other in zip(moved.epoch(epoch), plain.epoch(epoch), strict=True):
            assert torch.equal(batch.scored, other.scored)
            for roll, expected in zip(batch.x, other.x, strict=True):
                found = [n for n in range(-30, 31) if torch.equal(roll, expected.roll(n, 1))]
                assert found, "nothing wraps around or is lost"
                shifts.add(found[0])
        again = [batch.x for batch in moved.epoch(epoch)]
        assert all(
            torch.equal(*pair)
            for pair in zip(again, (b.x for b in moved.epoch(epoch)), strict=True)
        )
    assert len(shifts) > 5 and max(shifts) <= 88 - 60 and min(shifts) >= -20 - 12
    for batch, other in zip(moved.sequential(2), plain.sequential(2), strict=True):
        assert torch.equal(batch.x, other.x), "validation is of the pieces as they are"


# -- baselines


def test_frequencies_of_keys_are_distributions(project: Path) -> None:
    train = shard_reader.read_split("data/shards/jsb_chorales", "train")
    every = [np.array(bits, np.uint8).reshape(2, 1) for bits in np.ndindex(2, 2)]
    one_key = type(train)(train.x[:, :, 50:51], train.labels)
    for _, _, kind, nats in sound_codecs._of_keys(one_key, every):
        assert kind == "baseline" and np.exp(-nats).sum() == pytest.approx(1)


# -- the way through


def test_evaluation_counts_every_step_alike(project: Path) -> None:
    out = experiment_evaluation.evaluate(compose.load(NAME))
    metrics = json.loads((out / "metrics.json").read_text())
    test = shard_reader.read_split("data/shards/jsb_chorales", "test")
    model = use_context.load(NAME).model
    lengths = test.labels[:, 0].tolist()
    with torch.no_grad():
        nats = [
            -float(model.log_prob(torch.from_numpy(x[None, :length])))
            for x, length in zip(test.x, lengths, strict=True)
        ]
    per_step = sum(nats) / sum(lengths)
    assert metrics["bits_per_dim"] == pytest.approx(per_step / 88 / math.log(2), rel=1e-5)
    ours = json.loads(Path(f"metrics/{NAME}.json").read_text())
    assert ours["unit"] == "nats_per_frame" and ours["value"] == pytest.approx(per_step, rel=1e-5)
    assert metrics["coded_bytes"] < sum(nats) / math.log(2) / 8 * 1.01 + 500
    baselines.write("jsb_chorales")
    report = comparison.build_report("jsb_chorales")
    table = reports.markdown(report)
    assert "| frequencies of keys given the step before |" in table
    assert f"{88 * math.log(2):.2f}" in table, "of uniform bits"
    assert "every step of all pieces counts alike" in table
    assert f"| one | {per_step:.1f}" in table
    assert "data:audio/wav;base64," in reports.page(report)
    assert (out / "media" / "0-sample.mid").is_file()
    rows = test.x[:2, :5]
    scores = exported(project / "exported", "rnn_nade", model).predict(None, rows)
    assert scores["bits_per_dim"].tolist() == pytest.approx(
        (scores["nats"] / (5 * 88 * math.log(2))).tolist()
    )


def test_lower_voices_are_drawn_under_the_highest(project: Path) -> None:
    settings = ["num_pieces=2", "num_steps=5", "num_particles=4"]
    folder = run_uses.run("harmonisation", NAME, settings)
    record = json.loads((folder / "use.json").read_text())
    files = [one["file"] for one in record["shown"]]
    assert files[0] == "harmonies.png"
    assert files[1:5] == ["1-given.wav", "1-drawn-1.wav", "1-drawn-2.wav", "1-real.wav"]
    rolls = {}
    for name in files[1:5]:
        roll = torch.zeros(5, 88, dtype=torch.int64)
        down = {}
        for ticks, is_down, pitch in read_midi((folder / name).with_suffix(".mid").read_bytes()):
            if is_down:
                down[pitch] = ticks // 480
            else:
                roll[down.pop(pitch) : ticks // 480, pitch - 21] = 1
        rolls[name] = roll
    real = rolls["1-real.wav"]
    given = harmonisation.highest_voice(real)
    assert torch.equal(rolls["1-given.wav"], real * given)
    for draw in ("1-drawn-1.wav", "1-drawn-2.wav"):
        assert torch.equal(rolls[draw][given], real[given])
    assert len(record["numbers"]) == 3


def test_a_model_of_something_else_is_refused(project: Path) -> None:
    with pytest.raises(UserError, match="expected a model of sounds, got one of"):
        run_uses.run("continuation", NAME, ["num_sounds=1"])
