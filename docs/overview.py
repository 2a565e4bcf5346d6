"""Draw README's picture, docs/images/overview.svg: real digits, samples, and a table as a figure.

The figure is drawn from the records in results/. The digits are kept in docs/images/samples.png,
next to their origin in samples.json; `--model` draws them again from a model of results/:

    python -m stages.fetch binarized_mnist && python -m stages.preprocess binarized_mnist
    python docs/overview.py --model results/binarized_mnist-gated_pixelcnn

Example: python docs/overview.py
"""

import argparse
import json
from pathlib import Path

import matplotlib
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

import arcore
from pipeline.core.records import read_object
from pipeline.data import shard_reader
from pipeline.reporting.comparison import Row
from pipeline.reporting.wording import rounded
from reproductions.publishing import recorded

ROOT = Path(__file__).resolve().parent.parent
IMAGES = ROOT / "docs" / "images"
OVERVIEW, SAMPLES, ORIGIN = (
    IMAGES / name for name in ("overview.svg", "samples.png", "samples.json")
)
DATASET = "binarized_mnist"
SHOWN = {
    "diagonal_bilstm-deep": "Diagonal BiLSTM, several layers",
    "gated_pixelcnn": "Gated PixelCNN",
    "pixelcnn": "PixelCNN",
    "diagonal_bilstm": "Diagonal BiLSTM, one layer",
    "row_lstm": "Row LSTM",
    "deep_nade": "EoNADE, 16 orderings",
    "nade": "NADE",
    "made-ensemble": "MADE, 3 orderings",
    "made": "MADE",
}
COUNT = 32
OURS, THEIRS = "#0a7d7d", "#d4722a"


def keep_samples(folder: Path) -> None:
    """Draw samples of a recorded model, and keep them beside as many random test rows."""
    trained, metrics = (read_object(folder / f"{name}.json") for name in ("training", "metrics"))
    model = arcore.load(folder)
    drawn = model.sample(COUNT, generator=torch.Generator().manual_seed(0)).numpy()
    test = shard_reader.read_split(ROOT / "data" / "shards" / DATASET, "test").x
    chosen = np.random.default_rng(0).permutation(len(test))[:COUNT]
    both = np.concatenate([grid(test[chosen]), grid(drawn)], 1)
    Image.fromarray((both * 255).astype(np.uint8)).convert("1").save(SAMPLES, optimize=True)
    names = ("experiment", "epochs", "train_seconds", "device", "commit")
    origin = {"seed": 0} | {name: trained[name] for name in names}
    origin |= {name: metrics[name] for name in ("nats", "nats_stderr", "num_rows")}
    ORIGIN.write_text(json.dumps(origin, indent=2) + "\n")


def grid(rows: np.ndarray) -> np.ndarray:
    """Arrange images (32, 1, 28, 28) as 8 rows of 4."""
    return rows.reshape(8, 4, 28, 28).transpose(0, 2, 1, 3).reshape(8 * 28, 4 * 28)


def shown_rows() -> list[tuple[str, Row]]:
    """Return our rows that have a published counterpart, by what to call them."""
    report = recorded.read(DATASET, ROOT / "results").report
    rows = {row.result.experiment: row for row in report.rows}
    return [(label, rows[f"{DATASET}-{name}"]) for name, label in SHOWN.items()]


def draw() -> Figure:
    """Draw both grids of digits and the table."""
    digits = np.asarray(Image.open(SAMPLES))
    origin = read_object(ORIGIN)
    figure = Figure(figsize=(10, 4.2), layout="constrained")
    left, middle, right = figure.subplots(1, 3, width_ratios=[1, 1, 2.2])
    half = digits.shape[1] // 2
    nats = rounded(float(str(origin["nats"])), 1)
    titles = ("test rows", f"samples ({nats} nats)")
    for axes, part, title in zip(
        (left, middle), (digits[:, :half], digits[:, half:]), titles, strict=True
    ):
        axes.imshow(part, cmap="gray", interpolation="nearest")
        axes.set_title(title, fontsize=11)
        axes.set_axis_off()
    table(right)
    return figure


def table(axes: Axes) -> None:
    """Draw our test nats and the published ones, a line for each model."""
    for place, (label, row) in enumerate(shown_rows()):
        assert row.published is not None and row.published_value is not None
        stderr = row.result.score.nats_stderr
        axes.plot([row.value, row.published_value], [place] * 2, color="#bbbbbb", lw=2, zorder=1)
        axes.errorbar(row.value, place, xerr=stderr, fmt="o", color=OURS, ms=7, zorder=2)
        axes.plot(row.published_value, place, "D", color=THEIRS, ms=6, zorder=2)
        axes.text(78.5, place, label, ha="right", va="center", fontsize=10)
        numbers = f"{rounded(row.value, 2)}   {rounded(row.published_value, 2)}"
        numbers += "*" if row.published.doubt else ""
        axes.text(89.5, place, numbers, va="center", fontsize=10, family="monospace")
    axes.text(89.5, -0.6, "here    published", va="center", fontsize=9)
    axes.plot([], [], "o", color=OURS, label="here, ± one standard error")
    axes.plot([], [], "D", color=THEIRS, label="published (*: unconfirmed)")
    axes.legend(loc="lower left", fontsize=9, frameon=False)
    axes.set(xlim=(78.7, 89.2), ylim=(len(SHOWN) - 0.5, -0.6), yticks=[])
    axes.set_title("binarised MNIST: nats per test image, less is better", fontsize=11, pad=16)
    axes.spines[["top", "right", "left"]].set_visible(False)


def main() -> None:
    """Draw the picture, and before it new samples if a model is named."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, help="folder results/<experiment> to sample from")
    folder = parser.parse_args().model
    if folder is not None:
        keep_samples(folder)
    style = {
        "svg.fonttype": "none",
        "svg.hashsalt": "arcore",
        "image.resample": False,
    }
    with matplotlib.rc_context(style):
        draw().savefig(OVERVIEW, metadata={"Date": None}, facecolor="white")
    text = OVERVIEW.read_text()
    OVERVIEW.write_text("\n".join(line.rstrip() for line in text.splitlines()) + "\n")


if __name__ == "__main__":
    main()
