"""Training steps of NADE and MADE against the common ways, as ratios measured in one run.

Each pair of steps (ours, theirs) is timed in turn, so that a change of the machine's speed meets
both; the ratio is the median over pairs. A step is forward, backward and Adam on one batch.

    python benchmarks/training_speed.py [--threads 1] [--pairs 15]
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import nflows.transforms.made
import torch
import zuko
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

import arcore
from pipeline.core import provenance

SIZE = 784
BATCH = 100
Step = Callable[[], None]


class LoopNADE(nn.Module):
    """NADE as it is commonly written: a Python loop over dimensions under autograd."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.w = nn.Parameter(0.01 * torch.randn(SIZE, hidden))
        self.v = nn.Parameter(0.01 * torch.randn(SIZE, hidden))
        self.b = nn.Parameter(torch.zeros(SIZE))
        self.c = nn.Parameter(torch.zeros(hidden))

    def forward(self, x: Tensor) -> Tensor:
        a = self.c.expand(len(x), -1)
        logits = []
        for d in range(SIZE):
            logits.append(torch.sigmoid(a) @ self.v[d] + self.b[d])
            a = a + x[:, d : d + 1] * self.w[d]
        return cross_entropy(torch.stack(logits, 1), x)


class Masked(nn.Module):
    """Another library's masked network with a Bernoulli output."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        return cross_entropy(self.network(x), x)


def cross_entropy(logits: Tensor, x: Tensor) -> Tensor:
    return binary_cross_entropy_with_logits(logits, x, reduction="none").sum(1)


def zuko_made(hidden: list[int]) -> nn.Module:
    adjacency = torch.ones(SIZE, SIZE).tril(-1).bool()
    return Masked(zuko.nn.MaskedMLP(adjacency, hidden_features=hidden))


def nflows_made(hidden: list[int]) -> nn.Module:
    return Masked(
        nflows.transforms.made.MADE(
            SIZE, hidden[0], num_blocks=len(hidden) - 1, output_multiplier=1,
            use_residual_blocks=False, activation=torch.relu,
        )
    )  # fmt: skip


def step_of(model: nn.Module, x: Tensor) -> Step:
    optimizer = torch.optim.Adam(model.parameters(), fused=True)

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        model(x).mean().backward()
        optimizer.step()

    return step


def seconds(step: Step) -> float:
    began = time.perf_counter()
    step()
    return time.perf_counter() - began


def compare(
    ours: nn.Module, theirs: nn.Module, x: Tensor, pairs: int
) -> tuple[float, float, float]:
    """Return median milliseconds of ours and theirs, and the median ratio theirs / ours."""
    a, b = step_of(ours, x), step_of(theirs, x)
    for step in (a, b):
        step()
        step()
    times = [(seconds(a), seconds(b)) for _ in range(pairs)]
    ratio = statistics.median(theirs / ours for ours, theirs in times)
    return (*(1e3 * statistics.median(column) for column in zip(*times, strict=True)), ratio)  # type: ignore[return-value]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--pairs", type=int, default=15)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    event = arcore.events.Binary((SIZE,))
    sparse = (torch.rand(BATCH, SIZE) < 0.13).float()
    dense = (torch.rand(BATCH, SIZE) < 0.5).float()

    def nade() -> nn.Module:
        return arcore.create_model("nade", event, hidden=500)

    def made(hidden: list[int]) -> nn.Module:
        return arcore.create_model("made", event, hidden=hidden, direct=False)

    wide, deep = [4000, 4000], [500, 500]
    rows = [
        ("NADE 500, 13% ones", "autograd loop", nade(), LoopNADE(500), sparse),
        ("NADE 500, 50% ones", "autograd loop", nade(), LoopNADE(500), dense),
        ("MADE 500-500", "zuko", made(deep), zuko_made(deep), sparse),
        ("MADE 500-500", "nflows", made(deep), nflows_made(deep), sparse),
        ("MADE 4000-4000", "zuko", made(wide), zuko_made(wide), sparse),
        ("MADE 4000-4000", "nflows", made(wide), nflows_made(wide), sparse),
    ]
    print(
        f"{provenance.device_name(torch.device('cpu'))}, torch {torch.__version__}, batch {BATCH}"
    )
    print(f"{'ours':20} {'against':14} {'ours ms':>9} {'theirs ms':>10} {'theirs/ours':>12}")
    for name, other, ours, theirs, x in rows:
        mine, other_ms, ratio = compare(ours, theirs, x, arguments.pairs)
        print(f"{name:20} {other:14} {mine:9.1f} {other_ms:10.1f} {ratio:12.2f}", flush=True)


if __name__ == "__main__":
    main()
