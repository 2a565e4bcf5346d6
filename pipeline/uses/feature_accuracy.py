"""Hidden units as features: logistic regression on few labels, compared with pixels."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from sklearn.linear_model import LogisticRegression

from arcore.inference.features import has_features, hidden_features
from pipeline.core.errors import UserError, require
from pipeline.uses import pictures
from pipeline.uses.use_base import Use, UseOutcome, setting
from pipeline.uses.use_context import ModelRows, UseContext
from pipeline.uses.use_records import Number

BATCH = 1000
KINDS = ("hidden units", "pixels")
Accuracies = dict[tuple[str, int], list[float]]  # of a kind and a number of labels, each repeat


@dataclass(frozen=True, kw_only=True)
class FeatureAccuracy(Use):
    """Train and test classifiers on both kinds of features for each number of labels."""

    num_labels: list[int] = setting(
        [10, 100, 1000], "training labels, the same number of each class", least=1
    )
    num_repeats: int = setting(5, "draws of the labelled images", least=2)
    num_rows: int | None = setting(None, "random test images; null for all", least=1)

    def __post_init__(self) -> None:
        super().__post_init__()
        distinct = len(set(self.num_labels)) == len(self.num_labels)
        require(distinct, "num_labels", "integers that differ", self.num_labels)

    def _run(self, context: UseContext, folder: Path) -> UseOutcome:
        model = context.model
        if not has_features(model) or model.condition_kind is not None:
            raise context.unfit("an unconditional NADE or MADE")
        if context.manifest.num_classes is None:  # labels may be vectors or maps all the same
            raise UserError(f"{context.dataset}: expected labels that are classes, found none")
        train, test = context.rows("train"), context.rows("test", self.num_rows, self.seed)
        accuracies = self._accuracies(context, train, test)
        numbers = [
            Number(
                name=f"accuracy of {kind}, {count:,} labels",
                value=float(np.mean(values)),
                stderr=float(np.std(values, ddof=1)) / math.sqrt(len(values)),
            )
            for (kind, count), values in accuracies.items()
        ]
        figure = _figure(accuracies, self.num_labels)
        caption = (
            f"Accuracy on {len(test)} test images of logistic regression on the model's {KINDS[0]} "
            f"and on pixels; each point is one of {self.num_repeats} draws of the labelled images"
        )
        shown = [pictures.show(figure, folder / "accuracy.png", caption)]
        notes = (
            f"The model was trained on {len(train):,} rows without labels. Logistic regression "
            "(scikit-learn, C = 1) on standardised features, as many labels of each class; the "
            f"error is of the mean over {self.num_repeats} draws of the labelled images."
        )
        return UseOutcome(numbers, shown, notes)

    def _accuracies(self, context: UseContext, train: ModelRows, test: ModelRows) -> Accuracies:
        assert train.labels is not None and test.labels is not None, "rows of classes have labels"
        classes = int(train.labels.max()) + 1
        units = zip(_units(context, train), _units(context, test), strict=True)
        sets = dict(zip(KINDS, units, strict=True))
        found: Accuracies = {}
        for count in self.num_labels:
            for repeat in range(self.num_repeats):
                chosen = balanced(train.labels, count, classes, self.seed * 1_000 + repeat)
                for kind, (known, asked) in sets.items():
                    one = accuracy(known[chosen], train.labels[chosen], asked, test.labels)
                    found.setdefault((kind, count), []).append(one)
        return found


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


def _units(context: UseContext, rows: ModelRows) -> tuple[np.ndarray, np.ndarray]:
    """Return both kinds of features of rows."""
    parts = [hidden_features(context.model, x).double().cpu() for x in rows.x.split(BATCH)]
    return torch.cat(parts).numpy(), rows.x.double().flatten(1).cpu().numpy()


def _figure(accuracies: Accuracies, counts: Sequence[int]) -> Figure:
    figure, axes = pictures.new_axes(5, 3.2)
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
