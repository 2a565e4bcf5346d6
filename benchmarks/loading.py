"""Rows per second that the loader gives and that the fastest model takes, and the loader's memory.

Everything runs in one thread, but for the thread in which the loader reads ahead: "CPU" counts the
processor time of both, so that it is the rate on a single core. "stream" reads Parquet, window by
window; "memory" shuffles rows that were read before. The first epoch also checks SHA-256 sums.
Peak memory is that of a process that streams one epoch, over what it had after its imports.

    python benchmarks/loading.py [--rows 200000] [--shuffle-rows 65536] [--steps 200]
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import measuring
import numpy as np
import torch

import arcore
from pipeline.data import loading, preprocessing
from pipeline.data.batches import Batch
from pipeline.data.manifest import read_manifest, write_manifest
from pipeline.data.shard_layout import content_sha256
from pipeline.data.shard_reader import ShardReader
from pipeline.data.shuffling import BatchPlan
from pipeline.datasets.base import Dataset, SplitData
from pipeline.datasets.options import Options

SIZE = 784
EVENT = arcore.events.Binary((1, 28, 28))


@dataclass(frozen=True, kw_only=True)
class Synthetic(Dataset):
    """Independent bits, 13% of them ones, as in binarised MNIST."""

    def decode(self, raw_dir: Path) -> dict[str, SplitData]:
        raise NotImplementedError


DATASET = Synthetic(
    name="synthetic", family="synthetic", event=EVENT, unit="nats", files=(),
    provenance="made up", options=Options(),
)  # fmt: skip


def bits(rows: int) -> np.ndarray:
    generator = np.random.default_rng(0)
    x = np.empty((rows, *EVENT.shape), np.uint8)
    for start in range(0, rows, 10_000):
        part = x[start : start + 10_000]
        part[:] = generator.random(part.shape, dtype=np.float32) < 0.13
    return x


def repeat(folder: Path, times: int, target: Path) -> Path:
    """Make a dataset whose training rows are those of another, several times, by hard links."""
    target.mkdir()
    splits = dict(read_manifest(folder).splits)
    found = splits["train"].shards
    count = len(found) * times
    repeated = []
    for number in range(count):
        shard = found[number % len(found)]
        name = f"train-{number:05d}-of-{count:05d}.parquet"
        os.link(folder / shard.file, target / name)
        repeated.append(replace(shard, file=name))
    rows = splits["train"].rows * times
    reader = ShardReader(folder, "train")
    digest = content_sha256(reader.read([b[:2]]) for _ in range(times) for b in reader.blocks)
    splits["train"] = replace(splits["train"], rows=rows, sha256=digest, shards=tuple(repeated))
    write_manifest(DATASET, splits, target)
    return target


def rate(batches: Iterator[Batch]) -> tuple[float, float]:
    """Return rows per second of wall time, and of processor time."""
    wall, cpu = time.perf_counter(), time.process_time()
    rows = sum(len(batch) for batch in batches)
    return rows / (time.perf_counter() - wall), rows / (time.process_time() - cpu)


def model_rate(batch: torch.Tensor, hidden: int, steps: int) -> float:
    """Return rows per processor second of training steps (forward, backward, Adam) of a MADE."""
    model = arcore.create_model("made", EVENT, hidden=[hidden])
    step = measuring.training_step(model, batch, optimizer=torch.optim.Adam)
    return len(batch) / measuring.median_seconds(step, steps)


def peak_bytes() -> int:
    """The most memory this process had; ru_maxrss would count that of the process before exec."""
    status = Path("/proc/self/status").read_text()
    return 1024 * int(status.split("VmHWM:")[1].split()[0])


def stream_once(folder: str, batch_size: int, shuffle_rows: int) -> None:
    before = peak_bytes()
    for _ in loader_of(Path(folder), batch_size, shuffle_rows).epoch(0):
        pass
    print(before, peak_bytes())


def peak(folder: Path, batch_size: int, shuffle_rows: int) -> tuple[float, float]:
    """Stream an epoch in a process of its own; return its peak MB and what it grew by."""
    command = [sys.executable, __file__, "--stream", str(folder)]
    command += ["--batch-size", str(batch_size), "--shuffle-rows", str(shuffle_rows)]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    before, after = map(int, output.split())
    return after / 1e6, (after - before) / 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--times", type=int, default=10, help="of the larger dataset, for memory")
    parser.add_argument("--batch-size", type=int, default=100)
    parser.add_argument("--shuffle-rows", type=int, default=1 << 16)
    parser.add_argument("--hidden", type=int, default=500)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--stream", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    batch_size, shuffle_rows = arguments.batch_size, arguments.shuffle_rows
    torch.set_num_threads(1)
    if arguments.stream:
        stream_once(arguments.stream, batch_size, shuffle_rows)
        return
    with tempfile.TemporaryDirectory() as temporary:
        few = SplitData(bits(10))
        splits = {"train": SplitData(bits(arguments.rows)), "valid": few, "test": few}
        folder = preprocessing.write(DATASET, splits, Path(temporary) / "shards")
        del splits
        size = sum(path.stat().st_size for path in folder.iterdir())
        print(f"{measuring.machine()}, {arguments.rows} rows of {SIZE} bits,")
        print(f"{size / arguments.rows:.0f} bytes per row on disk, batches of {batch_size}")
        batch = next(loader_of(folder, batch_size, 1).epoch(0)).x
        model = model_rate(batch, arguments.hidden, arguments.steps)
        print(f"\n{'':26} {'rows/s':>10} {'rows/s CPU':>11} {'CPU / model':>12}")
        print(f"{f'MADE {arguments.hidden}, training step':26} {model:10,.0f}")
        stream = loader_of(folder, batch_size, shuffle_rows)
        memory = loader_of(folder, batch_size, arguments.rows)
        epochs = [("stream, first epoch", stream, 0), ("stream", stream, 1), ("memory", memory, 1)]
        for name, loader, epoch in epochs:
            wall, cpu = rate(loader.epoch(epoch))
            print(f"{name:26} {wall:10,.0f} {cpu:11,.0f} {cpu / model:12.1f}")
        large = repeat(folder, arguments.times, Path(temporary) / "large")
        print(f"\n{'rows streamed':>26} {'peak MB':>10} {'growth MB':>11}")
        for place, rows in ((folder, arguments.rows), (large, arguments.rows * arguments.times)):
            total, grown = peak(place, batch_size, shuffle_rows)
            print(f"{rows:26,} {total:10.0f} {grown:11.0f}", flush=True)


def loader_of(folder: Path, batch_size: int, shuffle_rows: int) -> loading.Loader:
    plan = BatchPlan(batch_size=batch_size, shuffle_rows=shuffle_rows)
    return loading.Loader(folder, "train", plan)


if __name__ == "__main__":
    main()
