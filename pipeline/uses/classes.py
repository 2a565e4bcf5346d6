"""Classes: a row of samples of each, and classification by Bayes' rule."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from arcore.inference import classification
from pipeline.uses import pictures
from pipeline.uses.use_base import Use, UseOutcome, mean_of, setting, share_of
from pipeline.uses.use_context import ModelRows, UseContext, rows_at_once
from pipeline.uses.use_records import Number

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
