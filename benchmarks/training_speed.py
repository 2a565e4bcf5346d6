"""Training steps and draws of NADE and MADE against the common ways, as ratios in one run.

Each pair of steps (ours, theirs) is timed in turn, so that a change of the machine's speed meets
both; the ratio is the median over pairs. A step is forward, backward and Adam on one batch, or a
draw of 64 events. In one thread, milliseconds are the processor's, which other processes on the
machine do not stretch. The allocator keeps freed memory, as in the pipeline's trainings, unless
`--untuned` leaves it as it is.

    python benchmarks/training_speed.py [--threads 1] [--pairs 15] [--untuned] [--json FILE]
"""

from collections.abc import Callable
from functools import partial

import measuring
import nflows.transforms.made
import torch
import zuko
from measuring import Clock
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, linear

import arcore

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

    @torch.no_grad()
    def sample(self, n: int) -> Tensor:
        a, drawn = self.c.expand(n, -1), []
        for d in range(SIZE):
            drawn.append(torch.bernoulli(torch.sigmoid(torch.sigmoid(a) @ self.v[d] + self.b[d])))
            a = a + drawn[-1][:, None] * self.w[d]
        return torch.stack(drawn, 1)


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


class MaskedProduct(nn.Linear):
    """A linear layer whose weight is multiplied by its mask, after karpathy/pytorch-made."""

    def __init__(self, mask: Tensor) -> None:
        super().__init__(mask.shape[1], mask.shape[0])
        self.register_buffer("mask", mask.float())
        self.mask: Tensor

    def forward(self, x: Tensor) -> Tensor:
        return linear(x, self.mask * self.weight, self.bias)


def plain_made(hidden: list[int]) -> nn.Module:
    degrees = [torch.arange(SIZE)]
    for width in hidden:
        degrees.append(torch.randint(int(degrees[-1].min()), SIZE - 1, (width,)))
    masks = [b[:, None] >= a for a, b in zip(degrees, degrees[1:], strict=False)]
    masks.append(degrees[0][:, None] > degrees[-1])
    layers = [layer for mask in masks for layer in (MaskedProduct(mask), nn.ReLU())]
    return Masked(nn.Sequential(*layers[:-1]))


def step_of(model: nn.Module, x: Tensor) -> Step:
    return measuring.training_step(model, x, optimizer=torch.optim.Adam)


OTHERS = {"zuko": zuko_made, "nflows": nflows_made, "masked layers": plain_made}


def compare(a: Step, b: Step, pairs: int, clock: Clock) -> tuple[float, float, float]:
    """Return median milliseconds of ours and theirs, and the median ratio theirs / ours."""
    for step in (a, b):
        step()
        step()
    times = [(measuring.seconds(a, clock), measuring.seconds(b, clock)) for _ in range(pairs)]
    ours, theirs, ratio = measuring.medians(times)
    return 1e3 * ours, 1e3 * theirs, ratio


def rows() -> list[tuple[str, str, Callable[[], tuple[Step, Step]]]]:
    """Return what is compared; a row's models are made when its turn comes."""
    event = arcore.events.Binary((SIZE,))
    sparse = (torch.rand(BATCH, SIZE) < 0.13).float()
    dense = (torch.rand(BATCH, SIZE) < 0.5).float()

    def nade(x: Tensor) -> tuple[Step, Step]:
        ours = arcore.create_model("nade", event, hidden=500)
        return step_of(ours, x), step_of(LoopNADE(500), x)

    def draws() -> tuple[Step, Step]:
        ours, theirs = arcore.create_model("nade", event, hidden=500).eval(), LoopNADE(500)
        return lambda: ours.sample(64), lambda: theirs.sample(64)

    def made(
        hidden: list[int], other: Callable[[list[int]], nn.Module], direct: bool = False
    ) -> tuple[Step, Step]:
        ours = arcore.create_model("made", event, hidden=hidden, direct=direct)
        return step_of(ours, sparse), step_of(other(hidden), sparse)

    compared: list[tuple[str, str, Callable[[], tuple[Step, Step]]]] = [
        ("NADE 500, 13% ones", "autograd loop", lambda: nade(sparse)),
        ("NADE 500, 50% ones", "autograd loop", lambda: nade(dense)),
        ("NADE 500, draw 64", "bare loop", draws),
    ]
    for hidden in ([500], [500, 500], [4000, 4000], [8000]):
        for name, other in OTHERS.items():
            title = "MADE " + "-".join(map(str, hidden))
            compared.append((title, name, partial(made, hidden, other)))
    title = "MADE 500, direct too"
    compared.append((title, "zuko", partial(made, [500], zuko_made, direct=True)))
    return compared


def main() -> None:
    parser = measuring.parser(__doc__, threads=1)
    parser.add_argument("--pairs", type=int, default=15)
    measuring.add_untuned(parser)
    arguments = parser.parse_args()
    clock = measuring.prepare(arguments.threads, arguments.untuned)
    torch.manual_seed(0)
    print(f"{measuring.machine()}, batch {BATCH}")
    print(f"{'ours':20} {'against':14} {'ours ms':>9} {'theirs ms':>10} {'theirs/ours':>12}")
    record = []
    for name, other, make in rows():
        mine, theirs, ratio = compare(*make(), arguments.pairs, clock)
        print(f"{name:20} {other:14} {mine:9.1f} {theirs:10.1f} {ratio:12.2f}", flush=True)
        record.append(
            {"name": name, "other": other, "ours_ms": mine, "theirs_ms": theirs, "ratio": ratio}
        )
    measuring.write(arguments.json, {"rows": record})


if __name__ == "__main__":
    main()
