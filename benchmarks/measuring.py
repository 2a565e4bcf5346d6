"""What benchmarks share: their options, clocks, steps and tables, and records of numbers.

`pipeline` is imported where it is needed: `against.py` runs steps of older commits too.
"""

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

ROOT = Path(__file__).resolve().parent.parent
Clock = Callable[[], float]


def parser(doc: str | None, *, threads: int | None = None) -> argparse.ArgumentParser:
    """Make a parser with `--json`, and `--threads` where a default is given."""
    made = argparse.ArgumentParser(description=(doc or "").splitlines()[0])
    made.add_argument("--json", type=Path, help="file for the numbers")
    if threads is not None:
        made.add_argument("--threads", type=int, default=threads)
    return made


def add_untuned(made: argparse.ArgumentParser) -> None:
    """Add the option of a user's loop that does not call `arcore.tune_process`."""
    made.add_argument("--untuned", action="store_true", help="keep the C library's allocator")


def clock_of(threads: int) -> Clock:
    """Return the processor's clock for one thread, which other processes do not stretch."""
    return time.process_time if threads == 1 else time.perf_counter


def prepare(threads: int = 1, untuned: bool = False) -> Clock:
    """Keep freed memory as the pipeline's trainings do, and set the threads; return the clock."""
    import arcore

    if not untuned:
        arcore.tune_process(flush_denormals=False)
    torch.set_num_threads(threads)
    return clock_of(threads)


def training_step(
    model: nn.Module, x: Tensor, precision: str = "float32", optimizer: type = torch.optim.AdamW
) -> Callable[[], None]:
    """Return a step: forward, backward and a fused update, in a precision."""
    update = optimizer(model.parameters(), fused=True)
    coarse = precision == "bfloat16"

    def step() -> None:
        update.zero_grad(set_to_none=True)
        with torch.autocast(x.device.type, torch.bfloat16, enabled=coarse):
            loss = model(x).mean()
        loss.backward()
        update.step()

    return step


def seconds(step: Callable[[], object], clock: Clock = time.process_time) -> float:
    """Return the seconds of one call."""
    began = clock()
    step()
    return clock() - began


def median_seconds(step: Callable[[], object], repeats: int, warm_up: int = 0) -> float:
    """Return the median of the processor's seconds, after calls that do not count."""
    times = [seconds(step) for _ in range(warm_up + repeats)]
    return statistics.median(times[warm_up:])


def medians(pairs: Sequence[tuple[float, float]]) -> tuple[float, float, float]:
    """Return the medians of pairs (ours, theirs), and of the ratios theirs / ours."""
    ours, theirs = (statistics.median(column) for column in zip(*pairs, strict=True))
    return ours, theirs, statistics.median(b / a for a, b in pairs)


def table_head(*columns: str) -> None:
    """Print the head of a Markdown table."""
    print(f"| {' | '.join(columns)} |\n|{'---|' * len(columns)}")


def load() -> str:
    """Return the machine's load averages."""
    return " ".join(f"{average:.1f}" for average in os.getloadavg())


def machine() -> str:
    """Name the processor and torch."""
    from pipeline.artifacts.origin import device_name

    return f"{device_name(torch.device('cpu'))}, torch {torch.__version__}"


def origin() -> dict[str, str]:
    """Return what numbers of now are of: the commit, the processor, torch."""
    from pipeline.artifacts.origin import commit, device_name

    device = device_name(torch.device("cpu"))
    return {"at": commit(ROOT), "device": device, "torch": torch.__version__}


def write(path: Path | None, content: dict[str, Any]) -> None:
    """Write a record of numbers as JSON, if a file is given."""
    if path is not None:
        path.write_text(json.dumps({**origin(), **content}, indent=1) + "\n")
