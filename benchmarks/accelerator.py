"""Training steps and draws of every system on an accelerator, with what holds one back.

The rows are those of `against.py`, in float32 and in bfloat16, on a GPU as stages have it: without
TF32, with convolutions that are the same at each run. They are at their batch and at a multiple of
it, which fills a larger device. A step is forward, backward and fused AdamW; milliseconds are
medians of the device's own events. "GFLOP/s" counts matrix products and convolutions; "waits" are
the operations in a training step at which the host waits for the device, as PyTorch's
synchronisation debugging reports them: there should be none. Draws are timed by the clock.

    python benchmarks/accelerator.py [--device cuda] [--scale 8] [--steps 20] [--only nade ...]
                                     [--json FILE]

`--device cpu --scale 1 --steps 1` runs the same code without one.
"""

import json
import statistics
import time
import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

import measuring
import torch
from against import ROWS, Row
from share import flops
from torch import Tensor

import arcore
from pipeline.artifacts import origin
from pipeline.cluster.devices import exact


def make_model(row: Row, device: torch.device) -> arcore.AutoregressiveModel:
    kind, given = row.event
    event = getattr(arcore.events, kind)(*(given if kind == "Levels" else (given,)))
    torch.manual_seed(0)
    return arcore.create_model(row.model, event, **row.hyperparameters).to(device)


def batch_of(model: arcore.AutoregressiveModel, count: int) -> Tensor:
    levels = getattr(model.event, "num_levels", 2)
    shape = (count, *model.event.extents)
    if levels == 2:
        return (torch.rand(shape, device=model.device) < 0.13).float()
    return torch.randint(levels, shape, device=model.device)


def milliseconds(step: Callable[[], None], device: torch.device, steps: int) -> float:
    """Return the median milliseconds of a step."""
    times = []
    for _ in range(steps):
        if device.type == "cuda":
            begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            begin.record()
            step()
            end.record()
            torch.cuda.synchronize(device)
            times.append(begin.elapsed_time(end))
        else:
            times.append(1e3 * measuring.seconds(step, time.perf_counter))
    return statistics.median(times)


def count_waits(step: Callable[[], None], device: torch.device) -> int | None:
    """Count the operations of a step at which the host waits; None where that is not known."""
    if device.type != "cuda":
        return None
    torch.cuda.set_sync_debug_mode("warn")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        step()
    torch.cuda.set_sync_debug_mode("default")
    return sum("synchroniz" in str(warning.message) for warning in caught)


def training(row: Row, device: torch.device, scale: int, steps: int) -> list[dict[str, Any]]:
    """Return a row's steps in both precisions and both batches."""
    found = []
    for precision in ("float32", "bfloat16"):
        for count in sorted({row.batch, scale * row.batch}):
            model = make_model(row, device)
            step = measuring.training_step(model, batch_of(model, count), precision)
            for _ in range(3):
                step()
            done = flops(step)
            if device.type == "cuda":
                torch.cuda.reset_peak_memory_stats(device)
            taken = milliseconds(step, device, steps)
            peak = torch.cuda.max_memory_allocated(device) if device.type == "cuda" else 0
            found.append(
                {
                    "name": row.name, "precision": precision, "batch": count,
                    "ms": taken,
                    "gflops": done / taken / 1e6,
                    "memory_mb": peak / 1e6, "waits": count_waits(step, device),
                }
            )  # fmt: skip
    return found


def drawing(row: Row, device: torch.device, scale: int) -> list[dict[str, Any]]:
    """Return the time of a row's draws at both batches."""
    found, model = [], make_model(row, device).eval()
    for count in sorted({row.batch, scale * row.batch}):
        draw = partial(lambda n: model.sample(n).cpu(), count)
        times = [measuring.seconds(draw, time.perf_counter) for _ in range(3)]
        taken = 1e3 * statistics.median(times[1:])
        found.append({"name": row.name, "precision": "float32", "batch": count, "ms": taken})
    return found


def main() -> None:
    parser = measuring.parser(__doc__)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--scale", type=int, default=8, help="of the larger batch")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--only", nargs="+", choices=[row.name for row in ROWS])
    arguments = parser.parse_args()
    device = exact(torch.device(arguments.device))
    if device.type == "cuda" and not torch.cuda.is_available():
        parser.error("--device: expected an accelerator that torch sees, got a machine without one")
    if device.type == "cuda" and device.index is not None:
        torch.cuda.set_device(device)  # whose events time a step
    print(f"{origin.device_name(device)}, torch {torch.__version__}")
    measuring.table_head("", *"precision batch ms events/s GFLOP/s MB waits".split())
    record = []
    for row in ROWS:
        if arguments.only and row.name not in arguments.only:
            continue
        if row.sampling:
            found = drawing(row, device, arguments.scale)
        else:
            found = training(row, device, arguments.scale, arguments.steps)
        for one in found:
            rate = one["batch"] / one["ms"] * 1e3
            last = [one.get("gflops"), one.get("memory_mb"), one.get("waits")]
            cells = ["" if value is None else f"{value:.0f}" for value in last]
            print(
                f"| {one['name']} | {one['precision']} | {one['batch']} | {one['ms']:.2f} "
                f"| {rate:,.0f} | {' | '.join(cells)} |",
                flush=True,
            )
        record += found
    if arguments.json:
        content = {"device": origin.device_name(device), "rows": record}
        arguments.json.write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    main()
