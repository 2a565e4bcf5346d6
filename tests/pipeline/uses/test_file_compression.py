"""Files to archives and back: what comes out is what went in, or one line says why not."""

from __future__ import annotations

import io
import json
import math
import shutil
import struct
import wave
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

import arcore
from arcore import coding
from arcore.coded_batches import LONGEST
from arcore.events import Binary, Event, Levels
from pipeline.core.errors import UserError
from pipeline.datasets.formats import sound_files
from pipeline.datasets.formats.sound_files import Hearing
from pipeline.uses import coded_archive, file_compression
from pipeline.uses.file_compression import compress, decompress
from stages import cli
from stages import compress as command
from stages import decompress as decompress_command

GRAY = Levels(256, (1, 4, 5))
RGB = Levels(256, (3, 4, 5))
BITS = Binary((1, 4, 5))
FEW = Levels(17, (1, 4, 5))
SOUND = Levels(256, (None,))


def save_model(folder: Path, event: Event, name: str = "nade", **hyperparameters: object) -> Path:
    torch.manual_seed(0)
    arcore.save(arcore.create_model(name, event, **hyperparameters), folder)
    return folder


def sound_model(folder: Path, **hyperparameters: object) -> Path:
    small = {"width": 4, "gate_width": 4, "skip_width": 8, "cycle": 2, "num_blocks": 1}
    return save_model(folder, SOUND, "wavenet", **small, **hyperparameters)


def some_levels(event: Levels, count: int = 1) -> np.ndarray:
    return np.random.default_rng(0).integers(0, event.num_levels, (count, *event.extents))


def write_png(path: Path, pixels: np.ndarray, mode: str | None = None) -> np.ndarray:
    picture = Image.fromarray(pixels.astype(np.uint8))
    (picture if mode is None else picture.point(lambda v: v, mode)).save(path)
    return np.array(Image.open(path))


def write_wav(path: Path, length: int, rate: int = 8000, seed: int = 0) -> bytes:
    levels = np.random.default_rng(seed).integers(0, 256, length)
    path.write_bytes(sound_files.wave_bytes(levels, 256, rate))
    return path.read_bytes()


def there_and_back(folder: Path, files: list[Path], model: Path, **options: object) -> Path:
    archive, out = folder / "x.arc", folder / "out"
    compress(files, model, archive, **options)
    decompress(archive, model, out)
    return out


def refuses_to_decode(archive: Path, message: str) -> None:
    """Check that an archive next to its model is refused, and nothing written."""
    out = archive.parent / "out"
    with pytest.raises(UserError, match=message):
        decompress(archive, archive.parent / "model", out)
    assert not out.exists()


def refuses_to_code(path: Path, model: Path, message: str, **options: object) -> None:
    """Check that a file is refused, and nothing written."""
    out = path.parent / "refused.arc"
    with pytest.raises(UserError, match=message):
        compress([path], model, out, **options)
    assert not out.exists()


@pytest.mark.parametrize("event", [GRAY, RGB, BITS, FEW, Levels(256, (4, 5))], ids=str)
def test_pictures(event: Levels, tmp_path: Path) -> None:
    model = save_model(tmp_path / "model", event, hidden=2)
    files, pixels = [], {}
    for number, levels in enumerate(some_levels(event, 3)):
        values = np.rint(levels * (255 / (event.num_levels - 1)))
        shown = values.reshape(-1, 4, 5)
        image = shown[0] if len(shown) == 1 else shown.transpose(1, 2, 0)
        files.append(tmp_path / f"{number}.png")
        mode = "1" if event is BITS and number else None
        pixels[f"{number}.png"] = write_png(files[-1], image, mode)
    out = there_and_back(tmp_path, files, model)
    assert sorted(path.name for path in out.iterdir()) == sorted(pixels)
    for name, expected in pixels.items():
        with Image.open(tmp_path / name) as was, Image.open(out / name) as now:
            assert (was.mode, was.size) == (now.mode, now.size)
            assert np.array_equal(np.array(now), expected)


def test_every_level_of_a_sound_survives() -> None:
    levels = np.arange(256)
    data = sound_files.wave_bytes(levels, 256, 8000)
    assert (
        sound_files.encode(sound_files.read_samples(io.BytesIO(data), Hearing(8000), "")) == levels
    ).all()


def test_sounds_of_several_lengths_and_rates(tmp_path: Path) -> None:
    model = sound_model(tmp_path / "model", num_classes=3)
    contents = {}
    for number, (length, rate) in enumerate([(30, 8000), (1, 16000), (30, 8000)]):
        contents[f"{number}.wav"] = write_wav(tmp_path / f"{number}.wav", length, rate, number)
    files = [tmp_path / name for name in contents]
    out = there_and_back(tmp_path, files, model, classes=[2, 0, 1])
    assert {path.name: path.read_bytes() for path in out.iterdir()} == contents
    entries, streams = coded_archive.unpack((tmp_path / "x.arc").read_bytes(), Path("x.arc"))
    assert [entry.classes for entry in entries] == [(2,), (0,), (1,)] and len(streams) == 1


def test_sounds_under_speakers_and_texts(tmp_path: Path) -> None:
    options = {"num_classes": 3, "local_classes": 4, "local_strides": [2]}
    model = sound_model(tmp_path / "model", **options)
    files = [tmp_path / f"{number}.wav" for number in range(2)]
    contents = [write_wav(path, 20 + i, 8000, i) for i, path in enumerate(files)]
    texts = [(3, 1), (0,)]
    out = there_and_back(tmp_path, files, model, classes=[2, 0], symbols=texts)
    assert [(out / path.name).read_bytes() for path in files] == contents
    entries, (stream,) = coded_archive.unpack((tmp_path / "x.arc").read_bytes(), Path("x.arc"))
    assert [entry.symbols for entry in entries] == texts
    lengths = coding.lengths_of(stream)
    assert lengths is not None and lengths.tolist() == [21, 20], "the longest first"
    for symbols in ([], [(4,)], [()], [(0,)] * 3):
        with pytest.raises(UserError, match=r"symbols: expected one text for all files, or 2, of"):
            compress(files, model, tmp_path / "y.arc", classes=[0], symbols=symbols)
    plain = sound_model(tmp_path / "plain")
    with pytest.raises(UserError, match="symbols: expected none for a model without a text"):
        compress(files, plain, tmp_path / "y.arc", symbols=[(0,)])
    assert not (tmp_path / "y.arc").exists()


def test_a_sound_between_levels_is_refused_or_quantised(tmp_path: Path) -> None:
    model = sound_model(tmp_path / "model")
    path = tmp_path / "a.wav"
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(8000)
        file.writeframes(np.arange(-500, 500, 7).astype("<i2").tobytes())
    refuses_to_code(path, model, r"a.wav: expected 16-bit samples .*\(--quantize takes")
    out = there_and_back(tmp_path, [path], model, quantize=True)
    was, now = (sound_files.read_samples(p, Hearing(8000), p) for p in (path, out / "a.wav"))
    assert np.abs(was - now).max() < 1e-3
    assert (sound_files.encode(was) == sound_files.encode(now)).all()


@pytest.mark.parametrize("labelled", [False, True])
def test_parquet_rows(labelled: bool, tmp_path: Path) -> None:
    model = save_model(tmp_path / "model", FEW, num_classes=4 if labelled else None)
    rows = some_levels(FEW, 9).astype(np.uint8)
    columns = {"x": pa.array([row.tobytes() for row in rows], pa.binary(20))}
    if labelled:
        columns["label"] = pa.array(np.arange(9) % 4)
    table = pa.table(columns)
    pq.write_table(table, tmp_path / "rows.parquet")
    out = there_and_back(tmp_path, [tmp_path / "rows.parquet"], model)
    assert pq.read_table(out / "rows.parquet").equals(table)


def test_relative_paths_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = save_model(tmp_path / "model", GRAY)
    monkeypatch.chdir(tmp_path)
    for folder in ("a", "b"):
        Path(folder).mkdir()
        write_png(Path(folder, "x.png"), some_levels(GRAY)[0, 0])
    out = there_and_back(tmp_path, [Path("a/x.png"), Path("b/x.png")], model)
    found = sorted(path.relative_to(out).as_posix() for path in out.rglob("*.png"))
    assert found == ["a/x.png", "b/x.png"]
    with pytest.raises(UserError, match="files: expected names that differ, got 'x.png'"):
        compress([tmp_path / "a/x.png", tmp_path / "b/x.png"], model, tmp_path / "y.arc")
    Path("x.png").mkdir()
    shutil.copyfile("a/x.png", "x.png/y.png")
    for files in (
        [Path("x.png/y.png"), tmp_path / "a/x.png"],
        [tmp_path / "a/x.png", "x.png/y.png"],
    ):
        with pytest.raises(UserError, match="files: expected names that differ, got 'x.png"):
            compress([Path(file) for file in files], model, tmp_path / "y.arc")


def test_names_that_differ_by_case_alone_are_refused(tmp_path: Path) -> None:
    """Where a disk does not tell them apart, one would decode over the other."""
    model = save_model(tmp_path / "model", GRAY)
    for name in ("a.png", "A.png"):
        (tmp_path / name).touch()
        write_png(tmp_path / name, some_levels(GRAY)[0, 0])
    with pytest.raises(UserError, match="files: expected names that differ, got 'a.png'"):
        compress([tmp_path / "a.png", tmp_path / "A.png"], model, tmp_path / "y.arc")


@pytest.mark.parametrize("name", ["take 12:30.png", "a\\b.png", "why?.png", "\udcff.png"])
def test_names_that_decoding_refuses_are_refused_before_coding(name: str, tmp_path: Path) -> None:
    model = save_model(tmp_path / "model", GRAY)
    write_png(tmp_path / name, some_levels(GRAY)[0, 0])
    refuses_to_code(tmp_path / name, model, "expected a relative path without '..' or any of")


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """An archive of two pictures, of the model in `model`."""
    model = save_model(tmp_path / "model", GRAY)
    for number, levels in enumerate(some_levels(GRAY, 2)):
        write_png(tmp_path / f"{number}.png", levels[0])
    compress([tmp_path / "0.png", tmp_path / "1.png"], model, tmp_path / "x.arc")
    return tmp_path / "x.arc"


def test_damaged_archives_write_nothing(archive: Path, tmp_path: Path) -> None:
    """A byte changed, all over the archive, and cut off there."""
    data = archive.read_bytes()
    for place in range(0, len(data), 5):
        for bad in (
            data[:place] + bytes([data[place] ^ 0x10]) + data[place + 1 :],
            data[:place],
        ):
            archive.write_bytes(bad)
            with pytest.raises(UserError) as caught:
                decompress(archive, tmp_path / "model", tmp_path / "out")
            assert "\n" not in str(caught.value) and str(archive) in str(caught.value)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "name",
    ["/etc/x.png", "../x.png", "a/../../x.png", ".", "a//x.png", "C:/x.png", "a\\x.png", "a\0b"],
)
def test_names_that_lead_elsewhere_are_refused(name: str, archive: Path, tmp_path: Path) -> None:
    data = archive.read_bytes()
    entries, streams = coded_archive.unpack(data, archive)
    forged = [entries[0], entries[1].model_copy(update={"name": name})]
    archive.write_bytes(coded_archive.pack(forged, streams))
    refuses_to_decode(archive, "expected a relative path without '..'")


@pytest.mark.parametrize(
    "fields",
    [
        {"rows": 0}, {"rows": 2}, {"rows": 2.5}, {"kind": "exe"}, {"extents": "a"}, {"size": 3},
        {"classes": [1, 2]}, {"rows": 3}, {"extents": [4, 5]},
    ],
    ids=str,
)  # fmt: skip
def test_manifests_that_do_not_fit(
    fields: dict[str, object], archive: Path, tmp_path: Path
) -> None:
    data = archive.read_bytes()
    entries, streams = coded_archive.unpack(data, archive)
    described = [plain(entry) for entry in entries]
    described[0] |= fields
    archive.write_bytes(forged(described, streams))
    refuses_to_decode(archive, str(archive))


def test_a_manifest_has_a_size_that_is_stated(
    archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(coded_archive, "LARGEST_MANIFEST", 40)
    refuses_to_decode(archive, f"{archive}: expected a manifest of 40 bytes at most")
    picture = tmp_path / "again.png"
    shutil.copyfile(next(tmp_path.glob("*.png")), picture)
    refuses_to_code(picture, tmp_path / "model", "files: expected names, shapes and labels of 40")


def plain(entry: coded_archive.FileEntry) -> dict[str, object]:
    return entry.model_dump(exclude_defaults=True)


def forged(described: Sequence[dict[str, object]], streams: Sequence[bytes]) -> bytes:
    """An archive whose manifest says so of its files."""
    lengths = [len(stream) for stream in streams]
    text = json.dumps({"files": described, "streams": lengths})
    manifest = zlib.compress(text.encode())
    lead = coded_archive.LEAD.pack(b"ARCF", 1, len(manifest), zlib.crc32(manifest))
    return lead + manifest + b"".join(streams)


def test_an_archive_is_of_files_and_of_streams_of_whole_bytes(archive: Path) -> None:
    _, streams = coded_archive.unpack(archive.read_bytes(), archive)
    manifest = zlib.compress(b'{"files": [], "streams": [Infinity]}')
    lead = coded_archive.LEAD.pack(b"ARCF", 1, len(manifest), zlib.crc32(manifest))
    for damaged in (forged([], streams[:1]), forged([], []), lead + manifest):
        archive.write_bytes(damaged)
        refuses_to_decode(archive, r"x\.arc: truncated or damaged archive")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"rate": 0}, "truncated or damaged archive"),
        ({"rate": 1 << 31}, "truncated or damaged archive"),
        ({"extents": []}, "truncated or damaged archive"),
        ({"extents": [math.inf]}, "truncated or damaged archive"),
        ({"extents": [10**30]}, "truncated or damaged archive"),
        ({"extents": ["20"]}, "truncated or damaged archive"),
        ({"extents": [1 << 21]}, r"expected 2 rows of \(2097152,\), got \(2, 21\)"),
        ({"extents": [19]}, r"expected 2 rows of \(21,\), got \(2, 21\)"),
        ({"extents": [20, 5]}, r"expected 2 rows of \(21,\), got \(2, 21\)"),
        ({"classes": [10**30]}, "truncated or damaged archive"),
        ({"symbols": [10**30]}, "truncated or damaged archive"),
        ({"labels": [10**30]}, "truncated or damaged archive"),
        ({"labels": [True]}, "truncated or damaged archive"),
        ({"classes": [3]}, r"condition: expected classes in \[0, 3\)"),
        ({"symbols": [-1]}, "condition: expected "),
    ],
    ids=str,
)
def test_sounds_that_are_forged(fields: dict[str, object], message: str, tmp_path: Path) -> None:
    options = {"num_classes": 3, "local_classes": 4, "local_strides": [2]}
    model = sound_model(tmp_path / "model", **options)
    files, archive = [tmp_path / f"{number}.wav" for number in range(2)], tmp_path / "x.arc"
    for number, path in enumerate(files):
        write_wav(path, 20 + number, 8000, number)
    compress(files, model, archive, classes=[2, 0], symbols=[(3, 1)])
    entries, streams = coded_archive.unpack(archive.read_bytes(), archive)
    archive.write_bytes(
        forged(
            [
                plain(entries[0]) | fields,
                plain(entries[1]),
            ],
            streams,
        )
    )
    refuses_to_decode(archive, f"{archive}: {message}")


@pytest.mark.parametrize(
    ("event", "fields", "message"),
    [
        (Levels(256, (2, 4, 5)), {}, "one of gray or RGB pictures of at most 256 levels"),
        (GRAY, {"kind": "wav", "rate": 8000}, r"one of sounds \(T,\)"),
        (Levels(300, (1, 4, 5)), {"kind": "parquet"}, "one of events of one shape and at most"),
    ],
    ids=str,
)
def test_a_kind_of_file_that_has_no_such_rows(
    event: Levels, fields: dict[str, object], message: str, tmp_path: Path
) -> None:
    model, archive = save_model(tmp_path / "model", event, hidden=2), tmp_path / "x.arc"
    stream = coding.compress(arcore.load(model), torch.from_numpy(some_levels(event)))
    entry = {"name": "a", "kind": "png", "rows": 1, "extents": event.extents, "mode": "L"}
    archive.write_bytes(forged([entry | fields], [stream]))
    refuses_to_decode(archive, rf"x\.arc: a: model: expected {message}")


@pytest.mark.parametrize("rate", [0, 1 << 31, (1 << 32) - 1])
def test_a_sound_has_a_rate(rate: int, tmp_path: Path) -> None:
    model, path = sound_model(tmp_path / "model"), tmp_path / "a.wav"
    data = write_wav(path, 20)
    path.write_bytes(data[:24] + rate.to_bytes(4, "little") + data[28:])
    refuses_to_code(path, model, rf"a\.wav: expected a rate in \[1, 2\^31\) Hz, got {rate}")


def test_nothing_is_overwritten(archive: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="x.arc: expected no such file yet"):
        compress([tmp_path / "0.png"], tmp_path / "model", archive)
    with pytest.raises(UserError, match="expected a new or an empty folder, got 'one with files'"):
        decompress(archive, tmp_path / "model", tmp_path / "model")
    with pytest.raises(UserError, match=r"out: expected a path that ends in a folder.* '.'"):
        decompress(archive, tmp_path / "model", Path("."))


def test_what_appears_meanwhile_is_not_overwritten(
    archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Coding may take hours."""
    out, other = tmp_path / "out", tmp_path / "y.arc"
    code, decode = coding.compress, coding.decompress

    def with_files(*given: object, **options: object) -> object:
        out.mkdir(exist_ok=True)
        (out / "mine").write_text("kept")
        return decode(*given, **options)

    def with_archive(*given: object, **options: object) -> object:
        other.write_text("kept")
        return code(*given, **options)

    monkeypatch.setattr(coding, "decompress", with_files)
    with pytest.raises(UserError, match="out: expected a new or an empty folder"):
        decompress(archive, tmp_path / "model", out)
    monkeypatch.setattr(coding, "compress", with_archive)
    with pytest.raises(UserError, match="y.arc: expected no such file yet"):
        compress([tmp_path / "0.png"], tmp_path / "model", other)
    assert (out / "mine").read_text() == other.read_text() == "kept"
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_options_of_the_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given: dict[str, object] = {}
    monkeypatch.setattr(file_compression, "compress", lambda *_, **options: given.update(options))
    line = ["compress", "a.wav", "--model", "m", "--out", "x.arc"]
    monkeypatch.setattr("sys.argv", [*line, "--classes", "2", "0", "--symbols", "3,1", "4"])
    command.main()
    assert given["classes"] == [2, 0] and given["symbols"] == [(3, 1), (4,)]
    assert given["quantize"] is False
    monkeypatch.setattr("sys.argv", [*line, "--quantize"])
    command.main()
    assert given["quantize"] is True and given["symbols"] == []
    monkeypatch.setattr("sys.argv", [*line, "--symbols", "4,x"])
    with pytest.raises(SystemExit, match="2"):
        command.main()


def test_another_model_is_refused(archive: Path, tmp_path: Path) -> None:
    other = save_model(tmp_path / "other", GRAY, hidden=3)
    with pytest.raises(UserError, match="x.arc: model: expected the model that encoded"):
        decompress(archive, other, tmp_path / "out")
    with pytest.raises(UserError, match="nothing/config.json: expected a model's config"):
        decompress(archive, tmp_path / "nothing", tmp_path / "out")


def picture(path: Path, mode: str = "L", size: tuple[int, int] = (5, 4), **options: object) -> None:
    Image.new(mode, size).save(path, **options)


def picture_of_16_bits(path: Path) -> None:
    """In colour, of which Pillow gives the upper halves without a word."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        crc = zlib.crc32(kind + content)
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", crc)

    header = struct.pack(">2I5B", 5, 4, 16, 2, 0, 0, 0)
    pixels = zlib.compress((b"\0" + bytes(range(30))) * 4)
    parts = chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + parts)


@pytest.mark.parametrize(
    ("event", "make", "message"),
    [
        (GRAY, lambda p: picture(p, "RGB"), "expected an opaque PNG of mode 1 or L, got 'PNG of m"),
        (GRAY, lambda p: picture(p, "RGBA"), "expected an opaque PNG of mode 1 or L"),
        (GRAY, lambda p: picture(p, "I;16"), "expected an opaque PNG of mode 1 or L"),
        (RGB, picture_of_16_bits, "expected 8 bits a channel, got '?16"),
        (RGB, lambda p: picture(p, "P"), "expected an opaque PNG of mode RGB, got 'PNG of mode P'"),
        (GRAY, lambda p: picture(p, format="JPEG"), "expected an opaque PNG of mode"),
        (
            GRAY,
            lambda p: picture(p, transparency=3),
            "expected an opaque PNG of .*, a colour transpa",
        ),
        (GRAY, lambda p: picture(p, size=(5, 5)), r"expected '?4 x 5 pixels'?, got \(5, 5\)"),
        (FEW, lambda p: Image.new("L", (5, 4), 3).save(p), "expected pixels of the 17 levels"),
        (GRAY, lambda p: p.write_bytes(b"no picture"), "not a readable PNG"),
        (GRAY, lambda p: None, "No such file or directory"),
        (GRAY, Path.mkdir, "Is a directory"),
        (Levels(256, (3,)), picture, "model: expected one of gray or RGB pictures"),
        (Levels(300, (1, 4, 5)), picture, "model: expected one of gray or RGB pictures"),
    ],
)
def test_pictures_that_do_not_fit(event: Levels, make, message: str, tmp_path: Path) -> None:
    model = save_model(tmp_path / "model", event, hidden=2)
    make(tmp_path / "a.png")
    refuses_to_code(tmp_path / "a.png", model, f"a.png: {message}")


def test_other_files_that_do_not_fit(tmp_path: Path) -> None:
    few, sound = save_model(tmp_path / "few", FEW), sound_model(tmp_path / "sound")
    plain = {"x": pa.array([bytes(20)], pa.binary(20))}
    tables = {
        "columns x of 20 bytes": {"y": [1]},
        "label of int64": plain | {"label": ["a"]},
        "or none": plain | {"other": [1]},
        "no missing values": {"x": pa.array([None], pa.binary(20))},
        "rows with": {"x": pa.array([], pa.binary(20))},
        r"levels in \[0, 17\), got 17": {"x": pa.array([bytes([17] * 20)], pa.binary(20))},
    }
    path = tmp_path / "a.parquet"
    for message, columns in tables.items():
        pq.write_table(pa.table(columns), path)
        refuses_to_code(path, few, f"a.parquet: expected .*{message}")
    path.write_bytes(b"PAR1")
    refuses_to_code(path, few, "a.parquet: not a readable Parquet file")
    refuses_to_code(path, sound, "a.parquet: model: expected one of events of one shape")
    (tmp_path / "a.wav").write_bytes(b"RIFF")
    refuses_to_code(tmp_path / "a.wav", sound, "a.wav: expected a WAV file of PCM")
    write_wav(tmp_path / "a.wav", LONGEST + 1)
    refuses_to_code(tmp_path / "a.wav", sound, "a.wav: expected 2,097,152 samples at most, got 2")
    refuses_to_code(tmp_path / "a.wav", few, "a.wav: model: expected one of sounds")
    (tmp_path / "a.txt").write_text("text")
    refuses_to_code(tmp_path / "a.txt", few, "a.txt: expected one of .png, .wav, .parquet")


def test_classes_must_be_told(tmp_path: Path) -> None:
    plain = save_model(tmp_path / "plain", GRAY)
    model = save_model(tmp_path / "model", GRAY, num_classes=3)
    write_png(tmp_path / "a.png", some_levels(GRAY)[0, 0])
    for folder, classes, message in (
        (plain, [1], "classes: expected none for a model without classes"),
        (model, [], "classes: expected one for all, or 1: the model is of 3 classes"),
        (model, [1, 2], "classes: expected one for all rows, or 1, got 2"),
        (model, [10**30], r"classes: expected numbers in \[0, 3\)"),
        (model, [3], r"classes: expected numbers in \[0, 3\)"),
    ):
        refuses_to_code(tmp_path / "a.png", folder, message, classes=classes)


def test_command_lines(archive: Path, tmp_path: Path, monkeypatch, capsys) -> None:
    def stage(main: Callable[[], None], *arguments: str) -> str:
        monkeypatch.setattr("sys.argv", ["stage", *arguments])
        cli.in_one_line(main)
        said = capsys.readouterr()
        assert said.err == ""
        return str(said.out)

    monkeypatch.chdir(tmp_path)
    names = ["0.png", "1.png"]
    said = stage(command.main, *names, "--model", "model", "--out", "y.arc")
    assert said.startswith("2 files of ") and "bits/dim" in said
    assert (tmp_path / "y.arc").read_bytes()[:4] == b"ARCF"
    stage(decompress_command.main, "y.arc", "--model", "model", "--out", "out")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == names
    with pytest.raises(SystemExit) as refused:
        stage(decompress_command.main, "0.png", "--model", "model", "--out", "other")
    message = "error: 0.png: expected an archive, which begins with b'ARCF'"
    assert refused.value.code == message
