"""What the lecture compares and no stage does: receptive fields, time over sizes, many orderings.

Writes results/lecture/: receptive_fields.png, what a changed pixel changes in networks with random
weights; sampling.csv and sampling.png, the seconds of drawing 4 binary images by Parallel
Multiscale, whose network is evaluated O(log N) times, and by the cached Gated PixelCNN, O(N);
steps.csv, the milliseconds of a training step on 4 such images; orderings.csv and .json, the test
nats of one trained orderless network (`dvc repro train@digits-deep_nade`, or that of --orderless in
models/, on --rows) under 1 to 128 orderings; masks.csv, what one member and the mixture of MADEs
with 1 to 32 masks score; frames.csv, the two networks for clips after one, five and ten given
frames; race.csv, the time of three networks of one size to the same validation nats; structure.csv,
how far the covariances of pixels of drawn digits are from those of test rows, near and far apart,
for networks of results/; simple.csv, bits/dim of colour images by uniform levels, a
histogram and a Gaussian; compared.png, recorded searches as plots. Masks, frames and race train
what is not there, minutes each. One thread. Each part leaves <part>.json: command, commit, machine,
seconds.

    python benchmarks/lecture.py [--sizes 16 32 64 128 256] [--only fields sampling steps ...]
"""

from __future__ import annotations

import argparse
import itertools
import shlex
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lecture_images import compare_structure, score_simple, write_csv
from matplotlib.figure import Figure

import arcore
from pipeline.core import paths, provenance
from pipeline.core.errors import require
from pipeline.core.records import read_object, write_object
from pipeline.data import shard_reader
from pipeline.datasets.read_transforms import choose_rows
from pipeline.evaluation import scoring
from pipeline.experiments import compose
from pipeline.reporting import search_tables, wording
from pipeline.training import saved_models
from pipeline.training.history import read_history
from stages import cli

SIDE = 21
ROUNDING = 1e-9  # another place in the batch may round otherwise
FIELDS: dict[str, tuple[str, dict[str, Any]]] = {
    "PixelCNN, 6 layers": ("pixelcnn", {"num_blocks": 6, "hidden": 8, "first_kernel": 3}),
    "Gated PixelCNN, 6 layers": ("gated_pixelcnn", {"num_layers": 6, "first_kernel": 3}),
    "Row LSTM, 1 layer": ("row_lstm", {"num_layers": 1, "hidden": 8}),
    "Diagonal BiLSTM, 1 layer": ("diagonal_bilstm", {"num_layers": 1, "hidden": 8}),
}
DRAWN = {"Parallel Multiscale": "parallel_multiscale", "Gated PixelCNN": "gated_pixelcnn"}
MOST_PIXELS = 256 * 256  # that one pixel after the other is drawn of
STEPS = ("pixelcnn", "gated_pixelcnn", "row_lstm", "diagonal_bilstm")
IMAGES = 4
ORDERLESS, MOST_ORDERINGS = "digits-deep_nade", 128
MASKS = (1, 2, 4, 8, 16, 32)
CLIPS = {
    "VPN": "moving_digits-video_pixel_network",
    "baseline": "moving_digits-video_pixel_baseline",
}
GIVEN_FRAMES = (1, 5, 10)
RACE = {
    "PixelCNN": ("digits-pixelcnn", ("model.hidden=43",)),
    "Gated PixelCNN": ("digits-gated_pixelcnn", ()),
    "Diagonal BiLSTM": ("digits-diagonal_bilstm", ("model.hidden=36",)),
}
ORDERINGS = {"NADE": "digits-nade-orderings", "Gated PixelCNN": "digits-gated_pixelcnn-orderings"}
HEADS = "digits-gated_pixelcnn-train_rows"
MOST_STEPPED = 128  # side of images that a training step is timed on


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
    """Return the shortest of three or more runs, after one that is not counted."""
    action()
    runs: list[float] = []
    while len(runs) < 3 or sum(runs) < least:
        start = time.perf_counter()
        action()
        runs.append(time.perf_counter() - start)
    return min(runs)


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
    write_csv(folder / "sampling.csv", ["model", "image", "evaluations", "seconds for 4"], rows)
    figure = Figure(figsize=(5, 3.6), layout="constrained")
    axis = figure.subplots()
    for title, points in lines.items():
        axis.loglog(*zip(*points, strict=True), marker="o", label=title)
    axis.set(xlabel="pixels", ylabel="seconds for 4 images")
    axis.legend()
    axis.grid(alpha=0.3)
    figure.savefig(folder / "sampling.png", dpi=110)


def time_steps(folder: Path, sizes: list[int]) -> None:
    """Time training steps over sizes, up to `MOST_STEPPED`."""
    sizes = [side for side in sizes if side <= MOST_STEPPED]
    rows = []
    for name in STEPS:
        cells = []
        for side in sizes:
            model = arcore.create_model(name, arcore.events.Binary((1, side, side)))
            x = torch.randint(0, 2, (IMAGES, 1, side, side))
            step = lambda: model(x).mean().backward()  # noqa: B023, E731
            cells.append(f"{1000 * seconds_of(step):.3g}")
        rows.append([name, *cells])
    write_csv(folder / "steps.csv", ["ms a step", *(f"{side} x {side}" for side in sizes)], rows)


def score_orderings(folder: Path, experiment: str, count: int | None) -> dict[str, Any]:
    """Score random test rows under the first 1, 2, 4, ... orderings, each beside the most.

    Returns:
        what its record says, with the name of it.
    """
    dataset = compose.load(experiment).dataset["name"]
    test = shard_reader.read_split(paths.shards(dataset), "test")
    chosen = choose_rows(len(test), min(count or len(test), len(test)), 0)
    ensemble = saved_models.load(experiment).model.ensemble(MOST_ORDERINGS)
    each = scoring.member_scores(ensemble, test, 500, chosen)
    all_of_them, rows = scoring.mixture(each), []
    for power in range(MOST_ORDERINGS.bit_length()):
        nats = scoring.mixture(each[:, : 1 << power])
        above = wording.with_error(*scoring.mean_and_error(nats - all_of_them))
        rows.append([1 << power, wording.with_error(*scoring.mean_and_error(nats)), above])
    rows[-1][-1] = ""
    name = "orderings" if experiment == ORDERLESS else f"orderings-{dataset}"
    columns = ["orderings", f"nats of {len(chosen):,} test rows", f"above {MOST_ORDERINGS}"]
    write_csv(folder / f"{name}.csv", columns, rows)
    return {
        "name": name,
        "experiment": experiment,
        "num_members": MOST_ORDERINGS,
        "num_rows": len(chosen),
        "mixture test nats": scoring.mean_and_error(all_of_them),
    }


def trained(name: str, *overrides: str) -> str:
    """Return the name of a trained experiment with overrides; train it if it is not there."""
    config = compose.load(name, overrides)
    if not (paths.model(config.name) / "model.safetensors").is_file():
        command = [sys.executable, "-m", "stages.train", name, *overrides]
        code = subprocess.run([*command, "cluster.cpus_per_worker=1"], check=False).returncode
        require(code == 0, shlex.join(command[1:]), "exit code 0", code)
    return config.name


def score_masks(folder: Path) -> None:
    """Score MADEs of several masks, in one ordering or each in its own: a member, the mixture."""
    test = shard_reader.read_split(paths.shards("digits"), "test")
    rows = []
    for own, count in itertools.product((False, True), MASKS):
        if own and count == 1:
            continue  # one mask has one ordering
        members = ("model.num_masks", "trainer.validate_members", "evaluation.num_members")
        overrides = [f"model.order_agnostic={str(own).lower()}", *(f"{k}={count}" for k in members)]
        name = trained("digits-made-ensemble", *overrides)
        each = scoring.member_scores(saved_models.load(name).model.ensemble(count), test, 500)
        single = wording.with_error(*scoring.mean_and_error(each.mean(1)))
        mixed = wording.with_error(*scoring.mean_and_error(scoring.mixture(each)))
        rows.append([count, "one each" if own else "the same", single, mixed])
    header = ["masks", "orderings", "one of them", "their mixture"]
    write_csv(folder / "masks.csv", header, rows)


@torch.no_grad()
def score_frames(folder: Path) -> None:
    """Score the networks for clips after one, five and ten frames, trained on what comes after."""
    test = shard_reader.read_split(paths.shards("moving_digits"), "test")
    models = {
        (frames, title): saved_models.load(trained(name, f"model.context_frames={frames}")).model
        for frames in GIVEN_FRAMES
        for title, name in CLIPS.items()
    }
    event = next(iter(models.values())).event
    assert isinstance(event, arcore.events.Gray)
    clips, end = np.arange(len(test)), event.extents[0]
    x = torch.from_numpy(scoring.read_rows(test, clips, event))

    def nats(model: arcore.AutoregressiveModel, given: int) -> torch.Tensor:
        spans = torch.tensor([[given, end]])
        parts = [model.log_prob(part, scored=spans.expand(len(part), 2)) for part in x.split(50)]
        return -torch.cat(parts).double() / (end - given)

    def cells(values: list[torch.Tensor]) -> list[str]:
        return [wording.with_error(*scoring.mean_and_error(each)) for each in values]

    bounds = [
        scoring.entropy_scores(test, event, 50, clips, given).double() / (end - given)
        for given in GIVEN_FRAMES
    ]
    rows = [["", "entropy", *cells(bounds)]]
    for (frames, title), model in models.items():
        rows.append([str(frames), title, *cells([nats(model, given) for given in GIVEN_FRAMES])])
    header = [
        "trained after",
        "nats/frame of",
        *(f"frames {given + 1} to {end}" for given in GIVEN_FRAMES),
    ]
    write_csv(folder / "frames.csv", header, rows)


def race(folder: Path) -> None:
    """Compare the time of training after which validation is as low as the slower one's end.

    An epoch counts as the shortest one of its training: what else ran beside can only add to it.
    """
    curves = {}
    for title, (name, overrides) in RACE.items():
        model = paths.model(trained(name, *overrides))
        record = read_object(model / "training.json")
        nats = [float(row["valid_nats"]) for row in read_history(model / "history.csv")]
        ends = [0.0, *record["epoch_seconds"]]
        shortest = min(b - a for a, b in zip(ends, ends[1:], strict=False))
        curves[title] = nats, shortest, record["num_parameters"]
    goal = max(min(nats) for nats, _, _ in curves.values())
    rows = []
    for title, (nats, shortest, weights) in curves.items():
        epochs = next(number for number, value in enumerate(nats, 1) if value <= goal)
        rows.append([title, f"{weights:,}", f"{min(nats):.2f}", f"{shortest:.2f}", epochs,
                     f"{epochs * shortest:.3g}"])  # fmt: skip
    header = ["network", "weights", "best validation nats", "s an epoch", f"epochs to {goal:.2f}",
              "s to that"]  # fmt: skip
    write_csv(folder / "race.csv", header, rows)


def draw_compared(folder: Path) -> None:
    """Draw the recorded searches of orderings in one plot, and of heads over learning rows."""
    figure = Figure(figsize=(9, 3.4), layout="constrained")
    left, right = figure.subplots(1, 2)
    for title, name in ORDERINGS.items():
        rows = _trials(name)
        left.scatter([row["model.ordering"] for row in rows], _nats(rows), label=title, s=18)
    left.set(ylabel="validation nats", title="orderings")
    rows = _trials(HEADS)
    for head in sorted({row["model.head"] for row in rows}):
        mine = [row for row in rows if row["model.head"] == head]
        learned = [int(row["trainer.train_rows"]) for row in mine]
        right.semilogx(learned, _nats(mine), marker="o", label=head)
    right.set(xlabel="images learned from", ylabel="validation nats", title="heads")
    for axis in (left, right):
        axis.legend()
        axis.grid(alpha=0.3)
    figure.savefig(folder / "compared.png", dpi=110)


def _trials(search: str) -> list[dict[str, str]]:
    return search_tables.read_rows(paths.results() / "searches" / search / "trials.csv")


def _nats(rows: list[dict[str, str]]) -> list[float]:
    return [float(row["best_valid_nats"]) for row in rows]


PARTS: dict[str, Callable[[Path, argparse.Namespace], dict[str, Any] | None]] = {
    "fields": lambda folder, _: draw_fields(folder),
    "sampling": lambda folder, given: time_sampling(folder, given.sizes),
    "steps": lambda folder, given: time_steps(folder, given.sizes),
    "orderings": lambda folder, given: score_orderings(folder, given.orderless, given.rows),
    "masks": lambda folder, _: score_masks(folder),
    "frames": lambda folder, _: score_frames(folder),
    "race": lambda folder, _: race(folder),
    "structure": lambda folder, _: compare_structure(folder),
    "simple": lambda folder, _: score_simple(folder),
    "compared": lambda folder, _: draw_compared(folder),
}


def _commit() -> str:
    """Return the commit, marked where these scripts differ from it too."""
    name, here = provenance.commit(), Path(__file__).parent
    status = ["git", "status", "--porcelain", "--", "*.py"]
    changed = subprocess.run(status, cwd=here, capture_output=True, check=False).stdout
    return f"{name}-dirty" if changed and not name.endswith("-dirty") else name


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=[16, 32, 64, 128, 256])
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--orderless", default=ORDERLESS, help="experiment for orderings")
    parser.add_argument("--rows", type=int, help="random test rows for orderings; all by default")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    folder = paths.results() / "lecture"
    folder.mkdir(parents=True, exist_ok=True)
    for part in arguments.only:
        record: dict[str, Any] = {
            "command": shlex.join(["python", *sys.argv]),
            "commit": _commit(),
            "device": provenance.device_name(torch.device("cpu")),
        }
        began = time.perf_counter()
        found = PARTS[part](folder, arguments) or {}
        record["seconds"] = round(time.perf_counter() - began, 1)
        name = found.pop("name", part)  # of orderings, which are kept for each experiment
        write_object(folder / f"{name}.json", record | found)


if __name__ == "__main__":
    cli.in_one_line(main)
