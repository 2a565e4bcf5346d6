"""Scoring binarised MNIST's test rows with an orderless ensemble (EoNADE), whole.

The network is that of the experiment `binarized_mnist-deep_nade` with fresh weights, which take as
long as trained ones; rows are random bits, 13 % of them ones. Every row is scored under every
ordering in float32, in batches as an evaluation makes them. In one thread, seconds are the
processor's, which other processes on the machine do not stretch; in several, the clock's. The time
of all 10,000 rows under 16 orderings on two cores follows from fewer of them in proportion.

    python benchmarks/ensembles.py [--rows 10000] [--orderings 16] [--threads 2] [--json FILE]
"""

from __future__ import annotations

import measuring
import torch

import arcore
from pipeline.experiments import compose

EXPERIMENT = "binarized_mnist-deep_nade"
ROWS, ORDERINGS, CORES = 10_000, 16, 2
WANTED = 600.0  # seconds of them


def main() -> None:
    parser = measuring.parser(__doc__, threads=CORES)
    parser.add_argument("--rows", type=int, default=ROWS)
    parser.add_argument("--orderings", type=int, default=ORDERINGS)
    arguments = parser.parse_args()
    clock = measuring.prepare(arguments.threads)
    torch.manual_seed(0)
    config = compose.load(EXPERIMENT)
    event = arcore.events.Binary((1, 28, 28))
    settings = {name: value for name, value in config.model.items() if name != "name"}
    model = arcore.create_model(config.model["name"], event, **settings).eval()
    x = (torch.rand(arguments.rows, *event.shape) < 0.13).float()
    hidden = model.hyperparameters.hidden
    products = 2 * sum(a * b for a, b in zip(hidden, hidden[1:], strict=False)) * event.size
    total = torch.full((arguments.rows,), -torch.inf)
    began = clock()
    for index, member in enumerate(model.ensemble(arguments.orderings)):
        with torch.inference_mode():
            parts = [member.log_prob(rows) for rows in x.split(config.evaluation.batch_size)]
        total = torch.logaddexp(total, torch.cat(parts))
        taken = clock() - began
        rate = products * arguments.rows * (index + 1) / taken / 1e9
        print(f"{index + 1} orderings: {taken:.1f} s, {rate:.0f} GFLOP/s", flush=True)
    assert bool(total.isfinite().all())
    share = arguments.rows * arguments.orderings / (ROWS * ORDERINGS)
    whole = taken / share * arguments.threads / CORES
    print(f"{ROWS:,} rows under {ORDERINGS} orderings on {CORES} cores: {whole:.0f} s")
    record = {
        "rows": arguments.rows, "orderings": arguments.orderings, "threads": arguments.threads,
        "seconds": taken, "gflops": rate, "whole_seconds": whole, "wanted": WANTED,
    }  # fmt: skip
    measuring.write(arguments.json, record)


if __name__ == "__main__":
    main()
