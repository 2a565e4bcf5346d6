"""Classes: a row of samples of each, and classification by Bayes' rule."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from arcore.inference import classification
from pipeline.core.errors import require
from pipeline.uses import pictures
from pipeline.uses.outcome import Outcome, mean_of, share_of
from pipeline.uses.records import Number, Shown
from pipeline.uses.subject import Rows, Subject, rows_at_once

BATCH = 250


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Settings of classes.

    Arguments:
        num_rows: random test images that are classified; null for all.
        num_shown: samples of each class.
        seed: of rows and draws.
    """

    num_rows: int | None = None
    num_shown: int = 10
    seed: int = 0

    def __post_init__(self) -> None:
        rows = self.num_rows
        require(rows is None or rows >= 2, "num_rows", "an integer >= 2 or null", rows)
        require(self.num_shown >= 1, "num_shown", "an integer >= 1", self.num_shown)


def run(subject: Subject, settings: Settings, folder: Path) -> Outcome:
    """Draw samples of each class, and classify test images."""
    event, model = subject.images, subject.model
    classes, labels = model.num_classes, subject.learned_labels()
    if classes is None or labels is None:
        raise subject.unfit("a class-conditional model")
    given = torch.arange(classes, device=model.device).repeat_interleave(settings.num_shown)
    drawn = model.sample(len(given), given, subject.generator(settings.seed))
    images = pictures.colours(drawn, event)
    by_class = images.reshape(classes, settings.num_shown, *images.shape[1:])
    path = folder / "samples.png"
    pictures.save(pictures.grid([(str(c), row) for c, row in enumerate(by_class)]), path)
    shown = [Shown(file=path.name, caption="Samples, a row a class")]
    rows = subject.rows("test", settings.num_rows, settings.seed)
    counts = np.maximum(np.bincount(labels, minlength=classes), 0.5)  # half a row for none
    prior = torch.from_numpy(counts / counts.sum())
    numbers = _numbers(log_likelihoods(subject, rows), prior, rows)
    notes = (
        f"p(c | x) ∝ p(x | c) p(c) of {len(rows)} test images, where p(c) is the share of training "
        "rows. The calibration error is over 15 bins of the most probable class's probability. "
        "What the class tells of an image is ln p(x | c) - ln mean_c' p(x | c')."
    )
    if not model.exact:
        notes += " The model only bounds p(x | c): the bounds stand for it."
    return Outcome(numbers, shown, notes)


def log_likelihoods(subject: Subject, rows: Rows) -> Tensor:
    """Return ln p(x | c) of every row and class, (rows, classes) float64."""
    parts = [
        classification.class_log_likelihoods(subject.model, x).double().cpu()
        for x in rows.x.split(min(BATCH, rows_at_once(subject.images)))
    ]
    return torch.cat(parts)


def _numbers(scored: Tensor, prior: Tensor, rows: Rows) -> Sequence[Number]:
    assert rows.labels is not None
    labels = torch.from_numpy(rows.labels)
    posterior = classification.class_posterior(scored, prior)
    surprise = -posterior.gather(1, labels[:, None])[:, 0]
    calibration = classification.calibration_error(posterior, labels)
    told = classification.class_information(scored, labels)
    return [
        share_of("accuracy", posterior.argmax(1) == labels),
        mean_of("-ln p(class | x)", surprise, "nats"),
        Number(name="calibration error", value=calibration),
        mean_of("what the class tells of an image", told, "nats"),
    ]
