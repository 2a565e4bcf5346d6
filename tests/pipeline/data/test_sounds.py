"""Sounds: WAV files, datasets of them, windows, and that no padding ever counts."""

import dataclasses
import gzip
import json
import math
import shutil
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

import arcore
from arcore.events import Levels
from arcore.models.wavenet import WaveNet
from pipeline.core.errors import UserError
from pipeline.data import preprocessing, shard_reader, sound_batches
from pipeline.data.manifest import read_manifest
from pipeline.data.shuffling import BatchPlan
from pipeline.datasets import base, catalog
from pipeline.datasets.base import Sound, SplitData
from pipeline.datasets.embedded import tones
from pipeline.datasets.formats import sound_files
from pipeline.datasets.formats.sound_files import Hearing
from pipeline.datasets.sounds import spoken_digits
from pipeline.evaluation import (
    audio_figures,
    baselines,
    experiment_evaluation,
    scoring,
    sound_codecs,
)
from pipeline.evaluation.scoring import ChosenRows
from pipeline.experiments import compose
from pipeline.registry import registration
from pipeline.reporting import comparison
from pipeline.training import resolved
from tests.places import MIRROR
from tests.support import reports, titles
from tests.support.measured_files import TRAINING
from tests.support.own_files import write_sound

SMALL = {"width": 4, "gate_width": 3, "skip_width": 10, "cycle": 3, "num_blocks": 1}
CONDITIONS = [
    {},
    {"num_classes": 2},
    {"local_classes": 2, "local_strides": [5]},
    {"num_classes": 2, "local_classes": 2, "local_strides": [2, 3]},
]
every_condition = pytest.mark.parametrize("condition", CONDITIONS, ids=lambda c: ",".join(c))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    dataset = catalog.get_dataset({"name": "tones"})
    where = tmp_path_factory.mktemp("tones")
    return preprocessing.write(dataset, dataset.decode(where), where / "shards")


def build(**condition: object) -> WaveNet:
    torch.manual_seed(0)
    model = arcore.create_model("wavenet", Levels(16, (None,)), **SMALL, **condition).double()
    assert isinstance(model, WaveNet)
    return model


# -- WAV files


def test_waves_go_around(tmp_path: Path) -> None:
    levels = np.arange(256, dtype=np.uint8)
    (tmp_path / "a.wav").write_bytes(sound_files.wave_bytes(levels, 256, 8000))
    assert np.array_equal(
        sound_files.encode(sound_files.read_samples(tmp_path / "a.wav", Hearing(8000), "a")), levels
    )
    assert sound_files.count_samples(tmp_path / "a.wav", Hearing(8000), "a") == 256


# -- datasets


def test_spoken_digits_from_an_archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spoken_digits, "SPEAKERS", ("ann", "bob"))
    sound = Sound(8000, 200, 1, ("ann", "bob"), tuple("0123456789"))
    takes = {"test": range(0, 1), "valid": range(1, 2), "train": range(2, 4)}
    built = catalog.get_dataset({"name": "spoken_digits"})
    dataset = spoken_digits.SpokenDigits(
        **{**vars(built), "sound": sound, "takes": takes}  # the archive in small
    )
    archive = tmp_path / built.files[0].name
    with tarfile.open(archive, "w") as tar:
        for digit in range(10):
            for speaker in ("ann", "bob"):
                for take in range(4):
                    name = f"{digit}_{speaker}_{take}.wav"
                    write_sound(tmp_path / name, 100 + digit + 20 * take)
                    tar.add(tmp_path / name, f"fsdd/recordings/{name}")
    splits = dataset.decode(tmp_path)
    assert {split: len(data.x) for split, data in splits.items()} == {
        "test": 20, "valid": 20, "train": 40,
    }  # fmt: skip
    labels = splits["train"].labels
    assert labels is not None and labels[-1].tolist() == [169, 1, 1, 9]
    expected = sound_files.encode(
        sound_files.read_samples(tmp_path / "9_bob_3.wav", Hearing(8000), "x")
    )
    assert np.array_equal(splits["train"].x[-1, :169], expected)
    assert not splits["train"].x[-1, 169:].any()


def test_spoken_digits_from_the_mirror(tmp_path: Path) -> None:
    place = MIRROR / "fsdd"
    if not place.is_dir():
        pytest.skip(f"needs {place}")
    dataset = catalog.get_dataset({"name": "spoken_digits"})
    raw = dataset.files[0].name
    with gzip.open(place / f"{raw}.gz") as packed, open(tmp_path / raw, "wb") as out:
        shutil.copyfileobj(packed, out)
    splits = dataset.decode(tmp_path)
    lengths = [data.labels[:, 0] for data in splits.values()]
    assert [len(rows) for rows in lengths] == [2400, 300, 300]
    assert max(rows.max() for rows in lengths) == spoken_digits.SOUND.max_length


def test_tones_have_the_entropy_that_they_say() -> None:
    dataset = catalog.get_dataset({"name": "tones"})
    x = np.array([[3, 12, 7, 8, 1, 15, 15]], np.uint8)
    one = SplitData(x, np.array([[6, 0, 1, 1]]))  # the last level is padding
    nats = 0.0
    for t in range(6):
        near = x[0, t - 1] - 7.5 if t >= 1 else 0
        echo = x[0, t - 4] - 7.5 if t >= 4 else 0
        mean = 7.5 + 0.25 * near - 0.7 * echo
        masses = [np.exp(-((v - mean) ** 2) / (2 * 1.6**2)) for v in range(16)]
        nats -= np.log(masses[x[0, t]] / sum(masses))
    assert dataset.source_nats(one).tolist() == pytest.approx([nats])


def test_wrong_labels_are_refused(tmp_path: Path) -> None:
    dataset = catalog.get_dataset({"name": "tones"})
    good = dataset.decode(tmp_path)["valid"]
    for column, value, name in ((0, 0, "lengths"), (1, 2, "speakers"), (3, 2, "symbols")):
        labels = good.labels.copy()
        labels[0, column] = value
        bad = dict.fromkeys(base.SPLITS, SplitData(good.x, labels))
        with pytest.raises(UserError, match=f"expected {name} in"):
            preprocessing.write(dataset, bad, tmp_path / "shards")


# -- windows


@pytest.mark.parametrize("window", [None, 1, 64, 1000])
@pytest.mark.parametrize("world", [1, 2])
def test_an_epoch_covers_every_sample_exactly_once(
    folder: Path, window: int | None, world: int
) -> None:
    model = build(num_classes=2)
    split = shard_reader.read_split(folder, "test")
    total, seen, offsets = 0, 0, []
    rows = 500 if window == 1 else 50
    loaders = [
        sound_batches.SoundLoader(folder, "test", model, BatchPlan(
            rank=rank, world_size=world, batch_size=rows, seed=3, window=window,
        ))
        for rank in range(world)
    ]  # fmt: skip
    for batches in zip(*(loader.epoch(5) for loader in loaders), strict=True):
        assert sum(len(batch) for batch in batches) == batches[0].rows
        for batch in batches:
            x, spans = batch.x, batch.scored
            assert (spans[:, 1] > spans[:, 0]).all()
            assert 0 <= x.shape[1] - spans[:, 1].max() < sound_batches.GRAIN
            assert window is None or (spans[:, 1] - spans[:, 0]).max() <= window
            seen += int((spans[:, 1] - spans[:, 0]).sum())
            for row, (first, end) in zip(x, spans.tolist(), strict=True):
                total += int(row[first:end].long().sum())
            offsets += spans[:, 0].tolist()
    lengths = sound_batches.lengths(split)
    assert seen == lengths.sum()
    assert total == sum(int(x[:n].sum()) for x, n in zip(split.x, lengths, strict=True))
    if window == 64:
        assert max(offsets) == model.receptive_field  # no more context than there is use for
        other = next(iter(loaders[0].epoch(6))).scored
        assert not torch.equal(other, next(iter(loaders[0].epoch(5))).scored)
        again, first = next(iter(loaders[0].epoch(5, 2))), list(loaders[0].epoch(5))[2]
        assert torch.equal(again.x, first.x) and torch.equal(again.scored, first.scored)


@every_condition
def test_windows_add_up_to_whole_rows(folder: Path, condition: dict) -> None:
    model = build(**condition)
    loader = sound_batches.SoundLoader(folder, "valid", model, BatchPlan(batch_size=16, window=70))
    with torch.no_grad():
        windows = sum(
            model(batch.x, batch.condition, batch.scored).sum() for batch in loader.epoch(1)
        )
        rows = sum(
            model(batch.x, batch.condition, batch.scored).sum() for batch in loader.sequential(7)
        )
    assert float(windows) == pytest.approx(float(rows), rel=1e-10)
    assert loader.events_per_row * loader.rows == 40


@every_condition
def test_evaluation_scores_rows_in_their_order(folder: Path, condition: dict) -> None:
    model, split = build(**condition), shard_reader.read_split(folder, "test")
    chosen = np.array([3, 50, 7, 20])
    scores = scoring.scores(model, ChosenRows(split, chosen, 3))
    for score, row in zip(scores.tolist(), chosen, strict=True):
        (alone,) = scoring.scores(model, ChosenRows(split, np.array([row]), 1)).tolist()
        assert score == pytest.approx(alone, rel=1e-10)
        length, speaker, count, *symbols = split.labels[row].tolist()
        frames = -(-length // model.hop) if "local_classes" in condition else 0
        said = [symbols[f * count // frames] for f in range(frames)]
        numbers = [[speaker] * ("num_classes" in condition) + said]
        given = torch.tensor(numbers) if numbers[0] else None
        if given is not None and not said:
            given = given[:, 0]
        x = torch.from_numpy(split.x[row, None, :length])
        assert score == pytest.approx(-model.of_length(length).log_prob(x, given).item(), rel=1e-10)
    sampler, given = sound_batches.to_sample(model, split, chosen)
    drawn = sampler.sample(4, given)
    assert drawn.shape == (4, sound_batches.lengths(split)[chosen].max())


def test_splits_that_do_not_fit_in_memory_are_refused(folder: Path) -> None:
    with pytest.raises(UserError, match=r"trainer.shuffle_rows: expected >= 960, all rows"):
        sound_batches.SoundLoader(folder, "train", build(), BatchPlan(shuffle_rows=100))


@pytest.mark.parametrize(
    ("hyperparameters", "name"),
    [({"num_classes": 3}, "num_classes"), ({"local_classes": 5}, "local_classes")],
)
def test_conditions_must_fit_the_data(folder: Path, hyperparameters: dict, name: str) -> None:
    manifest = read_manifest(folder)
    with pytest.raises(UserError, match=f"model.{name}: expected null or 2, got"):
        resolved.check_condition(build(**hyperparameters), manifest)
    with pytest.raises(UserError, match="model.local_size: expected null"):
        resolved.check_condition(build(local_size=2), manifest)


# -- what is shown


def test_pairs_are_written_and_drawn(folder: Path, tmp_path: Path) -> None:
    split = shard_reader.read_split(folder, "test")
    labels = split.labels[:2]
    shown = split.x[1:3], split.x[:2], labels, Levels(16, (None,)), tones.SOUND
    figure = audio_figures.write_pairs(tmp_path, *shown)
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["0-real.wav", "0-sample.wav", "0.txt", "1-real.wav", "1-sample.wav", "1.txt"]
    assert (tmp_path / "1.txt").read_text() == "long clear\n"
    assert sound_files.count_samples(tmp_path / "0-real.wav", Hearing(8000), "x") == labels[0, 0]
    assert len(figure.axes) == 4


def test_texts_that_look_like_mathematics_are_drawn(folder: Path, tmp_path: Path) -> None:
    split = shard_reader.read_split(folder, "test")
    sound = dataclasses.replace(tones.SOUND, speakers=("$_$", r"$\frac$"), symbols=("$^$", "$_$"))
    shown = split.x[1:3], split.x[:2], split.labels[:2], Levels(16, (None,)), sound
    audio_figures.write_pairs(tmp_path, *shown).canvas.draw()


def test_long_texts_do_not_run_into_each_other(tmp_path: Path) -> None:
    text = "the conference is now muted and you are the only one in it"
    symbols = tuple(sorted(set(text)))
    sound = Sound(8000, 8000, len(text), ("en_US_f_Allison",), symbols)
    label = [8000, 0, len(text), *map(symbols.index, text)]
    x = np.full((3, 8000), 128, np.uint8)
    shown = x, x, np.array([label] * 3), Levels(256, (None,)), sound
    assert list(titles.overlapping(audio_figures.write_pairs(tmp_path, *shown))) == []


def test_a_report_plays_sounds_and_says_how_far_the_source_is(folder: Path, home: Path) -> None:
    shutil.copytree(folder, "data/shards/tones")
    model = build().float()
    where = Path("models/toy")
    arcore.save(model, where)
    described = {
        "model": {"name": "wavenet"} | model.hyperparameters.to_dict(),
        "event": arcore.events.to_dict(model.event),
        "dataset_sha256": read_manifest(folder).sha256,
    }
    (where / "config.yaml").write_text(yaml.safe_dump(described))
    (where / "training.json").write_text(json.dumps(TRAINING | {"experiment": "toy"}))
    (where / "history.csv").write_text(
        "epoch,train_nats,valid_nats,valid_bits_per_dim\n1,810.0,800.0,3.9\n2,720.0,700.0,3.5\n"
    )
    shape = model.hyperparameters.to_dict()
    limits = {"num_test_rows": 9, "num_samples": 2}
    entry = {
        "dataset": "tones", "model": "wavenet", "model_overrides": shape, "evaluation": limits,
    }  # fmt: skip
    Path("params.yaml").write_text(yaml.safe_dump({"experiments": {"toy": entry}}))
    out = experiment_evaluation.evaluate(compose.load("toy"))
    metrics = json.loads((out / "metrics.json").read_text())
    assert metrics["receptive_field"] == model.receptive_field
    assert metrics["excess_nats"] == pytest.approx(metrics["nats"] - metrics["entropy_nats"])
    chosen, nats = np.loadtxt(out / "scores.csv", delimiter=",", skiprows=1, unpack=True)
    test = shard_reader.read_split(folder, "test")
    assert test.labels is not None and len(nats) == 9
    lengths = test.labels[chosen.astype(int), 0]
    bits = nats.sum() / lengths.sum() / math.log(2)
    assert metrics["mean_size"] == pytest.approx(lengths.mean())
    assert metrics["bits_per_dim"] == pytest.approx(bits)
    residuals = nats / math.log(2) - bits * lengths  # of a ratio of sums
    stderr = residuals.std(ddof=1) / 3 / lengths.mean()
    assert metrics["bits_per_dim_stderr"] == pytest.approx(stderr)
    source = catalog.get_dataset({"name": "tones"}).source_nats(test)
    assert source is not None
    assert metrics["entropy_nats"] == pytest.approx(source[chosen.astype(int)].mean())
    assert metrics["excess_nats"] > 5 * metrics["excess_nats_stderr"], "the network is untrained"
    assert (out / "samples.png").is_file()

    baselines.write("tones")
    report = comparison.build_report("tones")
    (row,) = report.rows
    bits = metrics["excess_nats"] / metrics["mean_size"] / math.log(2)
    assert row.above_entropy is not None and row.above_entropy[0] == pytest.approx(bits)
    table = reports.markdown(report)
    assert "| entropy bound | above it " in table
    (source,) = (line for line in table.splitlines() if line.startswith("| the source itself"))
    assert [cell.strip() for cell in source.split("|")][6:8] == ["-", "-"]
    assert f"(receptive_field={model.receptive_field})" in table

    registration.write("tones")
    registered = json.loads(Path("registry/tones/registration.json").read_text())
    assert list(registered["experiments"]) == ["toy"]
    page = reports.page(report)
    assert page.count("data:audio/wav;base64,") == 2 * len(audio_figures.KINDS)


# -- baselines


def test_back_off_is_a_distribution_and_uses_its_context() -> None:
    rows = [np.array([0, 1, 2, 0, 1, 2, 0, 1], np.uint8), np.array([2, 0, 1], np.uint8)]
    data = sound_files.rows([sound_files.Utterance(x) for x in rows], Sound(8000, 8, 0, ("",), ()))
    split = SplitData(data.x, data.labels, None)
    model = sound_codecs.BackOff(split, 3, (1.0, 1.0))
    every = [np.array([a, b, c]) for a in range(3) for b in range(3) for c in range(3)]
    for order in range(3):
        total = sum(np.exp(-model.nats(x, order)) for x in every)
        assert total == pytest.approx(1)
    # counts of 0, 1, 2 are 4, 4 and 3 of 11; half a count each is added
    expected = -np.log([4.5 / 12.5, 4.5 / 12.5, 3.5 / 12.5]).sum()
    assert model.nats(np.array([0, 1, 2]), 0) == pytest.approx(expected)
    assert model.nats(rows[0], 2) < model.nats(rows[0], 1) < model.nats(rows[0], 0)
    other = sound_codecs.BackOff(split, 3, (256.0, 256.0))
    for fitted in (model, other):
        fitted.fit_strengths(split)
        assert fitted.strengths == (1.0, 1.0)


def test_baselines_are_measured_on_real_samples_alone(folder: Path) -> None:
    dataset = catalog.get_dataset({"name": "tones"})
    splits = [shard_reader.read_split(folder, split) for split in base.SPLITS]
    measured = sound_codecs.measure_all(dataset, Levels(16, (None,)), tones.SOUND, *splits)
    bits = {one.label.split(" (")[0]: one.score.bits_per_dim for one in measured}
    assert bits["uniform"] == pytest.approx(4, abs=1e-12)
    assert 0 < bits["FLAC level 8"] <= bits["FLAC"]
    assert (
        bits["the source itself"]
        < bits["order-2 counts with back-off"]
        < bits["marginal histogram"]
        < bits["uniform"]
    )
    garbage = splits[2].x.copy()
    for x, length in zip(garbage, sound_batches.lengths(splits[2]), strict=True):
        x[length:] = 9
    padded = SplitData(garbage, splits[2].labels, None)
    again = sound_codecs.measure_all(dataset, Levels(16, (None,)), tones.SOUND, *splits[:2], padded)
    assert again == measured
