"""Kept pictures: copies that are small enough, and a page of their records alone."""

import io
import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageSequence

from pipeline.core.atomic import sha256_of
from pipeline.core.errors import UserError
from pipeline.core.records import write_object
from pipeline.uses.use_records import Number, Shown, UseRecord
from reproductions import results as stage
from reproductions.publishing import picture_book


def png(side: int, frames: int = 1, seed: int = 0) -> bytes:
    """Noise, which compresses badly."""
    generator = np.random.default_rng(seed)
    shades = generator.integers(0, 256, (frames, side, side, 3), dtype=np.uint8)
    first, *others = (Image.fromarray(frame) for frame in shades)
    buffer = io.BytesIO()
    animated = {"save_all": True, "append_images": others, "duration": 120} if others else {}
    first.save(buffer, format="PNG", **animated)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("side", "frames", "suffix"),
    [(40, 1, ".png"), (500, 1, ".png"), (60, 5, ".webp"), (400, 4, ".webp")],
)
def test_copies_are_small_and_keep_their_frames(side: int, frames: int, suffix: str) -> None:
    made, found = picture_book.smaller(png(side, frames))
    assert found == suffix and len(made) <= picture_book.MOST_BYTES
    with Image.open(io.BytesIO(made)) as picture:
        assert len(list(ImageSequence.Iterator(picture))) == frames
        assert picture.width == picture.height <= side
        assert (picture.width == side) == (side < 200), "no smaller than it must"


def use(home: Path, experiment: str, name: str, value: float) -> None:
    folder = home / "evaluation" / "digits" / "uses" / experiment / name
    folder.mkdir(parents=True)
    (folder / "a.png").write_bytes(png(20))
    (folder / "b.wav").write_bytes(b"RIFF")
    record = UseRecord(
        use=name,
        experiment=experiment,
        model="nade",
        dataset="digits",
        weights_sha256="ab" * 32,
        dataset_sha256="cd" * 32,
        settings={},
        notes="All | of them.",
        numbers=(Number(name="accuracy|all", value=value, stderr=0.01, unit="nats"),),
        shown=(Shown(file="a.png", caption="what it shows"), Shown(file="b.wav", caption="heard")),
    )
    write_object(folder / "use.json", record.to_dict())
    timing = {"use_sha256": sha256_of(folder / "use.json")}
    timing |= {"device": "a cpu", "seconds": 754.0, "commit": "0123abc"}
    write_object(folder / "timing.json", timing)


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> None:
    monkeypatch.setattr(sys, "argv", ["results", *arguments])
    stage.main()


@pytest.fixture
def book(home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for experiment in ("digits-one", "digits-two"):
        use(home, experiment, "learned", 0.5)
        use(home, experiment, "inpainting", 0.25)
    run(monkeypatch, "--gallery", "digits-two", "digits-one")
    return home / "results"


def test_a_page_is_drawn_of_what_is_kept_alone(book: Path) -> None:
    shutil.rmtree(book.parent / "evaluation")
    text = picture_book.drawn(book)
    assert text.index("## In-painting") < text.index("## What it learned"), "in the order of uses"
    first, second = (text.index(f"### `digits-{name}`") for name in ("one", "two"))
    assert first < second
    assert text.count("![What it shows.](gallery/digits-one/inpainting-a.png)") == 1
    said = "commit 0123abc, 12.6 min on a cpu.\n"
    assert f"`python -m stages.use learned digits-two`, weights `abababababab`, {said}" in text
    assert r"| accuracy\|all | 0.250 ± 0.010 nats |" in text
    kept = {path.name for path in (book / "gallery" / "digits-one").iterdir()}
    assert kept == {"inpainting-a.png", "inpainting.json", "learned-a.png", "learned.json"}


def test_a_record_anew_keeps_what_is_of_the_same_weights(book: Path, monkeypatch, caplog) -> None:
    """A use of an hour is not lost to one of a second, run on a clone without the other."""
    shutil.rmtree(book.parent / "evaluation/digits/uses/digits-one/learned")
    folder = book / "gallery/digits-one"
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    run(monkeypatch, "--gallery", "digits-one")
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    content = json.loads((folder / "learned.json").read_text())
    (folder / "learned.json").write_text(json.dumps(content | {"weights_sha256": "0" * 64}))
    with caplog.at_level("WARNING"):
        picture_book.record("digits-one")
    kept = {path.name for path in folder.iterdir()}
    assert kept == {"inpainting-a.png", "inpainting.json"}
    assert "learned.json: of other weights; kept no more" in caplog.text


def test_pictures_of_other_weights_than_the_numbers_are_not_kept(book: Path, files) -> None:
    files.evaluated("digits", "digits-one", 82.0)
    numbers = book / "digits-one"
    shutil.copytree(book.parent / "evaluation/digits/digits-one", numbers)
    content = json.loads((numbers / "metrics.json").read_text())
    (numbers / "metrics.json").write_text(json.dumps(content | {"weights_sha256": "0" * 64}))
    with pytest.raises(UserError, match=f"expected the recorded weights, {'0' * 64}"):
        picture_book.record("digits-one")


def test_what_is_missing_or_malformed_is_named(book: Path) -> None:
    with pytest.raises(UserError, match=r"digits-none: expected pictures, found none; run `python"):
        picture_book.record("digits-none")
    path = book / "gallery/digits-one/learned.json"
    content = json.loads(path.read_text())
    del content["command"]
    path.write_text(json.dumps(content))
    with pytest.raises(UserError, match=r"digits-one/learned.json: missing command"):
        picture_book.drawn(book)
