"""What uses of models of sounds share."""

from __future__ import annotations

import numpy as np
from torch import Tensor

from arcore.events import Levels
from pipeline.core.errors import UserError
from pipeline.data import sound_batches
from pipeline.datasets.base import Sound, SplitData
from pipeline.uses.subject import Subject


def of(subject: Subject) -> tuple[Levels, Sound]:
    """Return the event of a model of sounds, and what its sounds are.

    Raises:
        UserError: for a model of other things.
    """
    event, sound = subject.levels, subject.manifest.sound
    if sound is None or not event.is_open:
        raise UserError(f"{subject.experiment}: expected a model of sounds, got one of {event}")
    return event, sound


def condition_of(
    subject: Subject, split: SplitData, row: int, begin: int, end: int
) -> Tensor | None:
    """Return the condition of a part of a row, one row of it; `begin` is a multiple of hop."""
    labels = sound_batches.labels_of(split)[[row]]
    first = np.array([begin])
    condition = sound_batches.condition_for(subject.model, labels, first, end - begin)
    return None if condition is None else condition.to(subject.model.device)
