"""Arrays of the user's: rows, scalings, and one line for each flaw."""

import json
import os
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from arcore.events import Binary, Levels, Real
from pipeline.core import paths
from pipeline.data import preprocessing, shard_layout
from pipeline.data.manifest import read_manifest
from pipeline.data.scalings import read_scalings
from pipeline.datasets import adding, catalog
from pipeline.datasets.base import SPLITS, Dataset
from pipeline.datasets.user import arrays
from pipeline.datasets.user.user_data import split_by_seed
from tests.support import own_files
from tests.support.own_files import own, shards
from tests.support.refusals import refused


def added(x: np.ndarray, *given: str, replace: bool = False) -> tuple[Dataset, list[str]]:
    np.save("x.npy", x)
    dataset, found = adding.add("arrays", "mine", "x.npy", given, replace)
    return dataset, [str(fact) for fact in found]


def train_rows(x: np.ndarray, dataset: Dataset) -> np.ndarray:
    return x[split_by_seed(len(x), dataset.options, "x", "rows")["train"]]  # type: ignore[arg-type]


@pytest.mark.parametrize("num_levels", [17, 1 << 16])
def test_arrays_of_levels_with_labels(num_levels: int) -> None:
    generator = np.random.default_rng(0)
    x = generator.integers(0, num_levels, (50, 1, 4, 4))
    x[0, 0, 0, 0] = num_levels - 1
    np.save("x.npy", x)
    np.save("y.npy", np.arange(50, dtype=np.int16) % 3)
    given = {"labels": "y.npy"}
    guessed = catalog.module_of_kind("arrays").guess("mine", "x.npy", given)
    assert guessed == {"shape": [1, 4, 4], "num_levels": num_levels, "num_classes": 3}
    dataset = own("arrays", path="x.npy", **guessed, **given)
    parts = shards(dataset)
    assert [len(parts[split]) for split in SPLITS] == [40, 5, 5]
    rows = {tuple(row.reshape(-1)): n % 3 for n, row in enumerate(x)}
    for part in parts.values():
        for row, label in zip(part.x, part.labels, strict=True):
            assert rows[tuple(row.reshape(-1))] == label


def test_arrays_of_an_archive_are_standardised_with_their_conditions() -> None:
    own_files.write_simulations(Path("jets.npz"), rows=100)
    guessed = catalog.module_of_kind("arrays").guess("mine", "jets.npz", {})
    dataset = own("arrays", path="jets.npz", standardize=True, **guessed)
    assert dataset.event == Real((3,)) and dataset.condition_size == 2
    parts = shards(dataset)
    for values in (parts["train"].x, parts["train"].labels):
        np.testing.assert_allclose(values.mean(0), 0, atol=1e-6)
        np.testing.assert_allclose(values.std(0), 1, atol=1e-6)
    manifest = read_manifest(Path("shards"))
    assert manifest.condition_size == 2 and manifest.conditions["condition_size"] == 2
    with np.load("jets.npz") as given:
        for role, stored in (("x", parts["train"].x), ("conditions", parts["train"].labels)):
            undone = read_scalings("shards")[role].undo(stored)
            np.testing.assert_allclose(undone, train_rows(given[role], dataset), atol=1e-5)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"dataset_sha256": "0" * 64}, "expected that of the shards next to it"),
        ({"x": {"mean": [0, 0, 0], "deviation": [1, 0, 1]}}, "malformed: expected finite means"),
        ({"x": {"mean": [0, 0, 0], "deviation": [1, 1]}}, r"deviations > 0 of shape \(3,\)"),
        ({"x": {"mean": [0, float("nan"), 0], "deviation": [1, 1, 1]}}, "expected finite means"),
        ({"x": {"mean": "a", "deviation": [1, 1, 1]}}, "could not convert string"),
        ({"x": {"mean": [0, 0, 0]}}, "no field 'deviation'"),
        ({"x": 3}, "scalings.json: "),
        (None, "file not found: these shards are older; run python -m stages.preprocess mine"),
    ],
)
def test_scalings_that_are_none_are_refused(change: dict[str, Any] | None, message: str) -> None:
    own_files.write_simulations(Path("jets.npz"))
    guessed = catalog.module_of_kind("arrays").guess("mine", "jets.npz", {})
    shards(own("arrays", path="jets.npz", **guessed))
    assert read_scalings("shards") == {}
    shards(own("arrays", path="jets.npz", standardize=True, **guessed))
    path = Path("shards/scalings.json")
    if change is None:
        path.unlink()
    else:
        path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with refused(message):
        read_scalings("shards")


def test_columns_have_levels_of_their_own() -> None:
    dataset, _ = added(np.random.default_rng(0).integers(0, [2, 5, 9], (60, 3)))
    assert dataset.event == Levels([2, 5, 9])
    assert shards(dataset)["train"].x.max(0).tolist() == [1, 4, 8]
    assert read_manifest(Path("shards")).event == dataset.event


def test_rows_of_text_are_bytes() -> None:
    """Whatever letters are in them; small uint8 are levels like others."""
    text = np.frombuffer(b"the quick brown fox " * 30, np.uint8).reshape(60, 10)
    dataset, found = added(text)
    assert dataset.event == Levels(256, (10,))
    assert any(line.startswith("rows of bytes have 256 levels; num_levels=k") for line in found)
    assert added(text % 32 // 16, replace=True)[0].event == Binary((10,))


@pytest.mark.parametrize("dtype", [bool, np.int64])
def test_integers_of_two_axes_are_images_of_one_channel(dtype: type) -> None:
    x = np.random.default_rng(0).integers(0, 2, (30, 6, 5)).astype(dtype)
    dataset, found = added(x)
    assert dataset.event == Binary((1, 6, 5))
    assert "rows of two axes are taken as images of one channel; layout=as_is keeps them" in found
    np.testing.assert_array_equal(shards(dataset)["train"].x, train_rows(x, dataset)[:, None])
    kept, found = added(x, "layout=as_is", replace=True)
    assert kept.event == Binary((6, 5)) and not any("one channel" in line for line in found)


def test_channels_that_may_come_last_are_asked_for() -> None:
    x = np.random.default_rng(0).integers(0, 256, (30, 8, 6, 3))
    with refused(r"x.npy: x: rows of shape \(8, 6, 3\): do channels come last\? give layout="):
        added(x)
    dataset, _ = added(x, "layout=channels_last")
    assert dataset.event == Levels(256, (3, 8, 6))
    expected = train_rows(x, dataset).transpose(0, 3, 1, 2)
    np.testing.assert_array_equal(shards(dataset)["train"].x, expected)
    as_is, _ = added(x, "layout=as_is", replace=True)
    assert as_is.event == Levels(256, (8, 6, 3))


@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize(
    ("k", "part", "message"),
    [
        (2, 1, "whole numbers from 0 to 1: give num_levels=2 for levels, or num_levels=0 for"),
        (17, 1, "whole numbers from 0 to 16: give num_levels=17 for levels, or"),
        (5, 4, r"multiples of 1/4 in \[0, 1\]: save 4 x as integers, which are num_levels=5, or"),
        (256, 255, "multiples of 1/255 .*: save 255 x as integers, which are num_levels=256, or"),
    ],
)
def test_reals_that_may_be_levels_are_asked_for(
    dtype: str, k: int, part: int, message: str
) -> None:
    x = np.random.default_rng(0).integers(0, k, (60, 40)) / part
    with refused(f"x.npy: x: reals that are {message}"):
        added(x.astype(dtype))


def test_reals_that_are_bits_become_what_is_asked_for() -> None:
    x = np.random.default_rng(0).integers(0, 2, (30, 4)).astype(float)
    dataset, _ = added(x, "num_levels=2")
    assert dataset.event == Binary((4,)) and shards(dataset)["train"].x.dtype == np.uint8
    reals, _ = added(x, "num_levels=0", replace=True)
    assert reals.event == Real((4,))


OBJECTS = np.array([{"a": 1}, None], object)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"x": OBJECTS}, "a.npz: x: expected an array of numbers"),
        ({"x": np.zeros(9)}, r"a.npz: x: expected rows of one axis or more.*\(9,\)"),
        (
            {"x": np.zeros((9, 2)), "conditions": np.zeros(9)},
            "a.npz: conditions: expected rows of one axis or more",
        ),
    ],
)
def test_arrays_that_are_no_rows_are_refused_at_the_guess(
    given: dict[str, np.ndarray], message: str
) -> None:
    """Objects are never unpickled."""
    np.savez("a.npz", **given)  # type: ignore[arg-type]
    with refused(message):
        catalog.module_of_kind("arrays").guess("mine", "a.npz", {})
    np.save("a.npy", OBJECTS, allow_pickle=True)
    with refused("a.npy: expected an array of numbers"):
        catalog.module_of_kind("arrays").guess("mine", "a.npy", {})


GOOD = {"path": "x.npy", "shape": [3], "num_levels": 5}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_levels": 4}, "x.npy: x: row 7, column 1: expected levels from 0 .* - 1, got 4"),
        ({"num_levels": 5, "standardize": True}, "option standardize .*: expected false for"),
        ({"shape": [True]}, r"option shape .*: expected a valid integer, got \[True\]"),
        ({"shape": [4]}, r"x.npy: x: expected shape \(20, 4\), got \(20, 3\)"),
        ({"path": "x.csv"}, "option path of dataset 'mine': expected a .npy or .npz file"),
        ({"path": "z.npy"}, "option path of dataset 'mine': expected an existing file"),
        ({"num_levels": 70000}, "option num_levels of dataset 'mine': expected 0, 2 to 65536"),
        ({"num_levels": [2, 3]}, r"option num_levels .*: expected as many as shape \[3\]"),
        ({"num_levels": "x"}, "option num_levels .*: expected a valid integer, got"),
        (
            {"labels": "x.npy"},
            "option num_classes of dataset 'mine': expected 1 to 1000000 with labels",
        ),
        ({"condition_size": 2}, "option condition_size of dataset 'mine': .* else 0, got 2"),
        (
            {"labels": "y.npy", "num_classes": 2},
            r"x.npy: labels: row 2: expected classes from 0 to 1, got 2",
        ),
        (
            {"num_levels": 0, "standardize": True, "path": "same.npy"},
            "same.npy: x: column 2: expected different values, got 1 in all training rows",
        ),
        (
            {"num_levels": 0, "standardize": True, "path": "ten.npy"},
            r"ten.npy: x: column 2: expected different values, got 0.1 in all training rows",
        ),
        (
            {"num_levels": 0, "standardize": True, "path": "huge.npy"},
            "huge.npy: x: column 0: expected numbers whose squares are finite",
        ),
        ({"num_levels": 0, "path": "nan.npy"}, "row 4, column 0: expected finite numbers, got nan"),
        ({"num_levels": 0, "path": "huge.npy"}, "row 4, column 0: expected numbers within float32"),
        ({"path": "nan.npy"}, "nan.npy: x: row .*, column 0: expected levels from 0 to num_levels"),
        ({"path": "short.npy"}, "short.npy: expected an array of numbers"),
    ],
)
def test_bad_arrays_get_one_line(options: dict[str, Any], message: str) -> None:
    x = np.arange(60).reshape(20, 3) % 4
    x[7, 1] = 4
    np.save("x.npy", x)
    np.save("y.npy", np.arange(20) % 4)
    reals = np.random.default_rng(0).normal(size=(20, 3))
    row, column = np.s_[4, 0], np.s_[:, 2]
    flaws = {
        "nan": (row, np.nan),
        "huge": (row, 1e200),
        "same": (column, 1),
        "ten": (column, 0.1),
    }
    for name, (place, value) in flaws.items():
        bad = reals.copy()
        bad[place] = value
        np.save(f"{name}.npy", bad)
    Path("short.npy").write_bytes(Path("x.npy").read_bytes()[:-9])
    with refused(message):
        dataset = own("arrays", **{**GOOD, **options})
        preprocessing.write(dataset, dataset.decode(Path()), Path("shards"))


def test_a_pipe_is_refused() -> None:
    os.mkfifo("pipe.npy")
    with refused("pipe.npy: expected a file or a folder, got 'a pipe or a device'"):
        adding.add("arrays", "mine", "pipe.npy", [])


def test_wide_conditions_count_in_what_is_held_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of parts, of shards and of what waits to be hashed."""
    generator = np.random.default_rng(0)
    x, given = generator.normal(size=(60, 2)), generator.normal(size=(60, 5000))
    np.savez("wide.npz", x=x, conditions=given)
    dataset, _ = adding.add("arrays", "wide", "wide.npz", [])
    assert dataset.options.rows_per_shard == (1 << 28) // (4 * (2 + 5000))
    preprocessing.preprocess(dataset)
    manifest = (paths.shards("wide") / "manifest.json").read_bytes()
    shutil.rmtree(paths.shards("wide"))
    monkeypatch.setattr(arrays, "PART_BYTES", 4 * 8 * (2 + 5000))
    monkeypatch.setattr(shard_layout, "LABELS_BYTES", 1 << 12)
    parts = [len(part.x) for part in dataset.decode(Path())["test"].parts]
    assert len(parts) > 1 and max(parts) == 4
    preprocessing.preprocess(dataset)
    assert (paths.shards("wide") / "manifest.json").read_bytes() == manifest


@pytest.mark.parametrize("value", [-1, 70000])
@pytest.mark.parametrize(
    ("shape", "place"), [((30, 3), "column 1"), ((30, 1, 2, 2), r"place \(0, 0, 1\)")]
)
def test_integers_that_are_no_levels_are_named(
    value: int, shape: tuple[int, ...], place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(arrays, "PART_BYTES", 128)
    x = np.ones(shape, np.int64)
    x.reshape(30, -1)[17, 1] = value
    with refused(
        f"x.npy: x: row 17, {place}: expected an integer from 0 to 65535 .*, got {value}$"
    ):
        added(x)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (np.array([-1, *[2] * 29]), "labels: row 0: expected classes from 0 to 2, got -1"),
        (np.full(30, np.nan), "labels: expected integers, got"),
        (np.full(30, 2**40), "num_classes of dataset 'mine': expected 1 to 1000000 with labels"),
    ],
)
def test_labels_that_are_none(labels: np.ndarray, message: str) -> None:
    np.savez("x.npz", x=np.zeros((30, 2)), labels=labels)
    with refused(message):
        dataset, _ = adding.add("arrays", "mine", "x.npz", ["split_seed=3"])
        shards(dataset)


@pytest.mark.parametrize(
    ("shape", "where"), [((60, 3), r"\(1,\)"), ((60, 1, 1, 3), r"\(0, 0, 1\)")]
)
def test_reals_that_repeat_are_told(shape: tuple[int, ...], where: str) -> None:
    x = np.random.default_rng(0).normal(size=(60, 3))
    x[:, 1] = 2
    _, found = added(x.reshape(shape))
    assert re.match(rf"beware: few different values in {where}; a density of them has", found[-1])
    assert "num_levels=k" in found[-1]


@pytest.mark.parametrize("shape", [(3, 8, 6), (1, 8, 3)])
def test_channels_that_come_first_ask_nothing(shape: tuple[int, ...]) -> None:
    dataset, found = added(np.random.default_rng(0).integers(0, 256, (30, *shape), np.uint8))
    assert dataset.event.shape == shape
    assert not any(line.startswith("beware") for line in found)
