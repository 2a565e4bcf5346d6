"""Hidden units as features: logistic regression on few labels, beside the pixels themselves."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from sklearn.linear_model import LogisticRegression

from arcore.inference.features import has_features, hidden_features
from pipeline.core.errors import UserError, require
from pipeline.uses import pictures
from pipeline.uses.outcome import Outcome
from pipeline.uses.records import Number, Shown
from pipeline.uses.subject import Rows, Subject

BATCH = 1000
KINDS = ("hidden units", "pixels")


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Settings of features.

    Arguments:
        num_labels: of training images, equally many of each class.
        num_repeats: draws of these images.
        num_rows: random test images; null for all.
        seed: of all draws.
    """

    num_labels: list[int] = field(default_factory=lambda: [10, 100, 1000])
    num_repeats: int = 5
    num_rows: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        for count in self.num_labels:
            require(count >= 1, "num_labels", "integers >= 1", count)
        distinct = len(set(self.num_labels)) == len(self.num_labels)
        require(distinct, "num_labels", "integers that differ", self.num_labels)
        require(self.num_repeats >= 2, "num_repeats", "an integer >= 2", self.num_repeats)


def run(subject: Subject, settings: Settings, folder: Path) -> Outcome:
    """Train and test classifiers on both kinds of features for each number of labels."""
    model = subject.model
    if not has_features(model) or model.condition_kind is not None:
        raise subject.unfit("an unconditional NADE or MADE")
    if subject.manifest.num_classes is None:  # labels may be vectors or maps all the same
        raise UserError(f"{subject.dataset}: expected labels that are classes, found none")
    train, test = subject.rows("train"), subject.rows("test", settings.num_rows, settings.seed)
    assert train.labels is not None and test.labels is not None, "rows of classes have labels"
    classes = int(train.labels.max()) + 1
    sets = dict(
        zip(KINDS, zip(_units(subject, train), _units(subject, test), strict=True), strict=True)
    )
    accuracies: dict[tuple[str, int], list[float]] = {}
    for count in settings.num_labels:
        for repeat in range(settings.num_repeats):
            chosen = balanced(train.labels, count, classes, settings.seed * 1_000 + repeat)
            for kind, (known, asked) in sets.items():
                found = accuracy(known[chosen], train.labels[chosen], asked, test.labels)
                accuracies.setdefault((kind, count), []).append(found)
    numbers = [
        Number(
            name=f"accuracy of {kind}, {count:,} labels",
            value=float(np.mean(values)),
            stderr=float(np.std(values, ddof=1)) / math.sqrt(len(values)),
        )
        for (kind, count), values in accuracies.items()
    ]
    path = folder / "accuracy.png"
    pictures.save(_figure(accuracies, settings.num_labels), path)
    caption = (
        f"Accuracy on {len(test)} test images of logistic regression on the model's {KINDS[0]} and "
        f"on pixels; each point is one of {settings.num_repeats} draws of the labelled images"
    )
    notes = (
        f"The model was trained on {len(train):,} rows without their labels. "
        "Logistic regression (scikit-learn, C = 1) on standardised features, equally many labels "
        f"of each class; the error is that of the mean over {settings.num_repeats} draws of the "
        "labelled images."
    )
    return Outcome(numbers, [Shown(file=path.name, caption=caption)], notes)


def balanced(labels: np.ndarray, count: int, classes: int, seed: int) -> np.ndarray:
    """Choose rows with labels, equally many of each class.

    Raises:
        UserError: unless `count` is a multiple of the classes, and there are as many rows.

    Example:
        >>> labels = np.array([0, 0, 0, 1, 1])
        >>> sorted(labels[balanced(labels, 4, 2, seed=0)].tolist())
        [0, 0, 1, 1]
    """
    each, rest = divmod(count, classes)
    require(each > 0 and rest == 0, "num_labels", f"multiples of {classes} classes", count)
    generator = np.random.default_rng(seed)
    rows = [generator.permutation(np.flatnonzero(labels == c))[:each] for c in range(classes)]
    least = min(map(len, rows))
    require(least == each, "num_labels", f"at most {least * classes} (the rarest class)", count)
    return np.concatenate(rows)


def accuracy(known: np.ndarray, labels: np.ndarray, asked: np.ndarray, truth: np.ndarray) -> float:
    """Train logistic regression on features (rows, units), and return its accuracy on others."""
    center, scale = known.mean(0), known.std(0)
    scale = np.where(scale > 1e-6 * max(1e-12, float(scale.max())), scale, 1)
    classifier = LogisticRegression(C=1.0, max_iter=2000)
    classifier.fit((known - center) / scale, labels)
    return float((classifier.predict((asked - center) / scale) == truth).mean())


def _units(subject: Subject, rows: Rows) -> tuple[np.ndarray, np.ndarray]:
    """Return both kinds of features of rows."""
    parts = [hidden_features(subject.model, x).double().cpu() for x in rows.x.split(BATCH)]
    return torch.cat(parts).numpy(), rows.x.double().flatten(1).cpu().numpy()


def _figure(accuracies: dict[tuple[str, int], list[float]], counts: Sequence[int]) -> Figure:
    figure = Figure(figsize=(5, 3.2), layout="constrained", dpi=pictures.DPI)
    axes = figure.subplots()
    for kind, marker in zip(KINDS, "os", strict=True):
        means = [float(np.mean(accuracies[kind, count])) for count in counts]
        (line,) = axes.plot(counts, means, label=kind)
        for count in counts:
            values = accuracies[kind, count]
            axes.plot([count] * len(values), values, marker, color=line.get_color(), alpha=0.5)
    axes.set_xscale("log")
    axes.set(xlabel="labels", ylabel="test accuracy")
    axes.set_xticks(list(counts), [f"{count:,}" for count in counts])
    axes.grid(alpha=0.3)
    axes.legend()
    return figure
