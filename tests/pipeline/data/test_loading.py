"""The loader: order, shares of ranks, resuming, streaming, memory, and its thread."""

import gc
import threading
import time
import weakref
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from arcore.events import Binary
from pipeline.core.errors import UserError
from pipeline.data import preprocessing, shard_reader, shuffling
from pipeline.data.batches import Batch
from pipeline.data.loading import Loader
from pipeline.data.shuffling import BatchPlan, part
from pipeline.datasets.base import SplitData
from pipeline.datasets.read_transforms import dynamic_binarize
from tests.support.toy_datasets import Toy, toy_dataset
from tests.support.waits import META, NoWaitingCopies

ROWS = 9000  # three shards of two blocks each, 2048 and 952 rows


def toy(size: int = 5, num_classes: int | None = None, rows_per_shard: int = 3000) -> Toy:
    return toy_dataset(Binary((size,)), num_classes, rows_per_shard)


def numbered(rows: int, labels: bool = True, size: int = 16) -> SplitData:
    """Rows that are the bits of their own position, and so are their labels."""
    x = (np.arange(rows)[:, None] >> np.arange(size) & 1).astype(np.uint8)
    return SplitData(x, np.arange(rows) if labels else None)


def positions(x: torch.Tensor) -> np.ndarray:
    return x.long().numpy() @ (1 << np.arange(x.shape[1]))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    splits = {"train": numbered(ROWS), "valid": numbered(50), "test": numbered(3)}
    return preprocessing.write(toy(16, ROWS), splits, tmp_path_factory.mktemp("loading") / "toy")


@pytest.fixture(scope="module")
def gray(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, np.ndarray]:
    """A folder of gray levels that are drawn when read, and its training rows."""
    levels = np.random.default_rng(0).integers(0, 256, (5000, 6), dtype=np.uint8)
    data = SplitData(levels, None, "bernoulli")
    splits = {"train": data, "valid": data, "test": data}
    return preprocessing.write(toy(6), splits, tmp_path_factory.mktemp("gray") / "toy"), levels


def load(
    folder: Path, split: str = "train", world: int = 1, labels: bool = False, **plan: Any
) -> Loader:
    return Loader(folder, split, BatchPlan(world_size=world, **plan), use_labels=labels)


def load_ranks(folder: Path, split: str, world: int, **given: Any) -> list[Loader]:
    return [load(folder, split, world, rank=rank, **given) for rank in range(world)]


def epoch_of(loader: Loader, epoch: int = 0, first_step: int = 0) -> list[np.ndarray]:
    return [positions(batch.x) for batch in loader.epoch(epoch, first_step)]


def threads() -> list[threading.Thread]:
    return [t for t in threading.enumerate() if t.name.startswith("loading")]


# Order


@pytest.mark.parametrize(("seed", "epoch"), [(0, 0), (3, 1), (12345, 7)])
def test_order_of_one_rank_is_that_of_the_recorded_results(
    folder: Path, seed: int, epoch: int
) -> None:
    words = np.random.SeedSequence((seed, epoch))
    expected = np.random.Generator(np.random.PCG64(words)).permutation(ROWS)
    loader = load(folder, batch_size=64, seed=seed)
    assert loader.rows == ROWS and loader.steps_per_epoch == 141
    batches = epoch_of(loader, epoch)
    np.testing.assert_array_equal(np.concatenate(batches), expected)
    assert [len(batch) for batch in batches] == [64] * 140 + [40]


@pytest.mark.parametrize("split", ["train", "valid"])
@pytest.mark.parametrize("batch_size", [33, 700])
@pytest.mark.parametrize("world", [1, 3, 7])
@pytest.mark.parametrize("shuffle_rows", [1, 4500])
def test_ranks_share_out_an_epoch(
    folder: Path, split: str, batch_size: int, world: int, shuffle_rows: int
) -> None:
    plan = {"batch_size": batch_size, "seed": 1, "shuffle_rows": shuffle_rows}
    loaders = load_ranks(folder, split, world, labels=True, **plan)
    rows = loaders[0].rows
    assert len({loader.steps_per_epoch for loader in loaders}) == 1
    epochs = [list(loader.epoch(2)) for loader in loaders]
    totals = []
    for batch in zip(*epochs, strict=True):
        totals.append(sum(len(part) for part in batch))
        assert [part.rows for part in batch] == [totals[-1]] * world
        assert min(len(part) for part in batch) >= 1
        assert abs(totals[-1] - batch_size) <= world or len(totals) == len(epochs[0])
    taken = []
    for loader, epoch in zip(loaders, epochs, strict=True):
        mine = np.concatenate([positions(batch.x) for batch in epoch])
        labels = torch.cat([b.condition for b in epoch if b.condition is not None])
        np.testing.assert_array_equal(labels.numpy(), mine)
        begin, end = part(rows, loaders.index(loader), world)
        if rows <= shuffle_rows:
            begin, end = 0, rows
        assert mine.min() >= begin and mine.max() < end
        taken.append(mine)
    whole = np.concatenate(taken)
    assert len(set(whole.tolist())) == len(whole) == sum(totals)
    assert rows - len(whole) < 2 * world, "less than a row a rank, of a last batch or of parts"
    if world == 1:
        assert len(whole) == rows


@pytest.mark.parametrize("split", ["train", "valid"])
@pytest.mark.parametrize("batch_size", [7, 33])
@pytest.mark.parametrize("world", [2, 7])
def test_batches_of_a_small_split_do_not_depend_on_the_ranks(
    folder: Path, split: str, batch_size: int, world: int
) -> None:
    alone = load(folder, split, batch_size=batch_size, seed=1)
    loaders = load_ranks(folder, split, world, batch_size=batch_size, seed=1)
    steps = {loader.steps_per_epoch for loader in loaders}
    tail = alone.rows % batch_size
    assert steps == {alone.steps_per_epoch - (0 < tail < world)}
    parts = zip(*(loader.epoch(2) for loader in loaders), strict=True)
    for whole, ranks in zip(alone.epoch(2), parts, strict=False):
        assert [batch.rows for batch in ranks] == [whole.rows] * world
        mine = [positions(batch.x) for batch in ranks]
        assert max(map(len, mine)) - min(map(len, mine)) <= 1 and min(map(len, mine)) >= 1
        assert sorted(np.concatenate(mine)) == sorted(positions(whole.x))


@pytest.mark.parametrize("world", [1, 2])
def test_a_part_of_the_rows_is_the_first_of_them(folder: Path, world: int) -> None:
    loaders = load_ranks(folder, "train", world, batch_size=64, first_rows=200)
    assert [loader.steps_per_epoch for loader in loaders] == [4] * world
    seen = np.concatenate([rows for loader in loaders for rows in epoch_of(loader)])
    np.testing.assert_array_equal(np.sort(seen), np.arange(200))


def test_a_part_that_has_not_all_classes_is_told(tmp_path, caplog) -> None:
    by_class = replace(numbered(90), labels=np.arange(90) // 30)
    dataset = toy(16, num_classes=4)
    splits = dict.fromkeys(("train", "valid", "test"), by_class)
    folder = preprocessing.write(dataset, splits, tmp_path / "shards")
    for rows in (90, 61, None):
        load(folder, batch_size=5, first_rows=rows)
    assert not caplog.records
    for rank in (0, 1):
        load(folder, rank=rank, world=2, batch_size=5, first_rows=30)
    (record,) = caplog.records
    assert record.getMessage() == (
        "warning: trainer.train_rows: the first 30 rows have none of 2 of the 3 classes"
    )


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"first_rows": 0}, "train_rows: expected an integer in 1..9000"),
        ({"first_rows": ROWS + 1}, "train_rows: expected an integer in 1..9000"),
        ({"first_rows": 200, "shuffle_rows": ROWS - 1}, "train_rows: expected null for a split"),
    ],
)
def test_a_part_that_cannot_be_is_refused(
    folder: Path, given: dict[str, int], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        load(folder, batch_size=64, **given)


@pytest.mark.parametrize("shuffle_rows", [2500, 4500])
def test_order_is_of_seed_epoch_and_rank(folder: Path, shuffle_rows: int) -> None:
    def order(seed: int, epoch: int, rank: int = 0) -> list[int]:
        loader = load(
            folder, rank=rank, world=3, batch_size=90, seed=seed, shuffle_rows=shuffle_rows
        )
        begin = part(ROWS, rank, 3)[0]
        return [int(i) - begin for i in np.concatenate(epoch_of(loader, epoch))]

    first = order(0, 0)
    assert first == order(0, 0)
    for other in (order(0, 1), order(1, 0), order(0, 0, 1)):
        assert other != first and sorted(other) == sorted(first)


@pytest.mark.parametrize("world", [1, 3])
@pytest.mark.parametrize("shuffle_rows", [1, 2500, 5000, 100_000])
def test_first_step_gives_the_same_remaining_batches(
    folder: Path, world: int, shuffle_rows: int
) -> None:
    loader = load(
        folder, rank=world - 1, world=world, batch_size=300, seed=4, shuffle_rows=shuffle_rows
    )
    whole = epoch_of(loader, 5)
    for first_step in (0, 1, 8, 17, loader.steps_per_epoch - 1, loader.steps_per_epoch):
        rest = epoch_of(loader, 5, first_step)
        assert len(rest) == len(whole) - first_step
        for got, expected in zip(rest, whole[first_step:], strict=True):
            np.testing.assert_array_equal(got, expected)


def test_windows_before_the_first_step_are_not_read(folder: Path, monkeypatch) -> None:
    read: list[int] = []
    original = shard_reader.ShardReader.read

    def counted(self: Any, ranges: Any) -> SplitData:
        read.append(sum(stop - start for start, stop in ranges))
        return original(self, ranges)

    monkeypatch.setattr(shard_reader.ShardReader, "read", counted)
    loader = load(folder, batch_size=100, shuffle_rows=3000)
    list(loader.epoch(0, loader.steps_per_epoch - 2))
    assert len(read) == 1 and read[0] <= 3000


def test_streaming_shuffles_blocks_and_rows(folder: Path) -> None:
    loader = load(folder, batch_size=100, shuffle_rows=4096)
    order = np.concatenate(epoch_of(loader))
    assert sorted(order.tolist()) == list(range(ROWS))
    assert (np.abs(np.diff(order)) == 1).mean() < 0.01
    assert len({int(i) // 3000 for i in order[:3000]}) > 1


# Rows


@pytest.mark.parametrize("shuffle_rows", [1, 2500, 100_000])
@pytest.mark.parametrize("world", [1, 3])
def test_sequential_is_in_order(folder: Path, shuffle_rows: int, world: int) -> None:
    parts = []
    for loader in load_ranks(folder, "train", world, shuffle_rows=shuffle_rows, labels=True):
        batches = list(loader.sequential(700))
        assert {len(batch) for batch in batches[:-1]} == {700}
        for batch in batches:
            labels = batch.condition
            assert labels is not None and batch.scored is None and batch.rows == len(batch)
            np.testing.assert_array_equal(positions(batch.x), labels.numpy())
            parts.append(labels.numpy())
    np.testing.assert_array_equal(np.concatenate(parts), np.arange(ROWS))
    few = [list(loader.sequential(2)) for loader in load_ranks(folder, "test", 5)]
    assert sorted(sum(map(len, batches)) for batches in few) == [0, 0, 1, 1, 1]


@pytest.mark.parametrize("shuffle_rows", [1, 2100, 2500])
def test_dynamic_binarisation_is_of_the_row(
    gray: tuple[Path, np.ndarray], shuffle_rows: int
) -> None:
    place, levels = gray
    for rank in range(2):
        loader = load(place, rank=rank, world=2, batch_size=99, seed=5, shuffle_rows=shuffle_rows)
        held = load(place, rank=rank, world=2)
        whole = load(place, rank=rank, world=2, batch_size=99, seed=5)
        begin, end = part(5000, rank, 2)
        everything = np.arange(begin, end)
        bits = dynamic_binarize(levels[begin:end], everything, 3, 5)
        got = torch.cat([batch.x for batch in loader.epoch(3)]).numpy()
        # Which rows were taken: the order of the same windows, of rows without a draw.
        windows = loader._windows(3, 0)
        rows = np.concatenate([window.order for window in windows])[: len(got)]
        np.testing.assert_array_equal(got, bits[rows - begin])
        valid = dynamic_binarize(levels[begin:end], everything, 0, 0)
        for some in (loader, held, whole):
            mine = torch.cat([batch.x for batch in some.sequential(123)])
            np.testing.assert_array_equal(mine.numpy(), valid)
        drawn = dynamic_binarize(levels, np.arange(5000), 3, 5)
        order = np.random.Generator(np.random.PCG64(np.random.SeedSequence((5, 3))))
        first = order.permutation(5000)[:99][rank::2]
        x = next(whole.epoch(3)).x
        np.testing.assert_array_equal(x.numpy(), drawn[first])


def test_batches_are_the_callers_own(folder: Path) -> None:
    loader = load(folder, "valid", batch_size=10)
    for batch in loader.sequential(50):
        batch.x.fill_(7)
    x = next(loader.sequential(50)).x
    assert int(x.max()) == 1


# Bad input


@pytest.mark.parametrize(
    ("split", "world", "batch_size", "least", "shuffle_rows"),
    [
        ("valid", 3, 3, 4, 20),
        ("valid", 3, 2, 3, 50),
        ("valid", 2, 1, 2, 20),
        ("valid", 1, 0, 1, 20),
        ("valid", 1, 0, 1, 50),
        ("test", 4, 10, 4, 2),
        ("test", 4, 10, 4, 3),
    ],
)
def test_too_small_a_batch(
    folder: Path, split: str, world: int, batch_size: int, least: int, shuffle_rows: int
) -> None:
    rows = {"valid": 50, "test": 3}[split]
    with pytest.raises(UserError) as raised:
        load(folder, split, world=world, batch_size=batch_size, shuffle_rows=shuffle_rows)
    assert str(raised.value) == (
        f"trainer.batch_size: expected >= {least} (workers) and rows for a batch, "
        f"got {batch_size} with {rows} rows"
    )


def test_bad_arguments(folder: Path) -> None:
    with pytest.raises(ValueError, match="rank: expected 0 <= rank < 2"):
        load(folder, rank=2, world=2)
    with pytest.raises(ValueError, match="split: expected one of"):
        load(folder, "dev")
    with pytest.raises(UserError, match="shuffle_rows: expected an integer >= 1, got 0"):
        load(folder, shuffle_rows=0)
    with pytest.raises(ValueError, match="first_step: expected 0 <= first_step <= 90"):
        load(folder, batch_size=100).epoch(0, 91)
    with pytest.raises(ValueError, match="of batches of None"):
        load(folder).epoch(0)
    with pytest.raises(ValueError, match="batch_size: expected an integer >= 1, got 0"):
        next(load(folder).sequential(0))


# The thread


def test_thread_ends_on_early_close(folder: Path) -> None:
    assert not threads()
    for close in (True, False):
        batches: Iterator[Any] = load(folder, batch_size=10, shuffle_rows=1).epoch(0)
        next(batches)
        assert len(threads()) == 1
        if close:
            batches.close()  # type: ignore[attr-defined]
        del batches
        gc.collect()
        assert not threads()


def test_two_windows_at_most(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    living: list[Any] = []
    most = 0
    original = shuffling.Window.__init__

    def tracked(self: Any, *args: Any) -> None:
        nonlocal most
        original(self, *args)
        living.append(weakref.ref(self))
        most = max(most, sum(ref() is not None for ref in living))

    monkeypatch.setattr(shuffling.Window, "__init__", tracked)
    loader = load(folder, batch_size=100, shuffle_rows=1)
    rows = 0
    for batch in loader.epoch(0):
        rows += len(batch)
        del batch
        time.sleep(0.001)  # lets the thread read as far ahead as it may
    assert rows == ROWS and len(living) == 6 and most <= 2


@pytest.mark.parametrize("fault", ["missing", "corrupt"])
def test_error_in_the_thread_surfaces(tmp_path: Path, fault: str) -> None:
    splits = {name: numbered(ROWS, False) for name in ("train", "valid", "test")}
    place = preprocessing.write(toy(16), splits, tmp_path / "toy")
    path = place / "train-00001-of-00003.parquet"
    content = path.read_bytes()
    path.unlink()
    if fault == "corrupt":
        path.write_bytes(content[:-1] + b"?")
    expected = {"missing": "shard not found", "corrupt": "corrupt shard: expected sha256"}[fault]
    streamed = load(place, batch_size=100, shuffle_rows=1)
    with pytest.raises(UserError, match=f"train-00001-of-00003.parquet: {expected}"):
        list(streamed.epoch(0))
    assert not threads()
    with pytest.raises(UserError, match=expected):
        list(streamed.sequential(10))
    with pytest.raises(UserError, match=expected):
        load(place, batch_size=100)


def test_a_batch_goes_to_the_device_without_waiting_but_for_its_spans() -> None:
    batch = Batch(torch.ones(2, 3), torch.arange(2), torch.tensor([[0, 3], [1, 2]]), rows=2)
    with NoWaitingCopies():
        moved = batch.to(META)
    assert moved.x.is_meta and moved.condition.is_meta
    assert moved.scored is batch.scored, "the host reads them in each step"
    assert moved.rows == 2
