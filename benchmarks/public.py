"""Training steps and draws against networks in the style of public PyTorch code, as ratios.

`public_style.py` holds those networks and says whose style it is. A step is forward, backward and
fused AdamW on one batch; theirs is in float32, as such code trains, ours in float32 and in what
params.yaml trains the system in. Theirs draws images by a pass of the network per pixel, of which
some are timed and the total is worked out (each costs the same); ours is drawn whole. WaveNet's
samples come by queues on both sides. Each pair (ours, theirs) is timed in turn, and the ratio is
the median over pairs. In one thread, milliseconds are the processor's. The allocator keeps freed
memory on both sides, unless `--untuned` leaves it as it is.

    python benchmarks/public.py [--threads 1] [--pairs 7] [--only pixelcnn ...] [--untuned]
                                [--json FILE]
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import measuring
import public_style as public
import torch
from measuring import Clock
from share import flops
from torch import Tensor, nn

import arcore

Timer = Callable[[Clock], float]
IMAGE, COLOUR = arcore.events.Binary((1, 28, 28)), arcore.events.Levels(256, (3, 32, 32))
PASSES, SAMPLES = 4, 200  # timed of a draw: whole passes, and samples of a sound


@dataclass(frozen=True)
class Row:
    """A comparison: makes what times a step of ours and one of theirs."""

    name: str
    wanted: float
    precision: str
    make: Callable[[], tuple[Timer, Timer]]


def timed(step: Callable[[], object]) -> Timer:
    """Return what times a step, in seconds."""
    return partial(measuring.seconds, step)


def training(model: nn.Module, x: Tensor, precision: str) -> Timer:
    return timed(measuring.training_step(model, x, precision))


def passes(model: Any, x: Tensor) -> Timer:
    """Return what times a draw by a pass per pixel, worked out from some of the passes."""
    height, width = x.shape[-2:]
    once = timed(lambda: [model.draw_pixel(x, i * height // PASSES, 0) for i in range(PASSES)])
    return lambda clock: once(clock) * height * width / PASSES


PIXELCNN = {"num_blocks": 15, "hidden": 16}
GATED = {"num_layers": 5, "width": 32}
LOGISTIC = {
    "head": "logistic_mixture", "num_mixtures": 10, "width": 112, "num_layers": 6,
    "head_width": 112,
}  # fmt: skip
WAVENET = {"num_blocks": 3, "cycle": 10, "width": 32, "gate_width": 32, "skip_width": 256}


def networks(name: str) -> tuple[arcore.AutoregressiveModel, Any]:
    """Return ours and theirs."""
    if name == "nade":
        return arcore.create_model("nade", IMAGE, hidden=500), public.NADE(IMAGE.size, 500)
    if name == "pixelcnn":
        return arcore.create_model("pixelcnn", IMAGE, **PIXELCNN), public.PixelCNN(15, 16)
    if name == "gated_pixelcnn":
        return arcore.create_model("gated_pixelcnn", IMAGE, **GATED), public.GatedPixelCNN(5, 32)
    if name == "logistic":
        ours = arcore.create_model("gated_pixelcnn", COLOUR, **LOGISTIC)
        return ours, public.LogisticNetwork(2, 40)
    event = arcore.events.Levels(256, (None,))
    return arcore.create_model("wavenet", event, **WAVENET), public.WaveNet(3, 10, 32, 32, 256)


def batch(name: str) -> Tensor:
    if name == "wavenet":
        return torch.randint(256, (1, 8000))
    if name == "logistic":
        return torch.randint(256, (4, *COLOUR.shape)).float()
    return (torch.rand(64, *IMAGE.shape) < 0.13).float()


def steps(name: str, precision: str) -> tuple[Timer, Timer]:
    (ours, theirs), x = networks(name), batch(name)
    return training(ours, x, precision), training(theirs, x, "float32")


def draws(name: str, count: int) -> tuple[Timer, Timer]:
    ours, theirs = networks(name)
    ours.eval(), theirs.eval()
    if name == "wavenet":
        assert isinstance(ours, arcore.AutoregressiveModel)
        short = ours.of_length(SAMPLES)  # type: ignore[operator]
        return timed(lambda: short.sample(count)), timed(lambda: theirs.sample(count, SAMPLES))
    if name == "nade":
        return timed(lambda: ours.sample(count)), timed(lambda: theirs.sample(count))
    blank = torch.zeros(count, *ours.event.extents)
    return timed(lambda: ours.sample(count)), passes(theirs, blank)


def rows() -> list[Row]:
    compared = []
    for name, wanted in (
        ("pixelcnn", 1.8), ("gated_pixelcnn", 1.5), ("logistic", 1.2), ("wavenet", 2.0),
    ):  # fmt: skip
        for precision in ("float32", "bfloat16"):
            compared.append(
                Row(name, wanted, precision, lambda n=name, p=precision: steps(n, p))  # type: ignore[misc]
            )
    for name, count, wanted in (
        ("nade", 64, 2.0), ("pixelcnn", 16, 50), ("gated_pixelcnn", 16, 100), ("wavenet", 16, 10),
        ("logistic", 4, 30),
    ):  # fmt: skip
        title = f"{name}, draw {count}"
        compared.append(Row(title, wanted, "float32", lambda n=name, c=count: draws(n, c)))  # type: ignore[misc]
    return compared


def compare(row: Row, pairs: int, clock: Clock) -> dict[str, Any]:
    """Return the medians of a row's times, and of the pairs' ratios."""
    torch.manual_seed(0)
    ours, theirs = row.make()
    is_step = ", draw" not in row.name
    products = [flops(partial(timer, clock)) / 1e9 for timer in (ours, theirs)] if is_step else None
    for timer in (ours, theirs):
        timer(clock)
    mine, other, ratio = measuring.medians([(ours(clock), theirs(clock)) for _ in range(pairs)])
    return {
        "name": row.name, "precision": row.precision, "ours_ms": 1e3 * mine,
        "theirs_ms": 1e3 * other,
        "ratio": ratio, "wanted": row.wanted, "pairs": pairs, "gflop": products,
    }  # fmt: skip


def main() -> None:
    parser = measuring.parser(__doc__, threads=1)
    parser.add_argument("--pairs", type=int, default=7)
    measuring.add_untuned(parser)
    parser.add_argument("--only", nargs="+", help="rows whose names begin so")
    parser.add_argument("--steps", action="store_true", help="training steps, without draws")
    arguments = parser.parse_args()
    clock = measuring.prepare(arguments.threads, arguments.untuned)
    measuring.table_head("", "precision", "ours, ms", "theirs, ms", "theirs / ours", "wanted")
    record = []
    for row in rows():
        if arguments.only and not row.name.startswith(tuple(arguments.only)):
            continue
        if arguments.steps and "draw" in row.name:
            continue
        found = compare(row, arguments.pairs, clock)
        print(
            f"| {row.name} | {row.precision} | {found['ours_ms']:.1f} | {found['theirs_ms']:.1f} "
            f"| {found['ratio']:.2f} | >= {row.wanted:g} |",
            flush=True,
        )
        record.append(found)
    measuring.write(arguments.json, {"rows": record})


if __name__ == "__main__":
    main()
