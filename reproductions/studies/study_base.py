"""What every kind of study is: a frozen dataclass of its settings, which runs and gives a table."""

from __future__ import annotations

import abc
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from pipeline.core.errors import require
from pipeline.evaluation.scoring import mean_and_error
from pipeline.reporting import wording
from pipeline.training.training_records import TrainingRecord
from pipeline.uses.use_records import Shown
from reproductions.studies.study_context import StudyContext


@dataclass(frozen=True)
class StudyOutcome:
    """What came out of a study.

    Attributes:
        header, rows: of its table, text.
        notes, device, shown: as in a `StudyRecord`.
    """

    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    notes: str
    device: str
    shown: Sequence[Shown] = ()


@dataclass(frozen=True, kw_only=True)
class Study(abc.ABC):
    """A comparison that is no single training, use or search; its fields are its settings."""

    @abc.abstractmethod
    def run(self, context: StudyContext, folder: Path) -> StudyOutcome:
        """Write pictures into a folder, and return the table.

        All networks are composed before the first is trained.

        Raises:
            UserError: for data or networks that the study is not for.
        """


def require_counts(name: str, counts: Sequence[int]) -> None:
    """Refuse a setting that is empty, or has a number below 1."""
    fits = len(counts) >= 1 and all(count >= 1 for count in counts)
    require(fits, name, "one integer >= 1 or more", counts)


def require_networks(networks: Mapping[str, object]) -> None:
    """Refuse a study without networks."""
    require(len(networks) >= 1, "networks", "one or more", networks)


def device_of(trainings: Sequence[TrainingRecord]) -> str:
    """Return the name of the device that networks were trained on, or of all of them."""
    return ", ".join(dict.fromkeys(one.device for one in trainings))


def with_error(values: Tensor) -> str:
    """Return the mean of values with its standard error, as text.

    Example:
        >>> import torch
        >>> with_error(torch.tensor([80.0, 81.0, 82.0]))
        '81.00 ± 0.58'
    """
    return wording.with_error(*mean_and_error(values.double()))
