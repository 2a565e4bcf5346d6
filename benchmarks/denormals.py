"""Steps of a long training with denormal floats computed, and taken as zero as trainings take them.

A DeepNADE of 500-500 on random bits of 28 x 28, of which those of the border are hardly ever on, as
in binarised MNIST; AdamW, bfloat16. After `--steps` steps, moments of the border's weights have
fallen below the smallest normal float; then steps are timed in turn, with them and without. Columns
are milliseconds of the processor (medians) of a loss with its gradients and of an update.

    python benchmarks/denormals.py [--steps 1500] [--json FILE]
"""

from __future__ import annotations

import statistics
import time
from contextlib import nullcontext

import measuring
import torch

import arcore
from pipeline.training.denormals import flushed_denormals

BATCH, BORDER, PAIRS = 250, 4, 15
OFTEN, SELDOM = 0.2, 1e-4


def main() -> None:
    parser = measuring.parser(__doc__)
    parser.add_argument("--steps", type=int, default=1500, help="before any is timed")
    arguments = parser.parse_args()
    measuring.prepare()
    torch.manual_seed(0)
    event = arcore.events.Binary((1, 28, 28))
    model = arcore.create_model("deep_nade", event, hidden=[500, 500])
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.0015, weight_decay=0.05, fused=True)
    rates = torch.full(event.shape, SELDOM)
    rates[:, BORDER:-BORDER, BORDER:-BORDER] = OFTEN

    def step() -> tuple[float, float]:
        x = torch.bernoulli(rates.expand(BATCH, -1, -1, -1))
        times = [time.process_time()]
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast("cpu", torch.bfloat16):
            loss = model(x).mean()
        loss.backward()
        times.append(time.process_time())
        optimizer.step()
        times.append(time.process_time())
        return 1e3 * (times[1] - times[0]), 1e3 * (times[2] - times[1])

    for _ in range(arguments.steps):
        step()
    moments = [state["exp_avg"] for state in optimizer.state.values()]
    tiny = sum(int(((m != 0) & (m.abs() < torch.finfo(m.dtype).tiny)).sum()) for m in moments)
    share = tiny / sum(m.numel() for m in moments)
    kept = [(m.clone(), m) for m in moments]
    times: dict[str, list[tuple[float, float]]] = {"computed": [], "taken as zero": []}
    for _ in range(PAIRS):
        for name, found in times.items():
            for before, moment in kept:  # the last step may have flushed them
                moment.copy_(before)
            with flushed_denormals() if name == "taken as zero" else nullcontext():
                found.append(step())
    rows = []
    print(f"{100 * share:.1f} % of first moments are denormal after {arguments.steps} steps")
    measuring.table_head("denormals", "loss and gradients, ms", "AdamW, ms")
    for name, found in times.items():
        loss, update = (statistics.median(column) for column in zip(*found, strict=True))
        print(f"| {name} | {loss:.1f} | {update:.1f} |")
        rows.append({"name": name, "loss_ms": loss, "update_ms": update})
    measuring.write(arguments.json, {"steps": arguments.steps, "share": share, "rows": rows})


if __name__ == "__main__":
    main()
