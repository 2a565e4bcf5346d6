"""How time and memory grow: sampling over image sizes, a training step over widths.

Sampling draws 4 binary images of each size in a process of its own, whose peak of memory is taken
less that before the model was made. The slope is that of log seconds over log pixels, by least
squares: 1 where a pixel's time does not depend on the size. A training step is forward, backward
and AdamW of MADE with one hidden layer on a batch of 100 of 784 dimensions; its slope is over the
width. One thread; seconds are the processor's.

    python benchmarks/growth.py [--sizes 16 32 64 128] [--widths 250 500 ...] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import math
import multiprocessing
import resource
import statistics
import time
from pathlib import Path
from typing import Any

import torch

import arcore

MODELS: dict[str, dict[str, Any]] = {
    "pixelcnn": {"num_blocks": 5, "hidden": 16},
    "gated_pixelcnn": {"num_layers": 5, "width": 32},
    "row_lstm": {},
    "diagonal_bilstm": {},
}
IMAGES = 4


def draw(job: tuple[str, int]) -> tuple[float, float]:
    """Return the seconds of drawing and the MB of memory that it takes at its peak."""
    name, side = job
    torch.set_num_threads(1)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    event = arcore.events.Binary((1, side, side))
    model = arcore.create_model(name, event, **MODELS[name]).eval()
    began = time.process_time()
    model.sample(IMAGES)
    taken = time.process_time() - began
    return taken, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024


def step_seconds(width: int) -> float:
    """Return the median seconds of a training step of MADE."""
    torch.set_num_threads(1)
    model = arcore.create_model("made", arcore.events.Binary((784,)), hidden=[width])
    optimizer = torch.optim.AdamW(model.parameters(), fused=True)
    x, times = (torch.rand(100, 784) < 0.13).float(), []
    for _ in range(8):
        began = time.process_time()
        optimizer.zero_grad(set_to_none=True)
        model(x).mean().backward()
        optimizer.step()
        times.append(time.process_time() - began)
    return statistics.median(times[1:])


def slope(sizes: list[int], seconds: list[float]) -> float:
    """Return the slope of log seconds over log sizes."""
    x, y = ([math.log(value) for value in values] for values in (sizes, seconds))
    return statistics.linear_regression(x, y).slope


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", nargs="+", type=int, default=[16, 32, 64, 128])
    parser.add_argument("--widths", nargs="+", type=int, default=[250, 500, 1000, 2000, 4000, 8000])
    parser.add_argument("--json", type=Path, help="file for the numbers")
    arguments = parser.parse_args()
    rows = []
    context = multiprocessing.get_context("spawn")
    for name in MODELS:
        seconds, memory = [], []
        for side in arguments.sizes:
            with context.Pool(1) as pool:
                taken, peak = pool.map(draw, [(name, side)])[0]
            seconds.append(taken)
            memory.append(peak)
        pixels = [side**2 for side in arguments.sizes]
        rows.append(
            {
                "name": name,
                "sizes": arguments.sizes,
                "microseconds_per_pixel": [
                    1e6 * taken / number for taken, number in zip(seconds, pixels, strict=True)
                ],
                "memory_mb": memory,
                "slope": slope(pixels, seconds),
            }
        )
        print(json.dumps(rows[-1]), flush=True)
    steps = [step_seconds(width) for width in arguments.widths]
    widths = {
        "widths": arguments.widths,
        "ms": [1e3 * taken for taken in steps],
        "slope": slope(arguments.widths[-3:], steps[-3:]),
    }
    print(json.dumps(widths))
    if arguments.json:
        arguments.json.write_text(json.dumps({"rows": rows, "made": widths}, indent=1) + "\n")


if __name__ == "__main__":
    main()
