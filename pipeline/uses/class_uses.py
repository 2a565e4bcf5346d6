"""Classes of images: posteriors by Bayes' rule, and hidden units as features."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from sklearn.linear_model import LogisticRegression
from torch import Tensor

from arcore.inference import classification
from arcore.inference.features import hidden_features
from pipeline.core.errors import UserError, require
from pipeline.uses import pictures
from pipeline.uses.use_base import Use, mean_of, setting, share_of
from pipeline.uses.use_context import ModelRows, UseContext, rows_at_once
from pipeline.uses.use_records import Number, UseOutcome

BATCH = 250


@dataclass(frozen=True, kw_only=True)
class ClassPosteriors(Use):
    """Draw samples of each class, and classify test images."""

    num_rows: int | None = setting(None, "test images that are classified; null for all", least=2)
    num_shown: int = setting(10, "samples of each class", least=1)

    def _run(self, context: UseContext, folder: Path) -> UseOutcome:
        event, model = context.images, context.model
        classes, labels = model.num_classes, context.learned_labels()
        if classes is None or labels is None:
            raise context.unfit("a class-conditional model")
        given = torch.arange(classes, device=model.device).repeat_interleave(self.num_shown)
        drawn = model.sample(len(given), given, context.generator(self.seed))
        by_class = np.split(pictures.colours(drawn, event), classes)
        figure = pictures.grid([(str(label), row) for label, row in enumerate(by_class)])
        shown = [pictures.show(figure, folder / "samples.png", "Samples, a row a class")]
        rows = context.rows("test", self.num_rows, self.seed)
        counts = np.maximum(np.bincount(labels, minlength=classes), 0.5)  # half a row for none
        prior = torch.from_numpy(counts / counts.sum())
        numbers = _numbers(log_likelihoods(context, rows), prior, rows)
        notes = (
            f"p(c | x) ∝ p(x | c) p(c) of {len(rows)} test images; p(c) is the share of training "
            "rows. The calibration error uses 15 bins of the most probable class's probability. "
            "What the class tells of an image is ln p(x | c) - ln mean_c' p(x | c')."
        )
        return UseOutcome(numbers, shown, notes + context.bound_note)


def log_likelihoods(context: UseContext, rows: ModelRows) -> Tensor:
    """Return ln p(x | c) of every row and class, (rows, classes) float64."""
    parts = [
        classification.class_log_likelihoods(context.model, x).double().cpu()
        for x in rows.x.split(min(BATCH, rows_at_once(context.images)))
    ]
    return torch.cat(parts)


def _numbers(scored: Tensor, prior: Tensor, rows: ModelRows) -> Sequence[Number]:
    assert rows.labels is not None
    labels = torch.from_numpy(rows.labels)
    posterior = classification.class_posterior(scored, prior)
    surprise = -posterior.gather(1, labels[:, None])[:, 0]
    calibration = classification.calibration_error(posterior, labels)
    information = classification.class_information(scored, labels)
    return [
        share_of("accuracy", posterior.argmax(1) == labels),
        mean_of("-ln p(class | x)", surprise, "nats"),
        Number(name="calibration error", value=calibration),
        mean_of("what the class tells of an image", information, "nats"),
    ]


FEATURES_AT_ONCE = 1000
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
        if not model.has_hidden or model.condition_kind is not None:
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
        figure = _accuracy_figure(accuracies, self.num_labels)
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
    parts = [
        hidden_features(context.model, x).double().cpu() for x in rows.x.split(FEATURES_AT_ONCE)
    ]
    return torch.cat(parts).numpy(), rows.x.double().flatten(1).cpu().numpy()


def _accuracy_figure(accuracies: Accuracies, counts: Sequence[int]) -> Figure:
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
