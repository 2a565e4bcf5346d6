"""The output heads of a Gated PixelCNN over 32 x 32 colour images: training steps and sampling.

The network has 6 layers of 64 maps, and 256 levels; the mixture has 10 components. "Head" is the
cost of the conditionals and their log-probabilities alone, forward and backward, on the same maps.
Sampling draws the first pixels of all images side by side, each of three colours. Columns are
medians over repeats, seconds of the processor in one thread, of the clock in several.

    python benchmarks/heads.py [--batch 4] [--pixels 64] [--repeats 5] [--threads 1]
    python benchmarks/heads.py --quick
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor

import arcore
from arcore.distributions.drawing import draw
from arcore.families.raster import RasterModel
from pipeline.core import provenance

SHAPE = {"width": 64, "num_layers": 6, "head_width": 64}
HEADS = {"softmax": {}, "logistic_mixture": {"num_mixtures": 10}}
SIDE = 32


def training_step(model: RasterModel, x: Tensor) -> Callable[[], None]:
    optimizer = torch.optim.AdamW(model.parameters(), fused=True)

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        model(x).mean().backward()
        optimizer.step()

    return step


def head_step(model: RasterModel, x: Tensor) -> Callable[[], None]:
    shape = (len(x), model.head.num_outputs, SIDE, SIDE)
    outputs = torch.randn(shape).contiguous(memory_format=torch.channels_last).requires_grad_()

    def step() -> None:
        outputs.grad = None
        model.head.distribution(outputs, x, x.shape).log_prob(x).sum().backward()

    return step


def sampling(model: RasterModel, batch: int, pixels: int) -> Callable[[], None]:
    @torch.no_grad()
    def step() -> None:
        decoder = model.decoder(batch)
        for _ in range(3 * pixels):
            decoder.push(draw(decoder.next(), None))

    return step


def measure(step: Callable[[], None], repeats: int, clock: Callable[[], float]) -> float:
    step()
    times = []
    for _ in range(repeats):
        began = clock()
        step()
        times.append(clock() - began)
    return statistics.median(times)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--pixels", type=int, default=64, help="sampled of each image")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--quick", action="store_true", help="one image, 4 pixels, once")
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.batch, arguments.pixels, arguments.repeats = 1, 4, 1
    torch.set_num_threads(arguments.threads)
    clock = time.process_time if arguments.threads == 1 else time.perf_counter
    device = provenance.device_name(torch.device("cpu"))
    load = " ".join(f"{average:.1f}" for average in os.getloadavg())
    print(f"{device}, torch {torch.__version__}, {arguments.threads} threads, load {load}")
    print(f"{arguments.batch} images of {SIDE} x {SIDE} in three colours")
    print("| head | parameters | step, ms | of it head, ms | a pixel of all, ms | all images, s |")
    print("|---|---|---|---|---|---|")
    event = arcore.events.Levels(256, (3, SIDE, SIDE))
    for name, extra in HEADS.items():
        torch.manual_seed(0)
        model = arcore.create_model("gated_pixelcnn", event, head=name, **SHAPE, **extra)
        assert isinstance(model, RasterModel)
        x = torch.randint(256, (arguments.batch, *event.shape))
        step, head = (
            1e3 * measure(make(model, x), arguments.repeats, clock)
            for make in (training_step, head_step)
        )
        model.eval()
        drawing = sampling(model, arguments.batch, arguments.pixels)
        pixel = measure(drawing, arguments.repeats, clock) / arguments.pixels
        count = sum(parameter.numel() for parameter in model.parameters())
        print(
            f"| {name} | {count:,} | {step:.0f} | {head:.0f} | {1e3 * pixel:.2f} "
            f"| {pixel * SIDE**2:.1f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
