"""Records and other files: one clear error for what a file should not hold, or is damaged."""

from __future__ import annotations

import io
import lzma
import tarfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from pipeline.core.records import Record, omit_if_default, read_object, write_object
from pipeline.core.yaml_settings import read_yaml
from pipeline.datasets.formats.archives import open_archive
from pipeline.training.training_records import read_history
from tests.support.refusals import refused


@dataclass(frozen=True, kw_only=True)
class Pair(Record):
    low: float
    high: float


@dataclass(frozen=True, kw_only=True)
class Thing(Record):
    name: str
    needed: Pair
    maybe: Trio | None = None
    count: int | None = None
    often: int = omit_if_default(1)
    sure: bool = True
    words: dict[str, str] | None = None
    parts: tuple[Pair, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Trio(Record):
    first: int
    second: int
    third: int | None = omit_if_default(None)


PLAIN = {"name": "a", "low": 1, "high": 2.5}
WRITTEN = {**PLAIN, "count": None, "sure": True, "words": None, "parts": []}


def test_inner_records_are_flat_and_defaults_may_be_left_out(tmp_path: Path) -> None:
    thing = Thing(name="a", needed=Pair(low=1, high=2.5))
    assert thing.to_dict() == WRITTEN and list(thing.to_dict()) == list(WRITTEN)
    assert Thing.from_dict(PLAIN, "f") == Thing.from_dict({**WRITTEN, "other": 3}, "f") == thing
    more = Thing(
        name="a", needed=Pair(low=1, high=2.5), maybe=Trio(first=1, second=2), often=2,
        words={"b": "c"}, parts=(Pair(low=0, high=1), Pair(low=1, high=2)),
    )  # fmt: skip
    path = tmp_path / "a.json"
    write_object(path, more.to_dict())
    assert Thing.from_dict(read_object(path), "f") == more
    assert read_object(path)["parts"] == [{"low": 0, "high": 1}, {"low": 1, "high": 2}]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": 3}, "name: expected a text, got 3"),
        ({"low": "1"}, "low: expected a number, got '1'"),
        ({"low": True}, "low: expected a number, got True"),
        ({"low": float("nan")}, "low: expected a number, got nan"),
        ({"count": 1.0}, "count: expected an integer, got 1.0"),
        ({"often": None}, "often: expected an integer, got None"),
        ({"sure": 1}, "sure: expected true or false, got 1"),
        ({"words": [1]}, r"words: expected a mapping, got \[1\]"),
        ({"words": {"a": 3}}, "a: expected a text, got 3"),
        ({"parts": {}}, "parts: expected a list, got {}"),
        ({"parts": [{"low": 1}]}, "missing high"),
        ({"third": 3}, "missing first"),
    ],
)
def test_a_value_of_another_kind_names_file_and_key(change: dict, message: str) -> None:
    with refused(f"^a.json: {message}$"):
        Thing.from_dict(PLAIN | change, "a.json")


@pytest.mark.parametrize("name", PLAIN)
def test_a_missing_key_is_named(name: str) -> None:
    with refused(f"^a.json: missing {name}$"):
        Thing.from_dict({k: v for k, v in PLAIN.items() if k != name}, "a.json")


@pytest.mark.parametrize("read", [read_object, read_yaml])
@pytest.mark.parametrize(
    "content",
    [b"", b"[]", b"3", b"{", b"\xff\xfe{}", b"[" * 100_000, b"{1: 2}", b"a: [", b"\x00", None],
    ids=repr,
)
def test_files_that_are_no_mapping_are_one_line(tmp_path: Path, read, content) -> None:
    path = tmp_path / "a.json"
    if content is not None:
        path.write_bytes(content)
    with refused(f"^{path}: (expected |missing; run the stage that writes it|file not found)"):
        read(path)
    with refused("expected (JSON|YAML), got "):
        read(tmp_path)


def test_a_damaged_xz_archive(tmp_path: Path) -> None:
    path, content = tmp_path / "a.tar.xz", io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as archive:
        info = tarfile.TarInfo("a")
        info.size = 100_000
        archive.addfile(info, io.BytesIO(np.random.default_rng(0).bytes(info.size)))
    packed = bytearray(lzma.compress(content.getvalue()))
    packed[len(packed) // 2] ^= 255
    path.write_bytes(packed)
    with refused(str(path)):
        with open_archive(path) as files:
            for _, inner in files:
                inner.read()


@pytest.mark.parametrize(
    "text",
    ["epoch,valid_nats\n1,low\n", "epoch,valid_nats\n1,nan\n", "epoch\n1,2\n", "valid_nats\n1\n",
     "epoch,valid_nats\n0,1\n", 'epoch\n"1', "epoch\n1.5\n", None],
)  # fmt: skip
def test_histories(tmp_path: Path, text: str | None) -> None:
    path = tmp_path / "history.csv"
    if text is not None:
        path.write_text(text)
    with refused(f"{path}: "):
        read_history(path)
    path.write_text("epoch,valid_nats\n1,2.5\n2,\n")
    assert [row["valid_nats"] for row in read_history(path)] == ["2.5", ""]
