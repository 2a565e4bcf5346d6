"""Sampling with each model's own decoder against a full pass per step, as ratios in one run.

Images are binary, weights random. "Fast" draws all images with `sample`. "Slow" is what the same
draws cost with a pass of the whole network per step: so many would take long, so that only some
steps are timed, evenly spaced over the schedule, and the table says how many of how many; the
others are filled in with drawn values at no cost. Each repeat measures both in turn; columns are
medians over repeats. In one thread, seconds are the processor's, which other processes on the
machine do not stretch; in several, the clock's.

    python benchmarks/sampling.py [--images 64] [--side 28] [--steps 8] [--repeats 3] [--threads 1]
    python benchmarks/sampling.py --quick
"""

from dataclasses import dataclass, field
from typing import Any

import measuring
import torch
from measuring import Clock
from torch import Tensor
from torch.distributions import Distribution

import arcore
from arcore.decoding import Decoder
from arcore.distributions.drawing import draw
from arcore.families.orderless import OrderlessModel
from arcore.generation import RecomputingDecoder
from arcore.layers import level_features
from arcore.model import AutoregressiveModel


@dataclass(frozen=True)
class Row:
    """A model and the ratio that it should reach, if any."""

    title: str
    model: str
    hyperparameters: dict[str, Any] = field(default_factory=dict)
    target: float | None = None


ROWS = (
    Row("Gated PixelCNN, 5 layers of 32", "gated_pixelcnn", {"num_layers": 5, "width": 32}, 30),
    Row("PixelCNN, 5 blocks, h = 16", "pixelcnn", {"num_blocks": 5, "hidden": 16}, 20),
    Row("Row LSTM", "row_lstm", target=20),
    Row("Diagonal BiLSTM", "diagonal_bilstm", target=20),
    Row("Multi-scale PixelRNN", "multiscale_pixelrnn", target=20),
    Row("MADE 500", "made", {"hidden": [500]}, 5),
    Row("NADE 500", "nade", {"hidden": 500}),
    Row("DeepNADE 500-500", "deep_nade", {"hidden": [500, 500]}),
    Row("ConvNADE", "conv_nade"),
    Row("Parallel Multiscale A", "parallel_multiscale"),
    Row("Parallel Multiscale B", "parallel_multiscale", {"upscaling": "B"}),
)


class OnePassDecoder(Decoder):
    """A pass of an orderless model's network per step, whose `conditionals` are D of them."""

    def __init__(self, model: OrderlessModel, batch: int) -> None:
        super().__init__(model.schedule, batch)
        self.model = model
        self.x = torch.zeros(batch, model.event.size)
        self.observed = torch.zeros(1, model.event.size, 1)

    @torch.no_grad()
    def _next(self, block: Tensor) -> Distribution:
        logits = self.model._logits(self.model._inputs(self.x) * self.observed, None)
        return level_features.distribution(logits[:, block])

    def _push(self, block: Tensor, values: Tensor) -> None:
        self.x[:, block] = values.to(self.x.dtype)
        self.observed[:, block] = 1


def fast_seconds(model: AutoregressiveModel, images: int, clock: Clock) -> tuple[float, Tensor]:
    """Return the seconds that sampling takes, and the images."""
    began = clock()
    drawn = model.sample(images)
    return clock() - began, drawn


def slow_seconds(model: AutoregressiveModel, drawn: Tensor, steps: int, clock: Clock) -> float:
    """Return the seconds that all of the schedule's full passes would take, from some of them."""
    kind = OnePassDecoder if isinstance(model, OrderlessModel) else RecomputingDecoder
    decoder = kind(model, len(drawn))
    count, flat, taken = len(decoder.blocks), drawn.flatten(1), 0.0
    timed = {int((step + 0.5) * count / steps) for step in range(steps)}
    for position, block in enumerate(decoder.blocks):
        if position in timed:
            began = clock()
            decoder.push(draw(decoder.next(), None))
            taken += clock() - began
        else:  # `push` would take the pass that is to be left out
            decoder._push(block, flat[:, block])
            decoder.position += 1
    return taken * count / len(timed)


def measure(
    model: AutoregressiveModel, images: int, steps: int, repeats: int, clock: Clock
) -> tuple[float, float, float]:
    """Return median seconds, fast and slow, and the median ratio slow / fast."""
    slow_seconds(model, model.sample(images), 1, clock)
    times = []
    for _ in range(repeats):
        fast, drawn = fast_seconds(model, images, clock)
        times.append((fast, slow_seconds(model, drawn, steps, clock)))
    return measuring.medians(times)


def main() -> None:
    parser = measuring.parser(__doc__, threads=1)
    parser.add_argument("--images", type=int, default=64)
    parser.add_argument("--side", type=int, default=28, help="of an image, in pixels")
    parser.add_argument("--steps", type=int, default=8, help="full passes timed in a repeat")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="4 images of 8 x 8, once")
    parser.add_argument("--only", nargs="+", choices=sorted({row.model for row in ROWS}))
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.images, arguments.side, arguments.steps, arguments.repeats = 4, 8, 2, 1
    torch.set_num_threads(arguments.threads)
    clock = measuring.clock_of(arguments.threads)
    event = arcore.events.Binary((1, arguments.side, arguments.side))
    print(f"{measuring.machine()}, {arguments.threads} threads, load {measuring.load()}")
    print(f"{arguments.images} images of {arguments.side} x {arguments.side}")
    measuring.table_head("", "fast, s", "slow, s", "full passes timed", "slow/fast", "target")
    record = []
    for row in ROWS:
        if arguments.only and row.model not in arguments.only:
            continue
        torch.manual_seed(0)
        model = arcore.create_model(row.model, event, **row.hyperparameters).eval()
        count = len(model.schedule)
        steps = min(arguments.steps, count)
        fast, slow, ratio = measure(model, arguments.images, steps, arguments.repeats, clock)
        passes = f"{arguments.repeats} x {steps} of {count}"
        target = "" if row.target is None else f">= {row.target}"
        print(
            f"| {row.title} | {fast:.3f} | {slow:.2f} | {passes} | {ratio:.1f} | {target} |",
            flush=True,
        )
        found = {"fast_s": fast, "slow_s": slow, "ratio": ratio, "wanted": row.target}
        record.append({"name": row.title, **found})
    measuring.write(arguments.json, {"rows": record})


if __name__ == "__main__":
    main()
