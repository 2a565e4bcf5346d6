"""What the lecture compares and no stage does: receptive fields, time over sizes, many orderings.

Writes results/lecture/: receptive_fields.png, what a changed pixel changes in networks with random
weights; sampling.csv and sampling.png, the seconds of drawing 4 binary images by Parallel
Multiscale, whose network is evaluated O(log N) times, and by the cached Gated PixelCNN, O(N);
steps.csv, the milliseconds of a training step on 4 such images; orderings.csv, the test nats of one
trained orderless network (`dvc repro train@digits-deep_nade`) under 1 to 128 orderings. One thread.

    python benchmarks/lecture.py [--sizes 16 32 64 128 256] [--only fields sampling steps orderings]
"""

from __future__ import annotations

import argparse
import csv
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure

import arcore
from pipeline.core import paths
from pipeline.data import shard_reader
from pipeline.evaluation import scoring
from pipeline.experiments import compose
from pipeline.reporting import wording
from pipeline.training import saved_models

SIDE = 21
ROUNDING = 1e-9  # another place in the batch may round otherwise
FIELDS: dict[str, tuple[str, dict[str, Any]]] = {
    "PixelCNN, 6 layers": ("pixelcnn", {"num_blocks": 6, "hidden": 8, "first_kernel": 3}),
    "Gated PixelCNN, 6 layers": ("gated_pixelcnn", {"num_layers": 6, "first_kernel": 3}),
    "Row LSTM, 1 layer": ("row_lstm", {"num_layers": 1, "hidden": 8}),
    "Diagonal BiLSTM, 1 layer": ("diagonal_bilstm", {"num_layers": 1, "hidden": 8}),
}
DRAWN = {"Parallel Multiscale": "parallel_multiscale", "Gated PixelCNN": "gated_pixelcnn"}
MOST_PIXELS = 64 * 64  # that one pixel after the other is drawn of
STEPS = ("pixelcnn", "gated_pixelcnn", "row_lstm", "diagonal_bilstm")
IMAGES = 4
ORDERLESS, MOST_ORDERINGS = "digits-deep_nade", 128
PARTS = ("fields", "sampling", "steps", "orderings")


def receptive_field(name: str, given: dict[str, Any]) -> torch.Tensor:
    """Return where the input changes the middle pixel's logits, (side, side) bool."""
    torch.manual_seed(0)
    event = arcore.events.Binary((1, SIDE, SIDE))
    model = arcore.create_model(name, event, **given).double().eval()
    with torch.no_grad():
        for parameter in model.parameters():  # some begin at zero
            parameter.normal_(0, 0.5)
    middle = SIDE // 2
    changed = torch.zeros(SIDE, SIDE, dtype=torch.bool)
    x = torch.zeros(1, 1, SIDE, SIDE, dtype=torch.int64)
    with torch.no_grad():
        for _ in range(2):  # a gate may be shut for one image
            x = torch.randint(0, 2, x.shape)
            others = x.repeat(SIDE * SIDE, 1, 1, 1)
            flat = others.view(SIDE * SIDE, -1)
            flat[torch.arange(SIDE * SIDE), torch.arange(SIDE * SIDE)] ^= 1
            before = model.conditionals(x).logits[0, 0, middle, middle]
            after = torch.cat(
                [model.conditionals(part).logits[:, 0, middle, middle] for part in others.split(50)]
            )
            changed |= ((after - before).abs() > ROUNDING).view(SIDE, SIDE)
    return changed


def draw_fields(folder: Path) -> None:
    """Draw the fields of all networks in a row."""
    figure = Figure(figsize=(2.6 * len(FIELDS), 3.2), layout="constrained")
    for axis, (title, (name, given)) in zip(
        figure.subplots(1, len(FIELDS)), FIELDS.items(), strict=True
    ):
        field = receptive_field(name, given)
        shown = torch.ones(SIDE, SIDE, 3)
        shown[field] = torch.tensor([0.05, 0.49, 0.49])
        shown[SIDE // 2, SIDE // 2] = torch.tensor([0.83, 0.45, 0.16])
        axis.imshow(shown.numpy())
        above = SIDE // 2 * SIDE + SIDE // 2
        axis.set_title(f"{title}\nsees {int(field.sum())} of {above}", fontsize="small")
        axis.set(xticks=[], yticks=[])
    figure.savefig(folder / "receptive_fields.png", dpi=110)


def seconds_of(action: Callable[[], object], least: float = 1.0) -> float:
    """Return the shortest of a few runs, after one that is not counted."""
    action()
    best, began = float("inf"), time.perf_counter()
    while time.perf_counter() - began < least:
        start = time.perf_counter()
        action()
        best = min(best, time.perf_counter() - start)
    return best


def time_sampling(folder: Path, sizes: list[int]) -> None:
    """Time draws over sizes, as a table and as a plot."""
    rows, lines = [], {}
    for title, name in DRAWN.items():
        for side in sizes:
            event = arcore.events.Binary((1, side, side))
            if name != "parallel_multiscale" and event.size > MOST_PIXELS:
                continue
            model = arcore.create_model(name, event).eval()
            seconds = seconds_of(lambda: model.sample(IMAGES))  # noqa: B023
            evaluations = model.num_evaluations or event.size
            rows.append([title, f"{side} x {side}", evaluations, f"{seconds:.3g}"])
            lines.setdefault(title, []).append((event.size, seconds))
    _write(folder / "sampling.csv", ["model", "image", "evaluations", "seconds for 4"], rows)
    figure = Figure(figsize=(5, 3.6), layout="constrained")
    axis = figure.subplots()
    for title, points in lines.items():
        axis.loglog(*zip(*points, strict=True), marker="o", label=title)
    axis.set(xlabel="pixels", ylabel="seconds for 4 images")
    axis.legend()
    axis.grid(alpha=0.3)
    figure.savefig(folder / "sampling.png", dpi=110)


def time_steps(folder: Path, sizes: list[int]) -> None:
    """Time training steps over sizes."""
    rows = []
    for name in STEPS:
        cells = []
        for side in sizes:
            model = arcore.create_model(name, arcore.events.Binary((1, side, side)))
            x = torch.randint(0, 2, (IMAGES, 1, side, side))
            step = lambda: model(x).mean().backward()  # noqa: B023, E731
            cells.append(f"{1000 * seconds_of(step):.3g}")
        rows.append([name, *cells])
    _write(folder / "steps.csv", ["ms a step", *(f"{side} x {side}" for side in sizes)], rows)


def score_orderings(folder: Path) -> None:
    """Score all test rows under the first 1, 2, 4, ... orderings."""
    dataset = compose.load(ORDERLESS).dataset["name"]
    test = shard_reader.read_split(paths.shards(dataset), "test")
    ensemble = saved_models.load(ORDERLESS).model.ensemble(MOST_ORDERINGS)
    each = scoring.member_scores(ensemble, test, 500)
    rows = []
    for power in range(MOST_ORDERINGS.bit_length()):
        mean, error = scoring.mean_and_error(scoring.mixture(each[:, : 1 << power]))
        rows.append([1 << power, wording.with_error(mean, error)])
    _write(folder / "orderings.csv", ["orderings", "test nats"], rows)


def _write(path: Path, header: list[str], rows: list[list[Any]]) -> None:
    with open(path, "w", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows([header, *rows])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=[16, 32, 64, 128, 256])
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    folder = paths.results() / "lecture"
    folder.mkdir(parents=True, exist_ok=True)
    if "fields" in arguments.only:
        draw_fields(folder)
    if "sampling" in arguments.only:
        time_sampling(folder, arguments.sizes)
    if "orderings" in arguments.only:
        score_orderings(folder)
    if "steps" in arguments.only:
        time_steps(folder, [side for side in arguments.sizes if side <= 64])


if __name__ == "__main__":
    main()
