"""Text of the user's as rows of bytes: contiguous splits, and what a report shows of it."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from arcore.events import Levels
from pipeline.data import sound_batches
from pipeline.datasets import adding
from pipeline.datasets.base import SPLITS
from pipeline.evaluation import sound_codecs, text_samples
from pipeline.training import first_experiment
from tests.support.own_files import own, shards
from tests.support.refusals import refused

TEXTS = {"a.txt": "naïve " * 500, "b/c.txt": "", "b/d.txt": "end\n" * 400, "e.md": "no"}


def write_texts() -> bytes:
    for name, text in TEXTS.items():
        Path("texts", name).parent.mkdir(parents=True, exist_ok=True)
        Path("texts", name).write_text(text, encoding="utf-8")
    return (TEXTS["a.txt"] + TEXTS["b/d.txt"]).encode()


def test_splits_follow_each_other_and_every_byte_is_in_one() -> None:
    content = write_texts()
    dataset, facts = adding.add("text", "mine", "texts", [])
    assert dataset.event == Levels(256, (None,))
    told = {fact.name: fact for fact in facts}
    assert told["text"].found == "5.1 kB, 2 files, byte by byte"
    assert told["row"].change == "row_bytes=256" and told["left out"].found.endswith(": 1 .md")
    assert told["rows"].change == "valid_fraction=0.1 test_fraction=0.1"
    parts = shards(dataset)
    rows = [row for split in SPLITS for row in sound_codecs.sounds_of(parts[split])]
    assert b"".join(row.tobytes() for row in rows) == content
    assert [len(sound_batches.lengths(parts[split])) for split in SPLITS] == [17, 2, 2]
    assert first_experiment.suggested_model(dataset) == ("wavenet", {})
    assert dataset.sound is not None
    assert [codec.label for codec in sound_codecs.codecs_of(dataset.sound)] == [
        "zstd (pyarrow, measured here)"
    ]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"path": "nowhere"}, "option path of dataset 'mine': expected an existing file or folder"),
        ({"path": "texts/b/c.txt"}, "texts/b/c.txt: expected a text, or .txt files with some"),
        ({"row_bytes": 4096}, r"expected rows for each of train, valid and test \(two\), got 2"),
        ({"row_bytes": 1}, "option row_bytes of dataset 'mine': expected 2 to"),
    ],
)
def test_bad_texts_get_one_line(options: dict[str, Any], message: str) -> None:
    write_texts()
    with refused(message):
        own("text", **{"path": "texts", **options}).decode(Path())


def test_samples_can_be_read(tmp_path: Path) -> None:
    (tmp_path / "media").mkdir()
    rows = np.frombuffer("aé\n\0".encode() * 2, np.uint8).reshape(2, -1)
    text_samples.write(tmp_path / "media", {"samples": rows}, np.array([5, 2]))
    assert text_samples.are_in(tmp_path)
    shown = text_samples.file_of(tmp_path, "samples").read_text(encoding="utf-8")
    assert shown == f"aé\n\ufffd{text_samples.BETWEEN}a\ufffd\n"
