"""Do MADE's direct connections earn what they cost? The same training with and without them.

Data are those of `precision.py`: scikit-learn's digits, binarised. After each epoch the last 200
training images, which are left out of training, choose the weights that are scored on the test
images. A time is the median of a step's milliseconds of the processor in one thread; nats are means
over seeds, with the standard error of the paired difference over seeds.

    python benchmarks/direct.py [--seeds 3] [--epochs 40] [--json FILE]
"""

from __future__ import annotations

import json
import math
import statistics
import time
from typing import Any

import measuring
import torch
from precision import BATCH, digits

import arcore

HIDDEN: tuple[list[int], ...] = ([100], [500], [500, 500])
VALIDATION = 200


def train(hidden: list[int], direct: bool, seed: int, epochs: int) -> tuple[float, float]:
    """Return the test nats of the epoch that is best in validation, and seconds of a step."""
    torch.manual_seed(seed)
    given, test = digits()
    x, valid = given[:-VALIDATION], given[-VALIDATION:]
    event = arcore.events.Binary((1, 8, 8))
    model = arcore.create_model("made", event, hidden=hidden, direct=direct)
    optimizer = torch.optim.AdamW(model.parameters(), 1e-3, fused=True)
    generator, times, best, scored = torch.Generator().manual_seed(seed), [], math.inf, math.nan
    for _ in range(epochs):
        model.train()
        for rows in torch.randperm(len(x), generator=generator).split(BATCH):
            began = time.process_time()
            optimizer.zero_grad(set_to_none=True)
            model(x[rows]).mean().backward()
            optimizer.step()
            times.append(time.process_time() - began)
        model.eval()
        with torch.inference_mode():
            found = -model.log_prob(valid).mean().item()
            if found < best:
                best, scored = found, -model.log_prob(test).mean().item()
    return scored, statistics.median(times)


def compare(hidden: list[int], seeds: int, epochs: int) -> dict[str, Any]:
    """Return nats and milliseconds with direct connections and without."""
    runs = [
        [train(hidden, direct, seed, epochs) for seed in range(seeds)] for direct in (True, False)
    ]
    nats, steps = ([[run[part] for run in side] for side in runs] for part in (0, 1))
    differences = [a - b for a, b in zip(*nats, strict=True)]
    return {
        "name": "MADE " + "-".join(map(str, hidden)),
        "direct_nats": statistics.mean(nats[0]), "without_nats": statistics.mean(nats[1]),
        "difference": statistics.mean(differences),
        "difference_error": statistics.stdev(differences) / math.sqrt(seeds),
        "direct_ms": 1e3 * statistics.median(steps[0]),
        "without_ms": 1e3 * statistics.median(steps[1]),
    }  # fmt: skip


def main() -> None:
    parser = measuring.parser(__doc__)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=40)
    arguments = parser.parse_args()
    if arguments.seeds < 2:
        parser.error(f"--seeds: expected at least 2, for an error, got {arguments.seeds}")
    torch.set_num_threads(1)
    record = []
    for hidden in HIDDEN:
        record.append(compare(hidden, arguments.seeds, arguments.epochs))
        print(json.dumps(record[-1]), flush=True)
    content = {"epochs": arguments.epochs, "seeds": arguments.seeds, "rows": record}
    measuring.write(arguments.json, content)


if __name__ == "__main__":
    main()
