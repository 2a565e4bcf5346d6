"""Files to archives and back: what comes out is what went in, or one line says why not."""

import io
import json
import os
import wave
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from PIL import Image

import arcore
from arcore import coding
from arcore.coded_batches import LONGEST
from arcore.events import Binary, Event, Levels
from pipeline.core.errors import UserError
from pipeline.datasets.formats import sound_files
from pipeline.datasets.formats.sound_files import Hearing
from pipeline.uses import coded_archive
from pipeline.uses.file_compression import compress, decompress
from stages import cli
from stages import compress as command
from stages import decompress as decompress_command
from tests.support.own_files import colour_png
from tests.support.refusals import refused

GRAY = Levels(256, (1, 4, 5))
RGB = Levels(256, (3, 4, 5))
BITS = Binary((1, 4, 5))
FEW = Levels(17, (1, 4, 5))


def save_model(folder: Path, event: Event, name: str = "nade", **hyperparameters: object) -> Path:
    torch.manual_seed(0)
    arcore.save(arcore.create_model(name, event, **hyperparameters), folder)
    return folder


def sound_model(folder: Path, **hyperparameters: object) -> Path:
    small = {"width": 4, "gate_width": 4, "skip_width": 8, "cycle": 2, "num_blocks": 1}
    return save_model(folder, Levels(256, (None,)), "wavenet", **small, **hyperparameters)


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
    out = archive.parent / "out"
    with refused(message):
        decompress(archive, archive.parent / "model", out)
    assert not out.exists()


def refuses_to_code(path: Path, model: Path, message: str, **options: object) -> None:
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
    out = there_and_back(tmp_path, files, model, portable=event is BITS)
    assert sorted(path.name for path in out.iterdir()) == sorted(pixels)
    for name, expected in pixels.items():
        with Image.open(tmp_path / name) as was, Image.open(out / name) as now:
            assert (was.mode, was.size) == (now.mode, now.size)
            assert np.array_equal(np.array(now), expected)


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


def test_a_sound_between_levels_is_refused_or_quantised(tmp_path: Path) -> None:
    """As is one of 24 bits, which would come back as one of 16."""
    model, path = sound_model(tmp_path / "model"), tmp_path / "a.wav"
    message = r"a.wav: expected 16-bit samples .*\(--quantize takes"
    samples, _ = soundfile.read(io.BytesIO(sound_files.wave_bytes(np.arange(256), 256, 8000)))
    soundfile.write(path, samples, 8000, "PCM_24")
    refuses_to_code(path, model, message)
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(8000)
        file.writeframes(np.arange(-500, 500, 7).astype("<i2").tobytes())
    refuses_to_code(path, model, message)
    out = there_and_back(tmp_path, [path], model, quantize=True)
    was, now = (sound_files.read_samples(p, Hearing(8000), p) for p in (path, out / "a.wav"))
    assert np.abs(was - now).max() < 1e-3
    assert (sound_files.encode(was) == sound_files.encode(now)).all()


def test_relative_paths_are_kept_and_names_differ(tmp_path: Path, monkeypatch) -> None:
    model = save_model(tmp_path / "model", GRAY)
    monkeypatch.chdir(tmp_path)
    for name in ("a/x.png", "b/x.png", "b/X.png"):
        Path(name).parent.mkdir(exist_ok=True)
        write_png(Path(name), some_levels(GRAY)[0, 0])
    out = there_and_back(tmp_path, [Path("a/x.png"), Path("b/x.png")], model)
    found = sorted(path.relative_to(out).as_posix() for path in out.rglob("*.png"))
    assert found == ["a/x.png", "b/x.png"]
    for twin in ("a/x.png", "b/X.png"):  # some disks do not tell case apart
        with pytest.raises(UserError, match="files: expected names that differ, got '[xX].png'"):
            compress([tmp_path / "b/x.png", tmp_path / twin], model, tmp_path / "y.arc")


@pytest.mark.parametrize("name", ["take 12:30.png", "a\\b.png", "why?.png", "\udcff.png"])
def test_names_that_decoding_refuses_are_refused_before_coding(name: str, tmp_path: Path) -> None:
    model = save_model(tmp_path / "model", GRAY)
    write_png(tmp_path / name, some_levels(GRAY)[0, 0])
    refuses_to_code(tmp_path / name, model, "expected a relative path without '..' or any of")


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    model = save_model(tmp_path / "model", GRAY)
    for number, levels in enumerate(some_levels(GRAY, 2)):
        write_png(tmp_path / f"{number}.png", levels[0])
    compress([tmp_path / "0.png", tmp_path / "1.png"], model, tmp_path / "x.arc")
    return tmp_path / "x.arc"


def test_damaged_archives_write_nothing(archive: Path) -> None:
    """A byte changed, all over the archive, and cut off there."""
    data = archive.read_bytes()
    for place in range(0, len(data), 9):
        changed = bytes([data[place] ^ 0x10])
        for bad in (data[:place] + changed + data[place + 1 :], data[:place]):
            archive.write_bytes(bad)
            refuses_to_decode(archive, str(archive))


def forged(described: Sequence[dict[str, object]], streams: Sequence[bytes]) -> bytes:
    lengths = [len(stream) for stream in streams]
    text = json.dumps({"files": described, "streams": lengths})
    manifest = zlib.compress(text.encode())
    lead = coded_archive.LEAD.pack(b"ARCF", 1, len(manifest), zlib.crc32(manifest))
    return lead + manifest + b"".join(streams)


DAMAGED = "truncated or damaged archive"
PATH = "expected a relative path without '..'"
ENTRIES: list[tuple[dict[str, object], str]] = [
    ({"rows": 2}, DAMAGED),
    ({"kind": "exe"}, DAMAGED),
    ({"extents": "a"}, DAMAGED),
    ({"extents": []}, DAMAGED),
    ({"extents": [10**30]}, DAMAGED),
    ({"size": 3}, DAMAGED),
    ({"rate": 8000}, DAMAGED),
    ({"classes": [1, 2]}, DAMAGED),
    ({"classes": [10**30]}, DAMAGED),
    ({"extents": [4, 5]}, "expected 2 streams, got 1"),
    ({"kind": "wav", "rate": 8000}, r"model: expected one of sounds \(T,\)"),
    *(({"name": name}, PATH) for name in ("/x.png", "../x.png", "a/../../x.png", ".", "a//x.png",
                                          "C:/x.png", "a\\x.png", "a\0b")),
    *(({"name": name}, "names that differ") for name in ("0.PNG", "0.png/x.png")),
]  # fmt: skip


@pytest.mark.parametrize(("fields", "message"), ENTRIES, ids=str)
def test_entries_that_are_forged(fields: dict[str, object], message: str, archive: Path) -> None:
    entries, streams = coded_archive.unpack(archive.read_bytes(), archive)
    described = [entry.model_dump(exclude_defaults=True) for entry in entries]
    archive.write_bytes(forged([described[0], described[1] | fields], streams))
    refuses_to_decode(archive, message)


def test_manifests_that_are_forged(archive: Path, tmp_path: Path, monkeypatch) -> None:
    _, streams = coded_archive.unpack(archive.read_bytes(), archive)
    data = archive.read_bytes()
    for damaged in (forged([], streams[:1]), forged([], [])):
        archive.write_bytes(damaged)
        refuses_to_decode(archive, DAMAGED)
    archive.write_bytes(data)
    monkeypatch.setattr(coded_archive, "LARGEST_MANIFEST", 40)
    refuses_to_decode(archive, f"{archive}: expected a manifest of 40 bytes at most")
    refuses_to_code(
        tmp_path / "0.png", tmp_path / "model", "files: expected names and shapes of 40"
    )


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"rate": 0}, DAMAGED),
        ({"rate": 1 << 31}, DAMAGED),
        ({"extents": [1 << 21]}, r"expected 2 rows of \(2097152,\), got \(2, 21\)"),
        ({"extents": [20, 5]}, r"expected 2 rows of \(21,\), got \(2, 21\)"),
        ({"classes": [3]}, r"condition: expected classes in \[0, 3\)"),
    ],
    ids=str,
)
def test_sounds_that_are_forged(fields: dict[str, object], message: str, tmp_path: Path) -> None:
    model = sound_model(tmp_path / "model", num_classes=3)
    files, archive = [tmp_path / f"{number}.wav" for number in range(2)], tmp_path / "x.arc"
    for number, path in enumerate(files):
        write_wav(path, 20 + number, 8000, number)
    compress(files, model, archive, classes=[2, 0])
    entries, streams = coded_archive.unpack(archive.read_bytes(), archive)
    described = [entry.model_dump(exclude_defaults=True) for entry in entries]
    archive.write_bytes(forged([described[0] | fields, described[1]], streams))
    refuses_to_decode(archive, f"{archive}: {message}")


def test_nothing_is_overwritten(archive: Path, tmp_path: Path, monkeypatch) -> None:
    """Neither what is there, nor what appears meanwhile: coding may take hours."""
    model, out, other = tmp_path / "model", tmp_path / "out", tmp_path / "y.arc"
    with pytest.raises(UserError, match="x.arc: expected no such file yet"):
        compress([tmp_path / "0.png"], model, archive)
    with pytest.raises(UserError, match="expected a new or an empty folder, got 'one with files'"):
        decompress(archive, model, model)
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
        decompress(archive, model, out)
    monkeypatch.setattr(coding, "compress", with_archive)
    with pytest.raises(UserError, match="y.arc: expected no such file yet"):
        compress([tmp_path / "0.png"], model, other)
    assert (out / "mine").read_text() == other.read_text() == "kept"
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_pipes_are_refused(archive: Path, tmp_path: Path) -> None:
    """To open one would wait for whoever writes to it."""
    os.mkfifo(tmp_path / "pipe.png")
    os.mkfifo(tmp_path / "y.arc")
    refuses_to_code(tmp_path / "pipe.png", tmp_path / "model", "pipe.png: expected a file")
    refuses_to_decode(tmp_path / "y.arc", "y.arc: expected a file")


def test_another_model_is_refused(archive: Path, tmp_path: Path) -> None:
    other = save_model(tmp_path / "other", GRAY, hidden=3)
    with pytest.raises(UserError, match="x.arc: model: expected the model that encoded"):
        decompress(archive, other, tmp_path / "out")
    with pytest.raises(UserError, match="nothing: expected a model's folder, got no such"):
        decompress(archive, tmp_path / "nothing", tmp_path / "out")


def picture(path: Path, mode: str = "L", size: tuple[int, int] = (5, 4), **options: object) -> None:
    Image.new(mode, size).save(path, **options)


def picture_of_16_bits(path: Path) -> None:
    """In colour, of which Pillow gives the upper halves without a word."""
    path.write_bytes(colour_png(5, 4, 16, (b"\0" + bytes(range(30))) * 4))


OPAQUE = "expected an opaque PNG of"
PICTURES: list[tuple[Levels, Callable[[Path], object], str]] = [
    (GRAY, lambda p: picture(p, "RGB"), f"{OPAQUE} mode 1 or L, got 'PNG of m"),
    (GRAY, lambda p: picture(p, "I;16"), f"{OPAQUE} mode 1 or L"),
    (RGB, picture_of_16_bits, "expected 8 bits a channel, got '?16"),
    (RGB, lambda p: picture(p, "P"), f"{OPAQUE} mode RGB, got 'PNG of mode P'"),
    (GRAY, lambda p: picture(p, format="JPEG"), f"{OPAQUE} mode"),
    (GRAY, lambda p: picture(p, transparency=3), f"{OPAQUE} .*, a colour transpa"),
    (GRAY, lambda p: picture(p, size=(5, 5)), r"expected '?4 x 5 pixels'?, got \(5, 5\)"),
    (FEW, lambda p: Image.new("L", (5, 4), 3).save(p), "expected pixels of the 17 levels"),
    (GRAY, lambda p: p.write_bytes(b"no picture"), "not a readable PNG"),
    (GRAY, lambda p: None, "No such file or directory"),
    (Levels(300, (1, 4, 5)), picture, "model: expected one of gray or RGB pictures"),
]


@pytest.mark.parametrize(("event", "make", "message"), PICTURES)
def test_pictures_that_do_not_fit(event: Levels, make, message: str, tmp_path: Path) -> None:
    model = save_model(tmp_path / "model", event, hidden=2)
    make(tmp_path / "a.png")
    refuses_to_code(tmp_path / "a.png", model, f"a.png: {message}")


def test_other_files_that_do_not_fit(tmp_path: Path) -> None:
    few, sound = save_model(tmp_path / "few", FEW), sound_model(tmp_path / "sound")
    path = tmp_path / "a.wav"
    path.write_bytes(b"RIFF")
    refuses_to_code(path, sound, "a.wav: expected a WAV file of PCM")
    write_wav(path, LONGEST + 1)
    refuses_to_code(path, sound, "a.wav: expected 2,097,152 samples at most, got 2")
    refuses_to_code(path, few, "a.wav: model: expected one of sounds")
    data = write_wav(path, 20)
    path.write_bytes(data[:24] + (1 << 31).to_bytes(4, "little") + data[28:])
    refuses_to_code(path, sound, r"a\.wav: expected a rate in \[1, 2\^31\) Hz, got 2147483648")
    (tmp_path / "a.txt").write_text("text")
    refuses_to_code(tmp_path / "a.txt", few, "a.txt: expected one of .png, .wav, got")
    text = sound_model(tmp_path / "text", local_classes=4, local_strides=[2])
    refuses_to_code(path, text, "text: expected a model of levels without a text")


@pytest.mark.parametrize("classes", [[], [1, 2], [10**30], [3]], ids=str)
def test_classes_must_be_told(classes: list[int], tmp_path: Path) -> None:
    model = save_model(tmp_path / "model", GRAY, num_classes=3)
    write_png(tmp_path / "a.png", some_levels(GRAY)[0, 0])
    message = r"classes: expected one for all files, or 1, of numbers in \[0, 3\)"
    refuses_to_code(tmp_path / "a.png", model, message, classes=classes)
    plain = save_model(tmp_path / "plain", GRAY)
    message = "classes: expected none for a model without classes"
    refuses_to_code(tmp_path / "a.png", plain, message, classes=[1])


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
    with pytest.raises(SystemExit) as ended:
        stage(decompress_command.main, "0.png", "--model", "model", "--out", "other")
    message = "error: 0.png: expected an archive, which begins with b'ARCF'"
    assert ended.value.code == message
