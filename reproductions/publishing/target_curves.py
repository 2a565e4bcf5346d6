"""Recorded curves of training and validation beside a mark: read, measured, drawn as one SVG.

The SVG is a template, so that the same records give the same file whatever draws elsewhere.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.core.errors import UserError
from pipeline.core.records import read_object
from pipeline.evaluation.reading import ModelConfig
from pipeline.reporting.history_units import in_unit
from pipeline.training.history import read_history
from reproductions.publishing import rendering

Points = tuple[tuple[int, float], ...]
ROSE = 0.001  # a relative rise of validation after its best that is no longer noise
COLUMNS, WIDTH, HEIGHT = 4, 240, 170  # of the template curves.svg.j2
LEFT, TOP, INNER_WIDTH, INNER_HEIGHT = 42, 24, 188, 122


@dataclass(frozen=True, kw_only=True)
class TrainingCurve:
    """A training as its history.csv has it.

    Attributes:
        valid, train: (steps, value) in the dataset's unit, epoch by epoch; validation with averaged
            weights and without dropout, training as the mean over the epoch, with dropout; no
            training where events have an open length.
        hours: of training, of one thread.
    """

    valid: Points
    train: Points
    hours: float

    @property
    def steps(self) -> int:
        """Steps that were trained."""
        return max(step for step, _ in (*self.valid, *self.train))

    @property
    def best(self) -> tuple[int, float]:
        """The step of the lowest validation value, and that value."""
        return min(self.valid, key=lambda point: point[1])

    @property
    def above_training(self) -> float | None:
        """The lowest validation value less that of training in the same epoch; None without one."""
        step, value = self.best
        until = [found for at, found in self.train if at <= step]
        return value - until[-1] if until else None

    @property
    def last_third(self) -> float:
        """By how much the lowest validation value so far fell in the last third of the steps."""
        before = [value for step, value in self.valid if step <= self.steps * 2 / 3]
        return min(before) - self.best[1] if before else math.inf

    @property
    def rose(self) -> bool:
        """Whether validation ended above its lowest value."""
        return self.valid[-1][1] > self.best[1] + ROSE * abs(self.best[1])


@dataclass(frozen=True)
class Panel:
    """A curve beside its mark."""

    title: str
    mark: float
    curve: TrainingCurve


def read(results: Path, experiment: str, unit: str) -> TrainingCurve | None:
    """Read what is recorded of a training in a unit; None for a mixture, which is not trained.

    Raises:
        UserError: naming the file that is missing or damaged, or has no validation.
    """
    path = results / experiment / "history.csv"
    rows = read_history(path)
    if not any(row.get("train_nats") for row in rows):
        return None
    config = ModelConfig.read(path.with_name("config.yaml"))
    try:
        valid = _points(rows, "valid_nats", unit, config)
        train = () if config.event.is_open else _points(rows, "train_nats", unit, config)
    except (KeyError, ValueError) as error:
        raise UserError(f"{path}: step: expected an integer in each row, got {error}") from None
    if not valid:
        raise UserError(f"{path}: expected an epoch that was validated")
    record = read_object(results / experiment / "training.json")
    trained = record.get("train_seconds")
    if not isinstance(trained, int | float):
        raise UserError(f"{path.with_name('training.json')}: train_seconds: expected a number")
    threads = re.search(r"(\d+) threads\)", str(record.get("device")))
    workers = record.get("num_workers")
    each = int(threads[1]) if threads else 1
    hours = trained / 3600 * each * max(1, workers if isinstance(workers, int) else 1)
    return TrainingCurve(valid=valid, train=train, hours=hours)


def _points(rows: Sequence[Mapping[str, str]], key: str, unit: str, config: ModelConfig) -> Points:
    filled = [row for row in rows if row.get(key)]
    steps = [int(row["step"]) for row in filled]
    return tuple(zip(steps, in_unit(filled, key, unit, config), strict=True))


def draw(panels: Sequence[Panel]) -> str:
    """Return an SVG of all panels: validation, training (grey) and the target (dashed).

    A panel shows the last two thirds of the steps from the lowest value up; what lies above is cut.
    """
    lines = -(-len(panels) // COLUMNS)
    placed = [_placed(panel, number) for number, panel in enumerate(panels)]
    size = {"width": COLUMNS * WIDTH, "height": lines * HEIGHT}
    return rendering.render(rendering.CURVES, panels=placed, **size)


def _placed(panel: Panel, number: int) -> dict[str, object]:
    """Return the texts and the lines of a panel, in pixels from its corner."""
    curve = panel.curve
    low, high = _range(panel)
    row, column = divmod(number, COLUMNS)

    def line(points: Points) -> str:
        across = (LEFT + INNER_WIDTH * step / curve.steps for step, _ in points)
        down = ((high - min(value, high)) / (high - low) for _, value in points)
        pixels = zip(across, (TOP + INNER_HEIGHT * share for share in down), strict=True)
        return " ".join(f"{x:.1f},{y:.1f}" for x, y in pixels)

    return {
        "x": column * WIDTH,
        "y": row * HEIGHT,
        "title": panel.title,
        "train": line(curve.train),
        "mark": line(((0, panel.mark), (curve.steps, panel.mark))),
        "valid": line(curve.valid),
        "high": f"{high:.4g}",
        "low": f"{low:.4g}",
        "steps": f"{curve.steps:,}",
    }


def _range(panel: Panel) -> tuple[float, float]:
    """Return the lowest value shown, and the highest: of the last two thirds, or a little more."""
    curve = panel.curve
    late = [value for step, value in curve.valid if step >= curve.steps / 3]
    shown = [panel.mark, curve.best[1], *(v for _, v in curve.train if v < max(late))]
    low = min(shown)
    return low, low + 1.1 * (max(*late, panel.mark) - low or 1.0)
