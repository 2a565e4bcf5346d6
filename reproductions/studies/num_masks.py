"""Masks and orderings of one network: what one of them scores, and what their mixture does."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipeline.core.errors import require
from pipeline.evaluation import scoring
from reproductions.studies.study_context import StudyContext
from reproductions.studies.study_records import StudyOutcome, device_of, with_error

BATCH = 500


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Settings of the number of masks.

    Arguments:
        networks: one by title, as an experiment without a dataset; a model with `num_masks` and
            `order_agnostic`.
        masks: numbers of them, a training each for masks of one ordering and for one ordering each.
    """

    networks: dict[str, Any] = field(default_factory=dict)
    masks: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        require(len(self.networks) == 1, "networks", "one", self.networks)
        fits = len(self.masks) >= 1 and all(count >= 1 for count in self.masks)
        require(fits, "masks", "one integer >= 1 or more", self.masks)


def run(place: StudyContext, settings: Settings, folder: Path) -> StudyOutcome:
    """Train a network for each number of masks, and score test rows by its members."""
    ((title, network),) = settings.networks.items()
    configs = {}
    for own, count in itertools.product((False, True), settings.masks):
        if own and count == 1:
            continue  # one mask has one ordering
        members = ("model.num_masks", "trainer.validate_members")
        overrides = [f"model.order_agnostic={str(own).lower()}", *(f"{k}={count}" for k in members)]
        configs[own, count] = place.compose(title, network, overrides)
    test, rows, records = place.split("test"), [], []
    for (own, count), config in configs.items():
        trained = place.train(config)
        ensemble = trained.load(place.device).ensemble(count)
        each = scoring.member_scores(ensemble, test, BATCH)
        orderings = "one each" if own else "the same"
        nats = (with_error(each.mean(1)), with_error(scoring.mixture(each)))
        rows.append([str(count), orderings, *nats])
        records.append(trained.record)
    notes = (
        f"Nats of {len(test):,} test rows; masks are drawn before training, and one network has "
        "them all. Orderings that are the same: masks differ in connectivity alone. Of one "
        "of them: the mean over the members."
    )
    header = ["masks", "orderings", "one of them", "their mixture"]
    return StudyOutcome(header, rows, notes, device_of(records))
