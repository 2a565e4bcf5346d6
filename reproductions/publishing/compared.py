"""Recorded searches in one plot: orderings of two networks, and heads over learning rows.

`results/compared.png` is drawn from `results/searches/` and says in itself of which content.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Mapping
from pathlib import Path

from matplotlib.figure import Figure
from PIL import Image

from pipeline.core import storage
from pipeline.core.errors import UserError
from pipeline.reporting.search_tables import numbers_of, read_finished

FILE = "compared.png"
ORDERINGS = {"NADE": "digits-nade-orderings", "Gated PixelCNN": "digits-gated_pixelcnn-orderings"}
HEADS = "digits-gated_pixelcnn-train_rows"
SOURCE = "Source"  # of a PNG's texts


def write(results: Path) -> Path | None:
    """Draw `compared.png` anew where these searches are recorded; return it if it changed.

    Raises:
        UserError: naming the file that is malformed.
    """
    path = results / FILE
    files = {
        name: results / "searches" / name / "trials.csv" for name in (*ORDERINGS.values(), HEADS)
    }
    if not all(file.is_file() for file in files.values()):
        return None
    source = hashlib.sha256(b"\0".join(file.read_bytes() for file in files.values())).hexdigest()
    if _source_of(path) == source:
        return None
    try:
        figure = _draw(files)
    except (KeyError, ValueError) as error:
        known = ", ".join(map(str, files.values()))
        raise UserError(f"one of {known}: expected trials of such searches, got {error}") from None
    picture = io.BytesIO()
    figure.savefig(picture, format="png", metadata={"Software": None, SOURCE: source})
    storage.write_bytes(path, picture.getvalue())
    return path


def _source_of(path: Path) -> object:
    """Return what a picture says that it was drawn of; None without one that is whole."""
    try:
        with Image.open(path) as there:
            there.load()
            return there.info.get(SOURCE)
    except (OSError, SyntaxError, ValueError):  # all of which Pillow raises for damaged files
        return None


def _draw(files: Mapping[str, Path]) -> Figure:
    figure = Figure(figsize=(9, 3.4), layout="constrained", dpi=110)
    left, right = figure.subplots(1, 2)
    for title, name in ORDERINGS.items():
        rows = read_finished(files[name])
        nats = numbers_of(rows, files[name])
        left.scatter([row["model.ordering"] for row in rows], nats, label=title, s=18)
    left.set(ylabel="validation nats", title="orderings")
    rows = read_finished(files[HEADS])
    for head in sorted({row["model.head"] for row in rows}):
        mine = [row for row in rows if row["model.head"] == head]
        mine.sort(key=lambda row: int(row["trainer.train_rows"]))
        learned = [int(row["trainer.train_rows"]) for row in mine]
        right.semilogx(learned, numbers_of(mine, files[HEADS]), marker="o", label=head)
    right.set(xlabel="images learned from", ylabel="validation nats", title="heads")
    for axes in (left, right):
        axes.legend()
        axes.grid(alpha=0.3)
    return figure
