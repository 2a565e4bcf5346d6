"""How time and memory grow: sampling over image sizes, a step over widths, the loader over rows.

Sampling draws 4 binary images of each size in a process of its own, whose peak of memory is taken
less that before the model was made. The slope is that of log seconds over log pixels, by least
squares: 1 where a pixel's time does not depend on the size. A training step is forward, backward
and AdamW of MADE with one hidden layer on a batch of 100 of 784 dimensions; its slope is over the
width. The loader streams an epoch of so many rows of 784 bits, shuffled in windows of 16,384, from
Parquet files that hold 50,000 rows again and again; its memory is the growth of a process of its
own. One thread; seconds are the processor's.

    python benchmarks/growth.py [--sizes 16 32 64 128] [--widths 250 500 ...]
                                [--times 1 2 4 8 16] [--only sampling widths loader] [--json FILE]
"""

import json
import math
import multiprocessing
import statistics
import tempfile
from pathlib import Path
from typing import Any

import loading
import measuring
import torch

import arcore
from pipeline.data import preprocessing
from pipeline.datasets.base import SplitData

MODELS: dict[str, dict[str, Any]] = {
    "pixelcnn": {"num_blocks": 5, "hidden": 16},
    "gated_pixelcnn": {"num_layers": 5, "width": 32},
    "row_lstm": {},
    "diagonal_bilstm": {},
}
IMAGES = 4
ROWS, BATCH, WINDOW = 50_000, 100, 1 << 14
PARTS = ("sampling", "widths", "loader")


def draw(job: tuple[str, int]) -> tuple[float, float]:
    """Return the median seconds of drawing, and the MB of memory that it takes at its peak."""
    name, side = job
    torch.set_num_threads(1)
    before = loading.peak_bytes()
    event = arcore.events.Binary((1, side, side))
    model = arcore.create_model(name, event, **MODELS[name]).eval()
    model.sample(IMAGES)
    grown = (loading.peak_bytes() - before) / 1e6
    return measuring.median_seconds(lambda: model.sample(IMAGES), 3), grown


def step_seconds(width: int) -> float:
    """Return the median seconds of a training step of MADE."""
    torch.set_num_threads(1)
    model = arcore.create_model("made", arcore.events.Binary((784,)), hidden=[width])
    step = measuring.training_step(model, (torch.rand(100, 784) < 0.13).float())
    return measuring.median_seconds(step, 7, warm_up=1)


def slope(sizes: list[int], seconds: list[float]) -> float:
    """Return the slope of log seconds over log sizes, NaN of a single one."""
    if len(sizes) < 2:
        return math.nan
    x, y = ([math.log(value) for value in values] for values in (sizes, seconds))
    return statistics.linear_regression(x, y).slope


def sampling(sizes: list[int]) -> list[dict[str, Any]]:
    """Return time and memory of drawing, model by model."""
    rows, context = [], multiprocessing.get_context("spawn")
    for name in MODELS:
        seconds, memory = [], []
        for side in sizes:
            with context.Pool(1) as pool:
                taken, peak = pool.map(draw, [(name, side)])[0]
            seconds.append(taken)
            memory.append(peak)
        pixels = [side**2 for side in sizes]
        each = [1e6 * taken / number for taken, number in zip(seconds, pixels, strict=True)]
        rows.append(
            {
                "name": name, "sizes": sizes, "microseconds_per_pixel": each, "memory_mb": memory,
                "slope": slope(pixels, seconds),
            }
        )  # fmt: skip
        print(json.dumps(rows[-1]), flush=True)
    return rows


def widths(chosen: list[int]) -> dict[str, Any]:
    """Return the time of MADE's step, width by width."""
    steps = [step_seconds(width) for width in chosen]
    found = {
        "widths": chosen, "ms": [1e3 * taken for taken in steps],
        "slope": slope(chosen[-3:], steps[-3:]),
    }  # fmt: skip
    print(json.dumps(found), flush=True)
    return found


def loader(times: list[int]) -> dict[str, Any]:
    """Return the time of an epoch and the growth of memory, by the number of rows."""
    torch.set_num_threads(1)
    seconds, memory = [], []
    with tempfile.TemporaryDirectory() as temporary:
        scratch, few = Path(temporary), SplitData(loading.bits(10))
        splits = {"train": SplitData(loading.bits(ROWS)), "valid": few, "test": few}
        folder = preprocessing.write(loading.DATASET, splits, scratch / "shards")
        for count in times:
            place = loading.repeat(folder, count, scratch / str(count))
            stream = loading.loader_of(place, BATCH, WINDOW)
            loading.rate(stream.epoch(0))  # checks the files' sums
            _, each = loading.rate(stream.epoch(1))
            seconds.append(count * ROWS / each)
            memory.append(loading.peak(place, BATCH, WINDOW)[1])
    rows = [count * ROWS for count in times]
    found = {"rows": rows, "seconds": seconds, "memory_mb": memory, "slope": slope(rows, seconds)}
    print(json.dumps(found), flush=True)
    return found


def main() -> None:
    parser = measuring.parser(__doc__)
    parser.add_argument("--sizes", nargs="+", type=int, default=[16, 32, 64, 128])
    parser.add_argument("--widths", nargs="+", type=int, default=[250, 500, 1000, 2000, 4000, 8000])
    parser.add_argument("--times", nargs="+", type=int, default=[1, 2, 4, 8, 16])
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS)
    arguments = parser.parse_args()
    measures = {
        "rows": lambda: sampling(arguments.sizes),
        "made": lambda: widths(arguments.widths),
        "loader": lambda: loader(arguments.times),
    }
    keys = dict(zip(PARTS, measures, strict=True))
    measuring.write(arguments.json, {keys[part]: measures[keys[part]]() for part in arguments.only})


if __name__ == "__main__":
    main()
