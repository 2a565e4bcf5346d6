"""Folders of sounds of the user's: formats, tables, and one line for each flaw."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from pipeline.data.manifest import read_manifest
from pipeline.datasets import adding, catalog
from pipeline.datasets.base import Dataset, Sound
from pipeline.datasets.formats import sound_files
from pipeline.datasets.formats.sound_files import Hearing
from pipeline.datasets.user import user_data
from pipeline.training import first_experiment
from tests.support import own_files
from tests.support.own_files import own, shards, write_sound
from tests.support.refusals import refused


def write_sounds(count: int, table: str | None = None, where: str = "t.csv") -> None:
    for i in range(count):
        write_sound(Path(f"s/{i}.wav"), 300)
    if table is not None:
        Path(where).write_text(table)


def test_flac_and_ogg_are_read_and_resampled() -> None:
    write_sound(Path("s/a.wav"), 800)
    write_sound(Path("s/b.flac"), 800)
    write_sound(Path("s/c.ogg"), 1600, rate=16000)
    write_sound(Path("s/d.flac"), 800, channels=2)
    write_sounds(16)
    guessed = catalog.module_of_kind("wav_folder").guess("mine", "s", {})
    assert guessed == {"sample_rate": 8000, "resample": True, "mix": True, "table": ""}
    dataset = own("wav_folder", path="s", **guessed)
    assert dataset.sound is not None and dataset.sound.max_length == 800
    assert "resampled to 8000 Hz where they had another rate; the mean of" in dataset.provenance
    shards(dataset)
    told = {fact.name for fact in dataset.facts()}  # type: ignore[attr-defined]
    assert told == {"files", "sounds"}, "no speakers, and no symbols"
    entries = {entry.file.name: entry.file for entry in dataset.entries}  # type: ignore[attr-defined]
    hearing = Hearing(8000, resample=True, mix=True)
    plain = sound_files.read_samples(entries["a.wav"], Hearing(8000), "a.wav")
    for name, most in (("a.wav", 1e-9), ("b.flac", 1e-4), ("d.flac", 1e-4), ("c.ogg", 0.05)):
        heard = sound_files.read_samples(entries[name], hearing, name)
        assert len(heard) == 800 and np.abs(heard - plain)[100:-100].max() < most


def test_texts_of_phones() -> None:
    rows = "".join(f"{i}.wav,AH N\n" for i in range(10))
    write_sounds(10, "file,text\n" + rows, "s/table.csv")
    dataset = own("wav_folder", path="s", sample_rate=8000, table="s/table.csv", symbols="words")
    assert dataset.sound is not None
    assert dataset.sound.symbols == ("AH", "N") and dataset.sound.max_symbols == 2


@pytest.mark.parametrize("subtype", ["PCM_16", "PCM_24", "FLOAT"])
@pytest.mark.parametrize("header", ["WAV", "WAVEX"])
def test_waves_of_any_width_and_of_reals_are_read(subtype: str, header: str) -> None:
    values = np.linspace(-0.5, 0.5, 300)
    soundfile.write("a.wav", values, 8000, format=header, subtype=subtype)
    assert sound_files.count_samples(Path("a.wav"), Hearing(8000), "a.wav") == 300
    heard = sound_files.read_samples(Path("a.wav"), Hearing(8000), "a.wav")
    np.testing.assert_allclose(heard, values, atol=1e-4 if subtype == "PCM_16" else 1e-6)
    content = Path("a.wav").read_bytes()
    Path("a.wav").write_bytes(content[:-100])
    with refused("a.wav: expected samples as many as the header says, whole"):
        sound_files.count_samples(Path("a.wav"), Hearing(8000), "a.wav")


@pytest.mark.parametrize(("peak", "rate"), [(1.4, 8000), (1.6, 8000), (32767.0, 16000)])
def test_reals_that_are_no_amplitudes_are_refused(peak: float, rate: int) -> None:
    values = np.sin(np.arange(400) / 5) * 0.9
    values[100] = -peak
    soundfile.write("a.wav", np.stack([values, values / 9], 1), rate, subtype="FLOAT")
    hearing = Hearing(8000, resample=True, mix=True)
    if peak < sound_files.LOUDEST:
        assert np.abs(sound_files.read_samples(Path("a.wav"), hearing, "a.wav")).max() <= 1
        return
    wanted = rf"a.wav: expected amplitudes in \[-1, 1\] .*, got 'a peak of {peak:g}'"
    with refused(wanted):
        sound_files.read_samples(Path("a.wav"), hearing, "a.wav")


def test_what_is_no_number_is_refused_in_sounds() -> None:
    values = np.zeros((300, 2))
    values[7, 1] = np.nan
    Path("s").mkdir()
    soundfile.write("s/a.wav", values, 8000, subtype="FLOAT")
    write_sounds(19)
    with refused("a.wav: expected finite numbers, got 'NaN or infinity'"):
        shards(own("wav_folder", path="s", sample_rate=8000, mix=True))


def test_a_row_of_a_table_of_sounds_without_text_is_named() -> None:
    rows = "".join(f'{i}.wav,"two\nlines"\n\n' for i in range(2))
    write_sounds(10, f"file,text\n{rows}9.wav,\n")
    with refused("t.csv: row 6: expected a text, got 'none'"):
        own("wav_folder", path="s", sample_rate=8000, table="t.csv")


def test_columns_of_a_table_of_sounds_are_found_or_told() -> None:
    rows = [f'{i}.wav,"a text",{"ab"[i % 2]}' for i in range(10)]
    given = {"path": "s", "sample_rate": 8000, "table": "t.csv", "test_fraction": 0.2}
    write_sounds(10, "\n".join(["file ,text, speaker", *rows]))
    dataset = own("wav_folder", **given)
    assert dataset.sound is not None and dataset.sound.speakers == ("a", "b")
    Path("t.csv").write_text("\n".join(["file,text,Speaker", *rows]))
    dataset = own("wav_folder", **given)
    assert dataset.sound is not None and dataset.sound.speakers == ("",)
    Path("t.csv").write_text("\n".join(["file,speaker,speaker ", *rows]))
    with refused("columns: expected different names, got 'speaker twice'"):
        own("wav_folder", **given)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "a.flac: expected 16000 Hz .or option resample., got 8000"),
        ({"sample_rate": 8000}, "stereo.flac: expected one channel .or option mix., got 2"),
        ({"sample_rate": 10}, "option sample_rate of dataset 'mine': expected 1000 to 384000"),
        ({"sample_rate": 8000, "mix": True}, "x.ogg: expected a WAV, FLAC or Ogg file"),
        ({"table": "u.csv"}, "u.csv: expected a table of text: .* line 3, saw 3"),
        ({"table": "t.csv"}, "t.csv: row 2: expected a path relative to .*, got '../a.flac'"),
    ],
)
def test_bad_sounds_get_one_line(options: dict[str, Any], message: str) -> None:
    write_sound(Path("s/a.flac"), 300)
    write_sound(Path("s/stereo.flac"), 300, channels=2)
    Path("s/x.ogg").write_bytes(b"OggS nothing")
    Path("t.csv").write_text("file,speaker\n../a.flac,me\n")
    Path("u.csv").write_text("file,speaker\na.flac,me\nstereo.flac,you,there\n")
    with refused(message):
        own("wav_folder", path="s", **options)


def test_long_sounds_have_parts_and_shards_of_fewer(monkeypatch: pytest.MonkeyPatch) -> None:
    own_files.write_recordings(Path("recordings"))
    monkeypatch.setattr(user_data, "PART_BYTES", 3000)
    dataset, _ = adding.add("wav_folder", "prompts", "recordings", [])
    longest = dataset.sound.max_length  # type: ignore[union-attr]
    assert dataset.options.rows_per_shard == 3000 // (longest + 8 * 3)
    train = dataset.decode(Path())["train"]
    parts = [len(part.x) for part in train.parts]  # type: ignore[union-attr]
    assert max(parts) == 3000 // longest and sum(parts) == train.rows  # type: ignore[union-attr]


# Folders with a table


def folder_of(cells: str | None = None, **options: Any) -> Dataset:
    for number in range(12):
        write_sound(Path(f"wavs/{number % 3}/{number}.wav"), 50 + number)
    given = {"path": "wavs", "sample_rate": 8000}
    if cells is not None:
        Path("t.csv").write_text(cells)
        given["table"] = "t.csv"
    return own("wav_folder", **given | options)


def test_wav_folder() -> None:
    dataset = folder_of(test_fraction=0.25)
    assert dataset.sound == Sound(8000, 61, 0, ("",), ())
    assert [len(split) for split in shards(dataset).values()] == [8, 1, 3]


def test_wav_folder_with_speakers_and_texts() -> None:
    table = "speaker,file,text\n" + "".join(
        f"s{number % 2},{number % 3}/{number}.wav,{'ab' * (1 + number % 2)}\n"
        for number in range(12)
    )
    dataset = folder_of(table, test_fraction=0.2)
    assert dataset.sound == Sound(8000, 61, 4, ("s0", "s1"), ("a", "b"))
    labels = np.concatenate([split.labels for split in shards(dataset).values()])
    assert sorted(labels[:, 0].tolist()) == list(range(50, 62))
    row = labels[labels[:, 0] == 51][0]
    assert row.tolist() == [51, 1, 4, 0, 1, 0, 1]
    assert read_manifest("shards").sound == dataset.sound


@pytest.mark.parametrize(
    ("table", "options", "message"),
    [
        (None, {"path": "nowhere"}, "option path of dataset 'mine': expected an existing folder"),
        (None, {"table": "nowhere.csv"}, "option table of dataset 'mine': expected an existing"),
        (
            None,
            {"test_fraction": 0.0},
            "option test_fraction of dataset 'mine': expected in (0",
        ),
        ("file\n0/0.wav\n", {}, "expected the columns file, speaker, text, got ['file']"),
        ("file,text\n0/0.wav,a\n0/0.wav,a\n", {}, "row 3: "),
        ("file,text\n0/7.wav,a\n", {}, "7.wav: not found"),
        ("file,text\n0/0.wav,\n", {}, "row 2: expected a text, got 'none'"),
        ("file,text\n", {}, "expected rows below the header, got 'none'"),
    ],
)
def test_bad_folders_get_one_line(table: str | None, options: dict, message: str) -> None:
    with refused(re.escape(message)):
        folder_of(table, **options)


def test_what_sounds_come_with_is_in_the_entry_to_begin_with() -> None:
    rows = "".join(f"{i}.wav,{('ann', 'bob')[i % 2]},null\n" for i in range(20))
    write_sounds(20, f"file,speaker,text\n{rows}", "s/table.csv")
    dataset, found = adding.add("wav_folder", "mine", "s", ["test_fraction=0.1"])
    told = {"num_classes": 2, "local_classes": 3}
    assert first_experiment.suggested_model(dataset) == ("wavenet", told)
    assert {"speakers: ann, bob", "symbols: l, n, u"} < set(map(str, found))
