"""Draw README's picture, docs/images/overview.svg: samples next to test rows, and a table.

Both are drawn from results/: the kept picture of the samples, and the records.

Example: python docs/overview.py
"""

from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from pipeline.reporting.comparison import Row
from pipeline.reporting.wording import rounded
from reproductions.publishing import recorded

ROOT = Path(__file__).resolve().parent.parent
OVERVIEW = ROOT / "docs" / "images" / "overview.svg"
DATASET, SAMPLED = "binarized_mnist", "gated_pixelcnn"
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
OURS, THEIRS = "#0a7d7d", "#d4722a"


def shown_rows() -> dict[str, Row]:
    """Return our rows that have a published counterpart, by the ends of their names."""
    report = recorded.read(DATASET, ROOT / "results").report
    rows = {row.result.experiment: row for row in report.rows}
    return {name: rows[f"{DATASET}-{name}"] for name in SHOWN}


def draw() -> Figure:
    """Draw the kept samples, and the table."""
    rows = shown_rows()
    figure = Figure(figsize=(10, 4.2), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=[1, 2])
    kept = ROOT / "results" / "gallery" / f"{DATASET}-{SAMPLED}" / "samples.png"
    samples, real = np.split(np.asarray(Image.open(kept).convert("L")), 2, axis=1)
    left.imshow(np.concatenate([samples, real]), cmap="gray", interpolation="nearest")
    left.set_title(f"{SHOWN[SAMPLED]}: {rounded(rows[SAMPLED].value, 1)} nats", fontsize=10)
    left.set_axis_off()
    table(right, rows)
    return figure


def table(axes: Axes, rows: dict[str, Row]) -> None:
    """Draw our test nats and the published ones, a line for each model."""
    for place, (name, row) in enumerate(rows.items()):
        assert row.published is not None and row.published_value is not None
        stderr = row.result.score.nats_stderr
        axes.plot([row.value, row.published_value], [place] * 2, color="#bbbbbb", lw=2, zorder=1)
        axes.errorbar(row.value, place, xerr=stderr, fmt="o", color=OURS, ms=7, zorder=2)
        axes.plot(row.published_value, place, "D", color=THEIRS, ms=6, zorder=2)
        axes.text(78.5, place, SHOWN[name], ha="right", va="center", fontsize=10)
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
    """Draw the picture."""
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
